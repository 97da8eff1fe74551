"""Holds what a unit test is: it starts no process and opens no connection, so that all of them take seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

_OUTSIDE = frozenset({"subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "socket.connect", "socket.bind"})
_inside = False


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if _inside and event in _OUTSIDE:
        raise AssertionError(f"a unit test must not: {event} {arguments}")


# An audit hook stays for the life of the process; tests of other suites run beside it.
sys.addaudithook(_refuse)


@pytest.fixture(autouse=True)
def _nothing_outside() -> Iterator[None]:
    """Refuse processes and connections for the length of a test, its fixtures included."""
    global _inside
    _inside = True
    yield
    _inside = False
