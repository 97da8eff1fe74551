"""An upgrade, a rollback, a backup and what comes back after it, keys and certificates: on the host of `single`."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.parts.dockerd import Docker

from .conftest import NAME, PASSWORD, SETUP_SECONDS, Site
from .crowd import Crowd

pytestmark = pytest.mark.timeout(SETUP_SECONDS)


def test_upgrade_and_rollback_fail_nobody(site: Site, next_release: str) -> None:
    with Crowd(site, clients=4) as crowd:
        upgraded = site.inventory.play("upgrade.yml", registry_version=next_release)
        assert upgraded.status == 0, upgraded.output[-3000:]
        assert _current(site) == next_release
        back = site.inventory.play("rollback.yml", registry_version="1.0.0")
        assert back.status == 0, back.output[-3000:]
    assert _current(site) == "1.0.0"
    assert crowd.failures == []
    assert crowd.pulls > 10
    assert crowd.pushes > 10


def test_a_release_that_does_not_become_ready_is_left_again(site: Site, release: Path, tmp_path: Path) -> None:
    _break(release / "registry-1.0.0.tar.gz", release / "registry-1.0.2.tar.gz", tmp_path)
    second = site.host.ssh("systemctl show --value --property MainPID registry@2")
    upgraded = site.inventory.play("upgrade.yml", registry_version="1.0.2")
    assert upgraded.status != 0
    said = " ".join(upgraded.output.split())
    assert "did not become ready with release 1.0.2" in said
    assert "this release is broken" in said
    assert _current(site) == "1.0.0"
    assert site.host.ssh("systemctl show --value --property MainPID registry@2") == second
    assert site.host.ssh("curl --silent --unix-socket /run/registry/1/http.sock http://registry/healthz")


def test_rollback_to_a_release_that_is_gone(site: Site) -> None:
    played = site.inventory.play("rollback.yml", registry_version="0.9.0")
    assert played.status != 0
    assert played.changed == 0


def test_backup_brings_everything_back(site: Site, client: Docker) -> None:
    site.host.ssh("registry-admin create-project kept --public")
    client.run("login", "--username", "admin", "--password", PASSWORD, NAME)
    client.run("pull", f"{NAME}/mirror/library/redis")
    client.run("tag", f"{NAME}/mirror/library/redis", f"{NAME}/kept/redis:1")
    client.run("push", f"{NAME}/kept/redis:1")
    assert site.inventory.play("backup.yml").status == 0
    site.host.ssh("registry-admin create-project later")
    site.host.ssh("systemctl stop registry.target 'registry@*'; runuser -u postgres -- dropdb registry")
    site.host.ssh("rm -r /var/lib/registry/blobs")
    assert site.inventory.play("site.yml").status == 0
    restored = site.inventory.play("restore.yml")
    assert restored.status == 0, restored.output[-3000:]
    client.forget(f"{NAME}/kept/redis:1", f"{NAME}/mirror/library/redis")
    client.run("pull", f"{NAME}/kept/redis:1")
    with pytest.raises(AssertionError):
        client.run("push", f"{NAME}/later/redis:1")


def test_new_certificate_and_keys(site: Site) -> None:
    site.inventory.hosts["registry1"].update(_pair(site))
    played = site.inventory.play("site.yml")
    # The certificate, its key, and nginx which reads them again.
    assert (played.status, played.changed) == (0, 3)
    assert site.inventory.play("rotate-keys.yml").changed == 1
    assert json.loads(site.curl("/healthz")) == {"status": "ok"}


def _pair(site: Site) -> dict[str, str]:
    pair = site.authority.certify(NAME)
    return {"nginx_certificate": pair.certificate, "nginx_certificate_key": pair.key}


def _current(site: Site) -> str:
    return site.host.ssh("basename $(readlink /opt/registry/current)").strip()


def _break(archive: Path, broken: Path, scratch: Path) -> None:
    """Make a release whose service ends at once."""
    shutil.unpack_archive(archive, scratch, filter="data")
    main = scratch / "app/main.py"
    main.write_text(main.read_text().replace(
        "    sockets = bind(", '    raise OSError("this release is broken")\n    sockets = bind('
    ))  # fmt: skip
    with tarfile.open(broken, "w:gz") as packed:
        for part in ("app", "docs", "requirements.txt", "wheels"):
            packed.add(scratch / part, part)
