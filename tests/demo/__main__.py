"""Tells the story, step by step, and ends what it started."""

from __future__ import annotations

import signal
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import SubprocessError

from tests import images
from tests.clients.plain import Plain
from tests.images import Image
from tests.parts.process import CommandFailed
from tests.parts.service import Service
from tests.upstream.client import Hub

from .chosen import Chosen, choose
from .figures import Cost, Figures, direct, table

LIMIT, MACHINES = 100, 64
BANDWIDTH, LATENCY = 10_000_000, 0.03
REDIS, PYTHON = "library/redis", "library/python"
_INDENT = " " * 5


def main() -> int:
    """Run the demo; answers the exit status."""
    # Set for SIGINT as well: what a shell starts in the background ignores it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="registry-demo-", ignore_cleanup_errors=True) as folder,
            ExitStack() as stack,
        ):
            try:
                _tell(stack, Path(folder))
            finally:
                for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not leave anything behind
                    signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt:
        print("\nStopped. Nothing is left running.")
        return 130
    except (CommandFailed, OSError, RuntimeError, SubprocessError, TimeoutError) as error:
        print(f"\nThe demo could not go on: {error}", file=sys.stderr)
        return 1
    return 0


def _tell(stack: ExitStack, folder: Path) -> None:
    begun = time.monotonic()
    _say("The registry and its mirror at work, all of it on this machine.", "")
    hub = stack.enter_context(Hub(folder / "hub"))
    redis = hub.add(images.multi("redis", sizes=(200_000, 1_800_000, 4_000_000)), REDIS, "7")
    python = hub.add(images.multi("python", sizes=(300_000, 1_200_000, 1_500_000)), PYTHON, "3.12")
    hub.limit(LIMIT)
    hub.pace(bandwidth=BANDWIDTH, latency=LATENCY)
    projects = {"mirror": {"upstream": "docker.io"}, "lab": {"public": True}}
    service = stack.enter_context(Service(folder / "registry", upstream=hub.url, overrides={"projects": projects}))
    chosen = choose(stack, folder, service.host)
    _say(
        f"  Docker Hub     a stand-in at {hub.host} with made-up images; it allows {LIMIT} pulls in 6 hours",
        f"                 over a line of {BANDWIDTH // 1_000_000} MB/s with {LATENCY * 1000:.0f} ms of delay",
        f"  the registry   {service.host}; mirror/ is its cache of Docker Hub, lab/ is a project",
        f"  the client     {chosen.about}",
        f"  all there after {time.monotonic() - begun:.1f} s, in {folder}",
    )
    figures = Figures(hub, service, LIMIT)
    _pull_and_push(figures, chosen, service)
    _pull_as_a_class(figures, service.host, python)
    _forget_library(chosen, service.host)
    _sum_up(figures, [redis, redis, *[python] * MACHINES])


def _pull_and_push(figures: Figures, chosen: Chosen, service: Service) -> None:
    client, image, mine = chosen.client, f"{service.host}/mirror/{REDIS}:7", f"{service.host}/lab/redis:7"
    _say("", "1. Somebody pulls redis. Nobody has before, so Docker Hub is asked.", _typed(chosen.pull, image))
    with figures.step("1. cold pull"):
        identity = client.pull(image)
    _say(_cost(figures), "", "2. A machine that has nothing of redis pulls it too.", _typed(chosen.pull, image))
    with figures.step("2. warm pull"):
        _same(identity, client.pull(image))
    _say(_cost(figures), "", "3. Who is logged in pushes it to the project lab; who is not pulls it from there.")
    _say(_typed(chosen.push, mine), _typed(chosen.pull, mine))
    with figures.step("3. push, and pull of it"):
        client.login(service.username, service.password)
        client.push(mine)
        client.logout()
        _same(identity, client.pull(mine))
    _say(_cost(figures))


def _pull_as_a_class(figures: Figures, host: str, image: Image) -> None:
    _say("", f"4. A class begins: {MACHINES} machines pull python in the same second. Nobody has before.")
    _say(f"{_INDENT}{MACHINES} times {host}/mirror/{PYTHON}:3.12, by small clients of the demo's own")
    with figures.step(f"4. {MACHINES} cold pulls at once"), ThreadPoolExecutor(MACHINES) as pool:
        pulled = list(pool.map(lambda _: Plain(host).pull(f"mirror/{PYTHON}", "3.12").digest, range(MACHINES)))
    for digest in pulled:
        _same(image.platform("linux/amd64").digest, digest)
    _say(_cost(figures), f"{_INDENT}All {MACHINES} have every byte, checked against the digests.")


def _forget_library(chosen: Chosen, host: str) -> None:
    image = f"{host}/mirror/redis:7"
    _say("", "5. Somebody leaves out library/ and is told what to type.", _typed(chosen.pull, image))
    try:
        chosen.client.pull(image)
    except CommandFailed as error:
        words = str(error).strip().splitlines()[-1]
        _say(textwrap.fill(words, 100, initial_indent=_INDENT, subsequent_indent=_INDENT))


def _sum_up(figures: Figures, pulls: list[Image]) -> None:
    seen, alone = figures.total(), sum(map(direct, pulls), Cost())
    refused = max(0, len(pulls) - LIMIT // direct(pulls[0]).counted)
    sums = {"in all": seen, "without the registry": alone}
    _say("", "What Docker Hub had of it. It counts manifests: two for an image of several platforms.", "")
    left, truth = figures.remaining(), LIMIT - seen.counted
    agreed = "Docker Hub agrees" if left == truth else f"Docker Hub says {truth}"
    _say(
        table(figures.lines, sums),
        "",
        f"The budget was {LIMIT} and is {left} now, the registry's metrics say; {agreed}.",
        f"Without the registry, {len(pulls)} pulls would have needed {alone.counted}: the last {refused} of them"
        " would have been refused.",
    )


def _typed(command: str, image: str) -> str:
    return f"{_INDENT}{command.format(image)}"


def _cost(figures: Figures) -> str:
    """Say in words what the last step took and what Docker Hub had of it."""
    line = figures.lines[-1]
    if line.cost is None or line.cost == Cost():
        return f"{_INDENT}{line.seconds:.1f} s. Docker Hub was asked for nothing."
    return (
        f"{_INDENT}{line.seconds:.1f} s. Docker Hub was asked {line.cost.requests} times, counted {line.cost.counted}"
        f" and sent {line.cost.size / 1e6:.1f} MB."
    )


def _same(expected: str, found: str) -> None:
    if found != expected:
        raise RuntimeError(f"{expected} was asked for, and {found} came")


def _say(*lines: str) -> None:
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
