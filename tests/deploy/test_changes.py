"""An upgrade, a rollback, a backup and what comes back after it, keys and certificates: on the host of `single`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.parts import next_release
from tests.parts.dockerd import Docker

from .conftest import NAME, PASSWORD, SETUP_SECONDS, Site
from .crowd import Crowd
from .releases import end_at_once, remake

pytestmark = [pytest.mark.long, pytest.mark.timeout(SETUP_SECONDS)]


@pytest.mark.timeout(3 * SETUP_SECONDS)
def test_upgrade_and_rollback_over_a_migration_fail_nobody(site: Site, release: Path, tmp_path: Path) -> None:
    remake(release, "1.1.0", next_release.add_step, tmp_path / "later")
    with Crowd(site, clients=4) as crowd:
        _play(site, "upgrade.yml", "1.1.0")
        assert _sql(site, "SELECT version_num FROM alembic_version") == next_release.REVISION
        written = _robot(site, "written")
        _sql(site, "INSERT INTO badge VALUES ('written', 'by 1.1.0'); UPDATE project SET colour = 'red'")
        _play(site, "rollback.yml", "1.0.0")
        assert _logs_in(site, written)
        after = _robot(site, "after")
        _play(site, "upgrade.yml", "1.1.0")
        assert _logs_in(site, written)
        assert _logs_in(site, after)
        _refuse_rollback(site)
        _play(site, "rollback.yml", "1.0.0")
    assert _sql(site, "SELECT text FROM badge WHERE project = 'written'") == "by 1.1.0"
    assert _sql(site, "SELECT colour FROM project WHERE name = 'written'") == "red"
    assert crowd.failures == []
    assert crowd.pulls > 10
    assert crowd.pushes > 10


def _refuse_rollback(site: Site) -> None:
    """Have the database say that release 1.1.0 took away what 1.0.0 needs."""
    oldest = _sql(site, "SELECT value FROM setting WHERE name = 'oldest_schema'")
    _sql(site, f"UPDATE setting SET value = '{next_release.REVISION}' WHERE name = 'oldest_schema'")
    workers = _main_pids(site)
    refused = site.inventory.play("rollback.yml", registry_version="1.0.0")
    assert refused.status != 0
    assert f"start a release that knows {next_release.REVISION}" in " ".join(refused.output.split())
    assert (_current(site), _main_pids(site)) == ("1.1.0", workers)
    _sql(site, f"UPDATE setting SET value = '{oldest}' WHERE name = 'oldest_schema'")


def test_a_release_that_does_not_become_ready_is_left_again(site: Site, release: Path, tmp_path: Path) -> None:
    remake(release, "1.0.2", end_at_once, tmp_path / "broken")
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


def _main_pids(site: Site) -> str:
    return site.host.ssh("systemctl show --value --property MainPID registry@1 registry@2")


def _play(site: Site, playbook: str, version: str) -> None:
    played = site.inventory.play(playbook, registry_version=version)
    assert played.status == 0, played.output[-3000:]
    assert _current(site) == version


def _sql(site: Site, statement: str) -> str:
    command = (
        f"runuser -u postgres -- psql --no-align --tuples-only --quiet registry --command {shlex.quote(statement)}"
    )
    return site.host.ssh(command).strip()


def _robot(site: Site, project: str) -> str:
    """Make a project with the robot ``ci``, and give its name and secret as curl takes them."""
    site.host.ssh(f"registry-admin create-project {project}")
    rights = [{"resource": "repository", "action": "pull"}]
    body = {
        "name": "ci", "level": "project", "duration": 30,
        "permissions": [{"kind": "project", "namespace": project, "access": rights}],
    }  # fmt: skip
    made = json.loads(site.curl(
        "/api/v2.0/robots", "--user", f"admin:{PASSWORD}", "--header", "Content-Type: application/json",
        "--data", json.dumps(body),
    ))  # fmt: skip
    return f"{made['name']}:{made['secret']}"


def _logs_in(site: Site, login: str) -> bool:
    return "token" in json.loads(site.curl(f"/service/token?service={NAME}", "--user", login))
