"""The inventory `cluster`: two registry hosts behind a balancer, and what they share on a third."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.parts import dockerd, weed
from tests.parts.dockerd import Docker
from tests.parts.process import wait_for
from tests.parts.service import merged

from . import hosts, playbook
from .cluster import REGISTRIES, SERVICES, Cluster, cluster
from .conftest import NAME, PASSWORD
from .crowd import Crowd, ask, basic, project
from .engine import engine
from .releases import end_at_once, remake

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def made(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three hosts, made once."""
    for part in (hosts, playbook, weed, dockerd):
        require(part)
    with (
        hosts.bed(tmp_path_factory.mktemp("cluster-bed")) as bed,
        cluster(bed, release, tmp_path_factory.mktemp("cluster")) as running,
    ):
        yield running


def test_pushed_on_one_host_pulled_from_the_other(made: Cluster, tmp_path: Path) -> None:
    def docker(way: str) -> AbstractContextManager[Docker]:
        return engine(tmp_path / way, hosts={NAME: made.hosts[way].address}, authority=made.authority.file)

    project(made.way("registry1"), "lab")
    with docker("registry1") as one, docker("registry2") as other:
        one.run("login", "--username", "admin", "--password", PASSWORD, NAME)
        one.run("pull", f"{NAME}/mirror/library/redis")
        one.run("tag", f"{NAME}/mirror/library/redis", f"{NAME}/lab/redis:mine")
        one.run("push", f"{NAME}/lab/redis:mine")
        other.run("pull", f"{NAME}/lab/redis:mine")
        other.forget(f"{NAME}/lab/redis:mine")
        other.run("pull", f"{NAME}/mirror/library/redis")
    counted = {name: made.hosts[name].inside(hub.counters) for name, hub in made.hubs.items()}
    assert counted["registry1"].get_manifest > 0
    assert counted["registry2"].get_manifest == 0
    assert not counted["registry2"].blob_gets
    with docker(SERVICES) as through:
        through.run("pull", f"{NAME}/lab/redis:mine")
        through.run("login", "--username", "admin", "--password", PASSWORD, NAME)
        through.run("tag", f"{NAME}/lab/redis:mine", f"{NAME}/lab/redis:through")
        through.run("push", f"{NAME}/lab/redis:through")


def test_upload_goes_on_on_the_other_host(made: Cluster) -> None:
    one, other = (made.way(name) for name in REGISTRIES)
    project(one, "carried")
    data = random.Random("carried").randbytes(20 << 20)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    place = _path(ask(one, "POST", "/v2/carried/x/blobs/uploads/", headers=basic()), 202)
    place = _path(ask(one, "PATCH", place, data[: 9 << 20], headers=basic()), 202)
    place = _path(ask(other, "PATCH", place, data[9 << 20 :], headers=basic()), 202)
    _path(ask(one, "PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", headers=basic()), 201)
    for way in (one, other, made.balancer):
        assert ask(way, "GET", f"/v2/carried/x/blobs/{digest}", headers=basic())[2] == data


def test_hosts_know_the_client_behind_the_balancer(made: Cluster) -> None:
    path = f"/v2/who/asks{uuid.uuid4().hex}/tags/list"
    for _ in range(4):
        assert ask(made.balancer, "GET", path)[0] == 401
    logs = "".join(made.hosts[name].ssh("sleep 1.5; cat /var/log/nginx/registry.log") for name in REGISTRIES)
    lines = [line for line in map(json.loads, logs.splitlines()) if line.get("path") == path]
    assert {line["client"] for line in lines} == {made.bed.address}
    with pytest.raises(TimeoutError), socket.create_connection((made.hosts["registry1"].address, 8443), timeout=3):
        pass  # whoever could come in there could say they are anybody


def test_plain_http_is_led_to_https(made: Cluster) -> None:
    with closing(http.client.HTTPConnection(made.services.address, timeout=30)) as connection:
        connection.request("GET", "/v2/", headers={"Host": NAME})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (308, f"https://{NAME}/v2/")


def test_second_run_changes_nothing(made: Cluster) -> None:
    second = made.inventory.play("site.yml")
    assert (second.status, second.changed, second.failed) == (0, 0, 0), changes(second.output)


def test_secrets_are_not_shown_by_the_play(made: Cluster) -> None:
    shown = made.first.output
    for name in ("cluster_database_password", "cluster_redis_password", "cluster_s3_secret"):
        assert made.inventory.hosts[SERVICES][name] not in shown


_UNREACHED: dict[str, tuple[dict[str, Any], str]] = {
    "a database": ({"registry_database_url": "postgresql://registry:x@198.18.0.1:9/registry"}, "registry_database_url"),
    "a Redis": ({"registry_redis_url": "redis://:x@198.18.0.1:9/0"}, "registry_redis_url"),
    "a bucket": ({"object_store_endpoint": "http://198.18.0.1:9"}, "registry_config.storage.s3.endpoint_url"),
}


@pytest.mark.parametrize(("wrong", "words"), _UNREACHED.values(), ids=_UNREACHED.keys())
def test_what_is_not_reached_stops_an_upgrade(made: Cluster, wrong: dict[str, Any], words: str) -> None:
    refused = made.inventory.play("upgrade.yml", **wrong)
    assert (refused.status, refused.changed) == (2, 0), refused.output[-3000:]
    assert f"Nothing was changed. Check {words}" in " ".join(refused.output.split())


def test_upgrade_fails_nobody(made: Cluster, next_release: str) -> None:
    noticed = len(made.seen())
    with Crowd(made.balancer, clients=20) as crowd:
        upgraded = made.inventory.play("upgrade.yml", timeout=2400, registry_version=next_release)
    print(f"{crowd.pulls} pulls and {crowd.pushes} pushes during the upgrade")
    assert upgraded.status == 0, upgraded.output[-3000:]
    assert crowd.failures == []
    assert crowd.pulls > 50
    assert crowd.pushes > 50
    assert [_current(made, name) for name in REGISTRIES] == [next_release] * 2
    for own in made.inventory.hosts.values():
        own["registry_version"] = next_release
    assert made.seen()[noticed:] == ["registry1 DOWN", "registry1 UP", "registry2 DOWN", "registry2 UP"]
    assert crowd.lost() == []


def test_delivery_changes_without_a_failed_pull(made: Cluster) -> None:
    config = made.inventory.hosts["registry1"]["registry_config"]
    with Crowd(made.balancer, clients=4) as crowd:
        for delivery in ("accel", "redirect"):
            other = merged(config, {"storage": {"delivery": delivery}})
            changed = made.inventory.play("site.yml", "--tags", "registry,nginx", registry_config=other)
            assert changed.status == 0, changed.output[-4000:]
    assert crowd.failures == []
    assert crowd.pulls > 10


def test_site_does_not_change_the_release(made: Cluster, release: Path) -> None:
    current = _current(made, "registry1")
    shutil.copy(release / "registry-1.0.0.tar.gz", release / "registry-1.0.9.tar.gz")
    refused = made.inventory.play("site.yml", registry_version="1.0.9")
    assert (refused.status, refused.changed) == (2, 0), refused.output[-3000:]
    said = " ".join(refused.output.split())
    assert f"registry1 runs release {current}, and registry_version is 1.0.9. Nothing was changed." in said


def test_upgrade_stops_at_the_first_host_that_does_not_become_ready(
    made: Cluster, release: Path, tmp_path: Path
) -> None:
    before = [_current(made, name) for name in REGISTRIES]
    remake(release, "1.0.2", end_at_once, tmp_path)
    with Crowd(made.balancer, clients=6) as crowd:
        stopped = made.inventory.play("upgrade.yml", timeout=2400, registry_version="1.0.2")
    assert stopped.status != 0
    assert "registry@1 on registry1 did not become ready with release 1.0.2" in " ".join(stopped.output.split())
    assert [_current(made, name) for name in REGISTRIES] == before
    assert "/opt/registry/releases/1.0.2" not in made.hosts["registry2"].ssh("ls -d /opt/registry/releases/*")
    assert crowd.failures == []
    assert crowd.pushes > 5
    wait_for(lambda: made.seen()[-1] == "registry1 UP", what="registry1 to be back", timeout=60, interval=1)
    assert crowd.lost() == []


def test_clients_go_on_when_a_host_dies(made: Cluster) -> None:
    with Crowd(made.balancer, clients=20, attempts=2) as crowd:
        time.sleep(5)
        made.bed.kill(made.hosts["registry2"])
        wait_for(lambda: made.seen()[-1] == "registry2 DOWN", what="the balancer to notice", timeout=60, interval=1)
        after = crowd.pulls, crowd.pushes
        wait_for(
            lambda: crowd.pulls > after[0] + 50 and crowd.pushes > after[1] + 50,
            what="clients to have gone on", timeout=300, interval=1,
        )  # fmt: skip
        made.bed.start(made.hosts["registry2"])
        wait_for(lambda: made.seen()[-1] == "registry2 UP", what="registry2 to be back", timeout=120, interval=1)
    print(f"{len(crowd.again)} of {crowd.pulls + crowd.pushes} had to be tried again: {crowd.again[:5]}")
    assert crowd.failures == []
    assert ask(made.way("registry2"), "GET", "/v2/")[0] == 401
    assert crowd.lost() == []


def test_redis_restarts_and_nobody_notices(made: Cluster) -> None:
    with Crowd(made.balancer, clients=20, patient=True) as crowd:
        time.sleep(5)
        made.services.ssh("systemctl restart redis-server")
        _go_on(crowd)
        made.services.ssh("systemctl stop redis-server; sleep 8; systemctl start redis-server")
        _go_on(crowd)
    assert crowd.failures == []
    assert crowd.postponed == 0
    assert crowd.lost() == []


def test_pulls_go_on_and_pushes_wait_while_postgresql_restarts(made: Cluster) -> None:
    with Crowd(made.balancer, clients=20, patient=True) as crowd:
        time.sleep(5)
        made.services.ssh("systemctl restart postgresql@15-main")
        _go_on(crowd)
        before = crowd.pulls
        made.services.ssh("systemctl stop postgresql@15-main; sleep 8; systemctl start postgresql@15-main")
        assert crowd.pulls > before
        _go_on(crowd)
    print(f"{crowd.postponed} pushes were told to wait, {crowd.pulls} pulls")
    assert crowd.failures == []
    assert crowd.postponed > 0
    assert crowd.lost() == []


def test_what_the_database_lost_comes_back(made: Cluster) -> None:
    with Crowd(made.balancer, clients=4) as crowd:
        time.sleep(5)
    backed_up = made.inventory.play("backup.yml")
    assert backed_up.status == 0, backed_up.output[-3000:]
    made.services.ssh("runuser --user=postgres -- psql --quiet --command='TRUNCATE project CASCADE' registry")
    assert ask(made.balancer, "GET", crowd.kept[-1], headers=basic())[0] == 404
    restored = made.inventory.play("restore.yml")
    assert restored.status == 0, restored.output[-3000:]
    assert crowd.lost() == []
    for name in REGISTRIES:
        assert ask(made.way(name), "GET", crowd.first, headers=basic())[0] == 200
    assert (again := made.inventory.play("site.yml")).changed == 0, changes(again.output)


def _go_on(crowd: Crowd) -> None:
    """Wait until the crowd has pulled and pushed again."""
    pulls, pushes = crowd.pulls + 20, crowd.pushes + 20
    wait_for(
        lambda: crowd.pulls > pulls and crowd.pushes > pushes, what="clients to go on", timeout=300, interval=0.5
    )  # fmt: skip


def _path(answer: tuple[int, http.client.HTTPMessage, bytes], status: int) -> str:
    assert answer[0] == status, answer
    return answer[1]["Location"].removeprefix(f"https://{NAME}")


def _current(made: Cluster, name: str) -> str:
    return made.hosts[name].ssh("basename $(readlink /opt/registry/current)").strip()


def changes(output: str) -> str:
    """Name the tasks that changed or failed."""
    tasks = re.split(r"^(?=TASK|RUNNING HANDLER)", output, flags=re.MULTILINE)
    return "\n".join(task[:3000] for task in tasks if re.search(r"^(changed|fatal|failed):", task, re.MULTILINE))
