"""The demo runs to its end with whatever client is here, and leaves nothing behind, interrupted or not."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.process import Process, python
from tests.parts.service import descendants


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the demo a place whose name is short: the sockets of a Docker engine go beneath it."""
    return tmp_path_factory.mktemp("d")


@pytest.fixture
def demo(tmp_path: Path, temporary: Path) -> Iterator[Process]:
    demo = Process("demo", python("-m", "tests.demo"), tmp_path, environment={"TMPDIR": str(temporary)})
    yield demo
    demo.stop(signal.SIGINT, timeout=60)


def test_it_tells_what_a_class_costs(demo: Process, temporary: Path) -> None:
    assert demo.wait(100) == 0, demo.output()
    told = demo.output()
    assert re.search(r"^  4\. 64 cold pulls at once +\S+ +\d+ +2 +3\.0 +96$", told, re.MULTILINE), told
    assert re.search(r"^  in all +\d+ +4 +9\.0$", told, re.MULTILINE), told
    assert "The budget was 100 and is 96 now, the registry's metrics say; Docker Hub agrees." in told
    assert "pull mirror/library/redis" in re.sub(r"\s+", " ", told)
    assert list(temporary.iterdir()) == []


@pytest.mark.long
def test_it_ends_everything_when_interrupted(demo: Process, temporary: Path) -> None:
    demo.until(lambda: "2. A machine" in demo.output(), timeout=60)
    started = descendants(demo.pid)
    assert started
    demo.send(signal.SIGINT)
    assert demo.wait(60) == 130, demo.output()
    assert [pid for pid in started if Path(f"/proc/{pid}/exe").exists()] == []
    assert list(temporary.iterdir()) == []
