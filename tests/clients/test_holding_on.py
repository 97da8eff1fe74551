"""What clients do while their image waits for the budget: docs/clients.md says it, and this tries it for real.

It waits for windows of the upstream to end, so it is part of `make test-long`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import images
from tests.conftest import require
from tests.parts import ctr, dockerd, podman, skopeo
from tests.parts.ctr import Ctr
from tests.parts.dockerd import Docker
from tests.parts.podman import Podman
from tests.parts.process import CommandFailed, run, wait_for
from tests.parts.service import Service
from tests.parts.skopeo import Skopeo
from tests.upstream.client import Hub

from . import gotools
from .plain import Plain

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

# In GETs and seconds. The clients of the test need ten.
LIMIT, WINDOW = 24, 60
HOLDS_ON = {"podman", "skopeo", "kubelet"}
# kubelet waits so long between attempts: ten seconds, doubled up to five minutes ("ImagePullBackOff").
KUBELET = (10, 20, 40, 80, 160)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one pull: whether it had its image, after how many seconds, and its refused requests."""

    succeeded: bool
    seconds: float
    refused: list[float]

    def __str__(self) -> str:
        at = ", ".join(f"{moment:.0f}" for moment in self.refused)
        return f"{'pulled' if self.succeeded else 'gave up'} after {self.seconds:.0f} s; refused at {at} s"


@pytest.fixture(scope="module")
def service(hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    overrides = {"projects": {"mirror": {"upstream": "docker.io"}}}
    folder = tmp_path_factory.mktemp("service")
    with Service(folder, upstream=hub_process.url, overrides=overrides) as service:
        yield service


@pytest.fixture(scope="module")
def holding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """An engine that tries each download up to twenty times."""
    require(dockerd)
    options = ["--insecure-registry=127.0.0.0/8", "--max-download-attempts=20"]
    with dockerd.engine(tmp_path_factory.mktemp("holding"), *options) as docker:
        yield docker


def test_clients_that_wait(service: Service, hub: Hub, holding: Docker, tmp_path: Path) -> None:
    for part in (ctr, skopeo, podman):
        require(part)
    crane, lacking = gotools.install("crane")
    clients: dict[str, Callable[[str], object]] = {
        "docker": lambda image: holding.run("pull", image, timeout=300),
        "containerd": lambda image: Ctr(holding.containerd).pull(image, "--platform=linux/amd64"),
        "podman": lambda image: Podman(tmp_path / "p").pull(image),
        "skopeo": lambda image: Skopeo(tmp_path / "s").copy(f"docker://{image}", f"dir:{tmp_path}/copy", timeout=300),
        "kubelet": lambda image: kubelet(service.host, image),
    }
    if lacking is None:
        clients["crane"] = lambda image: run([str(crane), "pull", "--insecure", image, f"{tmp_path}/crane.tar"])
    for name in clients:
        hub.add(images.multi(name), f"held/{name}", "1")
    hub.limit(LIMIT, window=WINDOW)
    spend(service.host, hub)
    begun = time.time()
    with ThreadPoolExecutor(len(clients)) as crowd:
        pulled = dict(zip(clients, crowd.map(lambda one: attempt(service.host, *one), clients.items()), strict=True))
    outcomes = {
        name: Outcome(succeeded, seconds, refusals(service, f"mirror/held/{name}", begun))
        for name, (succeeded, seconds) in pulled.items()
    }
    for name, outcome in outcomes.items():
        print(f"\n{name}: {outcome}")
    assert {name for name, outcome in outcomes.items() if outcome.succeeded} == HOLDS_ON
    assert len(outcomes["docker"].refused) == 1
    # Those who gave up find their image here later, and pay nothing.
    wait_for(lambda: hub.counters().get_manifest == LIMIT + 2 * len(clients), what="the images", timeout=300)
    hub.reset_counters()
    for name in clients:
        Plain(service.host).pull(f"mirror/held/{name}", "1")
    assert hub.counters().get_manifest == 0


def spend(host: str, hub: Hub) -> None:
    """Leave nothing of the window."""
    for number in range(LIMIT // 2):
        hub.add(images.multi(f"spent{number}"), f"held/spent{number}", "1")
        Plain(host).pull(f"mirror/held/spent{number}", "1")


def attempt(host: str, name: str, pull: Callable[[str], object]) -> tuple[bool, float]:
    begun = time.monotonic()
    try:
        pull(f"{host}/mirror/held/{name}:1")
    except CommandFailed as error:
        print(f"\n{name}: {str(error)[-400:]}")
        return False, time.monotonic() - begun
    return True, time.monotonic() - begun


def kubelet(host: str, image: str) -> None:
    """Pull as kubelet does: one attempt, and the next one after its back-off. It does not read ``Retry-After``."""
    repository, _, tag = image.partition("/")[2].rpartition(":")
    for pause in (*KUBELET, 0):
        try:
            Plain(host).pull(repository, tag)
        except CommandFailed:
            time.sleep(pause)
        else:
            return
    raise CommandFailed("not pulled within the back-off")


def refusals(service: Service, repository: str, since: float) -> list[float]:
    """List when requests for a repository got a 429, in seconds since a time."""
    events = (json.loads(line) for line in service.log().splitlines() if f'"{repository}"' in line)
    return [event["time"] - since for event in events if event.get("status") == 429]
