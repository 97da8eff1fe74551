"""What an operator may get wrong: the play stops before it changes anything, and says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .authority import Authority
from .conftest import NAME, SETUP_SECONDS, Site
from .releases import remake

pytestmark = [pytest.mark.long, pytest.mark.timeout(SETUP_SECONDS)]


def _config(**changed: Any) -> dict[str, Any]:
    return {"registry_config": {"fill_networks": ["192.0.2.0/24"], **changed}}


_CASES: dict[str, tuple[dict[str, Any], str]] = {
    "a variable of the wrong type": ({"registry_workers": "many"}, "registry_workers"),
    "a misspelt variable": ({"nginx_certficate": "x"}, "nginx_certficate"),
    "a path in the address": ({"registry_external_url": "https://registry.test/x"}, "not https://HOST without a path"),
    "a secret that can be guessed": ({"registry_secret_key": "short"}, "at least 32 characters"),
    "a release nobody made": ({"registry_version": "9.9.9"}, "Make it with ansible/release.py 9.9.9"),
    "a full disk": ({"preflight_free_bytes": 1 << 60}, "Make room first"),
    "nobody whose pulls are fetched": ({"registry_config": {}}, "registry_config.fill_networks is missing or empty"),
    "more workers than connections": ({"registry_workers": 12}, "and 12 workers need 250"),
    "a number of workers for nginx alone": ({"nginx_workers": 4}, "nginx_workers is now registry_workers"),
    "a proxy that is none": ({"registry_https_proxy": "proxy:3128"}, "registry_https_proxy is not http://HOST:PORT"),
    "another release of Debian": ({"preflight_releases": ["Debian 13"]}, "this playbook is for Debian 13"),
    "an old name": ({"registry_old": 1, "preflight_renamed": {"registry_old": "registry_new"}}, "registry_old is now"),
    "an identity provider that is away": (
        _config(saml={"enabled": True, "idp_metadata_url": "http://127.0.0.1:9/metadata"}),
        "does not answer registry1",
    ),
    "an identity provider that shows something else": (
        _config(saml={"enabled": True, "idp_metadata_url": "http://127.0.0.1:9090/graph"}),
        "does not answer registry1 with metadata",
    ),
    "a key that the service does not know": (_config(servr={"processes": 1}), "servr"),
    "a backup that comes too seldom": ({"backup_calendar": "daily"}, "leaves more than 20 hours between two copies"),
    "a time that is none": ({"backup_calendar": "at night"}, "is no time that systemd knows"),
    "a bucket without its key": ({"backup_s3_bucket": "copies"}, "both are needed for the bucket copies"),
    "an operator who would be locked out": (
        {"firewall_ssh_networks": ["192.0.2.0/24"]},
        "does not have the address that you come to registry1 from",
    ),
    "no certificate": ({"nginx_certificate": "nothing"}, "not PEM that openssl can read"),
}


@pytest.mark.parametrize(("wrong", "words"), _CASES.values(), ids=_CASES.keys())
def test_is_refused_before_anything_is_changed(site: Site, wrong: dict[str, Any], words: str) -> None:
    _refused(site, words, **wrong)


def test_a_disk_of_its_own_that_is_full(site: Site) -> None:
    site.host.ssh("mkdir --parents /srv/small && mount -t tmpfs -o size=1m tmpfs /srv/small")
    _refused(site, "1 MiB free on one of the disks of / /var /opt /srv/small", registry_data_dir="/srv/small")
    site.host.ssh("umount /srv/small")


def test_a_disk_that_is_not_mounted(site: Site) -> None:
    site.host.ssh("echo 'tmpfs /var/lib/registry tmpfs defaults 0 0' >> /etc/fstab")
    try:
        _refused(site, "/var/lib/registry in /etc/fstab, and it is not mounted")
    finally:
        site.host.ssh("sed --in-place /tmpfs/d /etc/fstab")


def test_another_build_of_the_same_release(site: Site, release: Path, tmp_path: Path) -> None:
    remake(release, "1.0.8", lambda folder: (folder / "app/more.py").touch(), tmp_path / "unpacked")
    _refused(site, "from another build", registry_archive=str(release / "registry-1.0.8.tar.gz"))


def test_a_release_without_the_hashes_of_its_wheels(site: Site, release: Path, tmp_path: Path) -> None:
    remake(release, "1.0.9", lambda folder: (folder / "wheels.lock").unlink(), tmp_path / "unpacked")
    _refused(site, "has no wheels.lock", registry_version="1.0.9")
    (release / "registry-1.0.9.tar.gz").write_bytes(b"not an archive")
    _refused(site, "has no wheels.lock", registry_version="1.0.9")


def test_certificate_of_another_key_host_or_time(site: Site) -> None:
    authority: Authority = site.authority
    good, other = authority.certify(NAME), authority.certify("other.test")
    _refused(site, "does not match nginx_certificate_key", nginx_certificate=good.certificate)
    pair = {"nginx_certificate": other.certificate, "nginx_certificate_key": other.key}
    _refused(site, f"is not for {NAME}", **pair)
    _refused(site, "is not for other.test", nginx_server_names=[NAME, "other.test"])
    ending = authority.certify(NAME, days=0.5)
    pair = {"nginx_certificate": ending.certificate, "nginx_certificate_key": ending.key}
    _refused(site, "ends in less than a day", **pair)


def test_a_variable_that_is_missing(site: Site) -> None:
    left_out = site.inventory.hosts["registry1"].pop("registry_secret_key")
    try:
        _refused(site, "registry_secret_key")
    finally:
        site.inventory.hosts["registry1"]["registry_secret_key"] = left_out


def test_a_database_that_is_away_leaves_what_runs(site: Site, next_release: str) -> None:
    before = _main_pids(site)
    played = site.inventory.play(
        "upgrade.yml", registry_version=next_release, registry_database_url="postgresql://registry@127.0.0.1:9/registry"
    )
    try:
        assert played.status != 0
        assert "Check registry_database_url" in _words(played.output)
        assert _main_pids(site) == before
        assert site.curl("/healthz")
    finally:
        assert site.inventory.play("site.yml").status == 0


def _refused(site: Site, words: str, **wrong: Any) -> None:
    played = site.inventory.play("site.yml", **wrong)
    assert played.status != 0
    assert played.changed == 0
    assert words in _words(played.output), played.output[-3000:]


def _words(output: str) -> str:
    """Give the output without its line breaks and indentation."""
    return " ".join(output.split())


def _main_pids(site: Site) -> str:
    return site.host.ssh("systemctl show --value --property MainPID registry@1 registry@2")
