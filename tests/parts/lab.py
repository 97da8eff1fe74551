"""A class room: network namespaces with an address each on one bridge, and the host's own address there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from .process import run

# Nobody's network at this address; a test ends its own.
_BRIDGE, _PREFIX = "reglab0", "10.231.77"


def missing() -> str | None:
    if shutil.which("ip") is None:
        return "no ip on the PATH (apt: iproute2)"
    return None if os.geteuid() == 0 else "only root makes network namespaces"


@dataclass(frozen=True, slots=True)
class Lab:
    """``address`` is the host's, which the machines reach; ``machines`` are the names of their namespaces."""

    address: str
    machines: Sequence[str]

    @staticmethod
    def inside(machine: str) -> list[str]:
        """Spell the beginning of a command that runs on a machine."""
        # Unlike `ip netns exec` it leaves /sys with the control groups, which engines need.
        return ["nsenter", f"--net=/run/netns/{machine}"]


@contextmanager
def lab(count: int) -> Iterator[Lab]:
    """Make a class room of ``count`` machines, at most 200."""
    with ExitStack() as stack:
        run(["ip", "link", "add", _BRIDGE, "type", "bridge"])
        stack.callback(run, ["ip", "link", "del", _BRIDGE])
        run(["ip", "address", "add", f"{_PREFIX}.1/24", "dev", _BRIDGE])
        run(["ip", "link", "set", _BRIDGE, "up"])
        machines = []
        for number in range(count):
            name, link = f"reglab{number}", f"reglab0-{number}"
            run(["ip", "netns", "add", name])
            stack.callback(run, ["ip", "netns", "del", name])
            run(["ip", "link", "add", link, "type", "veth", "peer", "name", "host0", "netns", name])
            # Both ends, at once: a namespace may outlive its name for a while.
            stack.callback(run, ["ip", "link", "del", link])
            run(["ip", "link", "set", link, "master", _BRIDGE, "up"])
            run(["ip", "-n", name, "address", "add", f"{_PREFIX}.{number + 10}/24", "dev", "host0"])
            for device in ("lo", "host0"):
                run(["ip", "-n", name, "link", "set", device, "up"])
            machines.append(name)
        yield Lab(f"{_PREFIX}.1", machines)
