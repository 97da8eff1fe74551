"""A class of 64 machines with addresses of their own, whose images were prepared: nothing is left to be paid for.

It takes some minutes, so it is part of `make test-long`. ``bench/README.md`` has its figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from tests import images
from tests.conftest import require
from tests.parts import ctr, dockerd, lab, skopeo
from tests.parts.dockerd import Docker
from tests.parts.lab import Lab
from tests.parts.process import CommandFailed, Process, run, wait_for
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.webapi.client import Api

from . import gotools

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

MACHINES, ENGINES, IMAGES = 64, 4, 12
# In GETs and seconds. An index and an image each are 24: until shortly before its end, others have a third of a window.
LIMIT, WINDOW = 24, 60
# From the plan to the class, in seconds.
AHEAD = 5 * WINDOW
ACCOUNT = {"username": "lab", "password": "secret"}
Pull = Callable[[str], object]


@pytest.fixture(scope="module")
def room() -> Iterator[Lab]:
    for part in (lab, dockerd, ctr, skopeo):
        require(part)
    with lab.lab(MACHINES) as made:
        yield made


@pytest.fixture(scope="module")
def service(room: Lab, hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    overrides = {
        "projects": {"mirror": {"upstream": "docker.io"}},
        "upstreams": {"docker.io": {"url": hub_process.url, "credentials": [ACCOUNT]}},
    }
    folder = tmp_path_factory.mktemp("service")
    with Service(folder, processes=2, overrides=overrides, address=room.address) as service:
        yield service


def test_a_class_of_64_costs_nothing_at_its_hour(service: Service, hub: Hub, room: Lab, tmp_path: Path) -> None:
    names = [f"class/image{number}" for number in range(IMAGES)]
    for name in names:
        hub.add(images.multi(name), name, "1")
    hub.account(**ACCOUNT)
    hub.limit(LIMIT, window=WINDOW)
    admin = Api(service.host, service.username, service.password)
    begun = time.monotonic()
    due_at = time.time() + AHEAD
    plan = make(admin, names, due_at)
    wait_for(lambda: ready(admin, plan) == IMAGES, what="the images", timeout=AHEAD, interval=1)
    took, paid = time.monotonic() - begun, hub.counters()
    # The last image may have come in a window that began after the first one's.
    assert took < 2 * WINDOW + 10
    assert (paid.get_manifest, paid.get_manifest_429) == (2 * IMAGES, 0)
    with ExitStack() as stack:
        pulls = start(stack, service.host, room, tmp_path)
        hub.reset_counters()
        time.sleep(max(0.0, due_at - time.time()))
        begun = time.monotonic()
        with ThreadPoolExecutor(MACHINES) as crowd:
            list(crowd.map(partial(pull_all, names), pulls))
        lesson = time.monotonic() - begun
    after = hub.counters()
    assert (after.get_manifest, after.get_manifest_429, after.get_blob) == (0, 0, 0)
    machines = wait_for(lambda: seen(admin, plan), what="the machines to be counted")
    print(
        f"\n{MACHINES} machines, {IMAGES} images: prepared in {took:.0f} s, pulled in {lesson:.0f} s, "
        f"{after.get_manifest} counted GETs, {after.head_manifest} HEADs, {machines} machines counted"
    )


def make(admin: Api, names: list[str], due_at: float) -> int:
    """Plan the images for a class at a time in Unix seconds; return the plan's number."""
    text = "\n".join(f"{name}:1" for name in names)
    body = {
        "title": "Class",
        "text": text,
        "platforms": ["linux/amd64"],
        "due_at": datetime.fromtimestamp(due_at, UTC).isoformat(),
    }
    return admin.do("createPlan", body).number


def ready(admin: Api, plan: int) -> int:
    return int(admin.do("getPlan", plan_id=plan).json()["ready"])


def seen(admin: Api, plan: int) -> int | None:
    """Return how many machines the plan's page counts, once they are all there but for the error of the count."""
    found: int = admin.do("getPlan", plan_id=plan).json().get("machines", 0)
    return found if found >= MACHINES - 3 else None


def start(stack: ExitStack, host: str, room: Lab, folder: Path) -> list[Pull]:
    """Start the engines; return how each machine pulls. The names of images are without the host."""
    pulls: list[Pull] = []
    machines = iter(room.machines)
    for number in range(ENGINES):
        machine = next(machines)
        options = [f"--insecure-registry={host}", "--max-concurrent-downloads=1"]
        docker = stack.enter_context(dockerd.engine(folder / f"d{number}", *options, inside=room.inside(machine)))
        pulls.append(partial(pull_by_docker, docker, host))
    for number in range(ENGINES):
        machine = next(machines)
        socket = containerd(stack, folder / f"c{number}", room.inside(machine))
        pulls.append(partial(pull_by_ctr, socket, host, room.inside(machine)))
    crane, lacking = gotools.install("crane")
    if lacking:
        print(f"\nskopeo pulls in place of crane: {lacking}")
    for number, machine in enumerate(machines):
        if number % 2 and not lacking:
            pulls.append(partial(pull_by_crane, crane, host, room.inside(machine), folder / f"r{number}"))
        else:
            pulls.append(partial(pull_by_skopeo, host, room.inside(machine), folder / f"s{number}"))
    return pulls


def containerd(stack: ExitStack, folder: Path, inside: list[str]) -> str:
    """Start a containerd of its own; return its socket."""
    folder.mkdir()
    config = folder / "config.toml"
    config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    socket = folder / "sock"
    command = [
        *inside, "containerd", f"--config={config}", f"--root={folder}/root", f"--state={folder}/state",
        f"--address={socket}",
    ]  # fmt: skip
    process = Process("containerd", command, folder)
    stack.callback(process.stop, timeout=20)

    def answers() -> bool:
        try:
            run(["ctr", f"--address={socket}", "version"])
        except CommandFailed:
            return False
        return True

    process.until(answers, timeout=120, interval=0.2)
    return str(socket)


def pull_by_docker(docker: Docker, host: str, name: str) -> None:
    docker.run("pull", f"{host}/mirror/{name}", timeout=600)


def pull_by_ctr(socket: str, host: str, inside: list[str], name: str) -> None:
    # ctr itself asks the registry, so it runs on the machine.
    pull = ["images", "pull", "--plain-http", "--platform=linux/amd64", f"{host}/mirror/{name}"]
    run([*inside, "ctr", f"--address={socket}", "--namespace=tests", *pull], timeout=600)


def pull_by_skopeo(host: str, inside: list[str], folder: Path, name: str) -> None:
    target = folder / name.replace("/", "-").replace(":", "-")
    target.parent.mkdir(exist_ok=True)
    copy = ["copy", "--src-tls-verify=false", f"docker://{host}/mirror/{name}", f"dir:{target}"]
    run([*inside, "skopeo", "--insecure-policy", *copy], timeout=600)


def pull_by_crane(crane: Path, host: str, inside: list[str], folder: Path, name: str) -> None:
    target = folder / f"{name.replace('/', '-').replace(':', '-')}.tar"
    target.parent.mkdir(exist_ok=True)
    run([*inside, str(crane), "pull", "--insecure", f"{host}/mirror/{name}", str(target)], timeout=600)


def pull_all(names: list[str], pull: Pull) -> None:
    for name in names:
        pull(f"{name}:1")


def test_a_plan_survives_that_its_executor_is_killed(service: Service, hub: Hub) -> None:
    names = [f"class/killed{number}" for number in range(IMAGES)]
    for name in names:
        hub.add(images.multi(name), name, "1")
    hub.account(**ACCOUNT)
    hub.limit(LIMIT, window=WINDOW)
    admin = Api(service.host, service.username, service.password)
    plan = make(admin, names, time.time() + 20 * 60)
    wait_for(lambda: ready(admin, plan) > 0, what="the first images", timeout=300, interval=0.2)
    here = ready(admin, plan)
    assert here < IMAGES
    service.kill()
    service.start()
    wait_for(lambda: ready(admin, plan) == IMAGES, what="the images", timeout=600, interval=1)
    paid = hub.counters()
    # The killed process may have had some under way, which nobody heard of.
    assert 2 * IMAGES <= paid.get_manifest <= 2 * IMAGES + 4
    assert paid.get_manifest_429 == 0
