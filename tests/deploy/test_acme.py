"""Certificates by ACME: a bare host, a real authority (Let's Encrypt's Pebble), HTTP-01 through the role's nginx."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients import gotools
from tests.parts.process import Process, free_port, wait_for

from .authority import Authority
from .conftest import NAME, SETUP_SECONDS
from .hosts import Bed, Host
from .playbook import Inventory, Outcome

pytestmark = [pytest.mark.long, pytest.mark.timeout(SETUP_SECONDS)]

_PORT, _DNS = 14000, 8053
_AUTHORITY = "acme.test"


@dataclass
class Site:
    """A host with the web server alone; what a run said that only checked the bare host, and the first one."""

    host: Host
    inventory: Inventory
    authority: Authority
    checked: Outcome
    first: Outcome

    @property
    def serial(self) -> str:
        """Say which certificate nginx shows."""
        return self.host.ssh(
            f"openssl s_client -connect localhost:443 -servername {NAME} </dev/null 2>/dev/null"
            " | openssl x509 -noout -serial"
        )


@pytest.fixture(scope="module")
def site(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A host that nothing had been done to, whose name is known to an ACME authority's DNS."""
    programs = {name: _program(name) for name in ("pebble", "pebble-challtestsrv")}
    folder = tmp_path_factory.mktemp("acme")
    authority, host = Authority(folder), bed.boot("web1")
    dns = Process(
        "dns",
        [
            str(programs["pebble-challtestsrv"]), "-defaultIPv4", host.address, "-defaultIPv6", "",
            "-dns01", f"{bed.address}:{_DNS}", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
            "-management", f"127.0.0.1:{free_port()}",
        ],
        folder,
    )  # fmt: skip
    try:
        acme = _pebble(programs["pebble"], bed, authority, folder)
        try:
            _introduce(host, bed, authority)
            inventory = _inventory(host, folder)
            checked = inventory.play("site.yml", "--check")
            first = inventory.play("site.yml")
            assert first.status == 0, first.output[-6000:]
            yield Site(host, inventory, authority, checked, first)
        finally:
            acme.stop()
    finally:
        dns.stop()


def test_check_mode_on_a_bare_host(site: Site) -> None:
    assert site.checked.status == 0, site.checked.output[-4000:]


def test_a_bare_host_gets_a_certificate(site: Site) -> None:
    shown = site.host.ssh("openssl x509 -noout -issuer -ext subjectAltName -in /etc/nginx/tls/registry.pem")
    assert "Pebble" in shown
    assert f"DNS:{NAME}" in shown
    assert site.serial == site.host.ssh("openssl x509 -noout -serial -in /etc/nginx/tls/registry.pem")
    assert site.host.ssh("stat --format '%a %U' /etc/nginx/tls/registry.key").strip() == "600 root"
    assert "PRIVATE KEY" not in site.first.output


def test_second_run_changes_nothing(site: Site) -> None:
    for arguments in ((), ("--check",)):
        again = site.inventory.play("site.yml", *arguments)
        assert (again.status, again.changed, again.failed) == (0, 0, 0), again.output[-4000:]


def test_renewal_reloads_the_web_server(site: Site) -> None:
    assert site.host.ssh("systemctl is-active certbot.timer").strip() == "active"
    before, main = site.serial, _main_pid(site)
    site.host.ssh("certbot renew --quiet --force-renewal --no-random-sleep-on-renew", timeout=120)
    wait_for(lambda: site.serial != before, what="nginx to show the new certificate", timeout=30, interval=0.5)
    assert _main_pid(site) == main
    site.host.ssh("systemctl start registry-certificate-age.service")
    measured = site.host.ssh("cat /var/lib/prometheus/node-exporter/registry-certificate.prom")
    end = site.host.ssh(
        'date --date "$(openssl x509 -noout -enddate -in /etc/nginx/tls/registry.pem | cut -d= -f2)" +%s'
    ).strip()
    assert f"registry_certificate_end_seconds {end}" in measured


def test_a_new_name_gets_a_new_certificate(site: Site) -> None:
    names = [NAME, "mirror.registry.test"]
    played = site.inventory.play("site.yml", nginx_server_names=names)
    assert played.status == 0, played.output[-4000:]
    shown = site.host.ssh("openssl x509 -noout -ext subjectAltName -in /etc/nginx/tls/registry.pem")
    assert set(re.findall(r"DNS:(\S+?)(?:,|\s)", shown)) == set(names)


def test_an_authority_that_gives_nothing_leaves_what_runs(site: Site) -> None:
    before = site.serial
    played = site.inventory.play("site.yml", nginx_acme_directory=f"https://{_AUTHORITY}:9/dir")
    assert played.status != 0
    assert "No certificate came from" in " ".join(played.output.split())
    assert site.serial == before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"nginx_acme_email": ""}, "neither is given"),
        ({"nginx_certificate": "x", "nginx_certificate_key": "x"}, "both are given"),
        ({"nginx_acme_email": "nobody"}, "must be a mail address"),
        ({"nginx_acme_directory": "http://acme.test/"}, "must be a mail address, nginx_acme_directory an https:// URL"),
    ],
)
def test_what_is_wrong_is_refused(site: Site, wrong: dict[str, Any], words: str) -> None:
    played = site.inventory.play("site.yml", **wrong)
    assert played.status != 0
    assert played.changed == 0
    assert words in " ".join(played.output.split()), played.output[-3000:]


def test_a_given_certificate_ends_the_renewal(site: Site) -> None:
    pair = site.authority.certify(NAME)
    given: dict[str, Any] = {
        "nginx_acme_email": "",
        "nginx_certificate": pair.certificate,
        "nginx_certificate_key": pair.key,
    }
    played = site.inventory.play("site.yml", **given)
    assert played.status == 0, played.output[-4000:]
    assert site.host.ssh("find /etc/letsencrypt -name 'privkey*'") == ""
    before = site.serial
    site.host.ssh("certbot renew --quiet --force-renewal --no-random-sleep-on-renew", timeout=120)
    assert site.serial == before
    again = site.inventory.play("site.yml", **given)
    assert (again.status, again.changed) == (0, 0), again.output[-4000:]


def _program(name: str) -> Path:
    binary, reason = gotools.install(name)
    if reason is not None:
        pytest.skip(reason)
    return binary


def _pebble(binary: Path, bed: Bed, authority: Authority, folder: Path) -> Process:
    pair = authority.certify(_AUTHORITY)
    (folder / "acme.pem").write_text(pair.certificate)
    (folder / "acme.key").write_text(pair.key)
    settings = {
        "listenAddress": f"{bed.address}:{_PORT}", "managementListenAddress": f"127.0.0.1:{free_port()}",
        "certificate": str(folder / "acme.pem"), "privateKey": str(folder / "acme.key"),
        "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": False,
    }  # fmt: skip
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    command = [str(binary), "-config", str(folder / "pebble.json"), "-dnsserver", f"{bed.address}:{_DNS}"]
    # It would wait before it asks, and refuse requests by chance, to try its clients.
    pebble = Process("pebble", command, folder, environment={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"})
    trusts = ssl.create_default_context(cafile=str(authority.file))
    trusts.check_hostname = False
    pebble.until(lambda: _listens(bed.address, trusts))
    return pebble


def _listens(address: str, trusts: ssl.SSLContext) -> bool:
    with socket.create_connection((address, _PORT), timeout=5) as plain, trusts.wrap_socket(plain):
        return True


def _introduce(host: Host, bed: Bed, authority: Authority) -> None:
    """Tell the host where the authority is, and have it trust its web server."""
    host.ssh(f"echo '{bed.address} {_AUTHORITY}' >> /etc/hosts")
    certificate = authority.file.read_text()
    host.ssh(f"echo '{certificate}' > /usr/local/share/ca-certificates/tests.crt && update-ca-certificates")


def _inventory(host: Host, folder: Path) -> Inventory:
    groups = folder / "groups.yml"
    groups.write_text(yaml.safe_dump({"all": {"children": {"nginx": {"hosts": {"web1": {}}}}}}))
    variables = {
        **host.variables,
        "nginx_server_names": [NAME],
        "nginx_acme_email": "noc@registry.test",
        "nginx_acme_directory": f"https://{_AUTHORITY}:{_PORT}/dir",
    }
    return Inventory(str(groups), folder, {"web1": variables})


def _main_pid(site: Site) -> str:
    return site.host.ssh("systemctl show --value --property MainPID nginx.service").strip()
