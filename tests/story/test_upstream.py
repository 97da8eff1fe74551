"""The mirror's page while a Docker engine pulls through it; the last test uses the upstream's limit up."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import expect

from tests.images import single
from tests.parts.service import Service
from tests.upstream.client import Hub

from .conftest import Opener
from .person import Person
from .terminal import Terminal


@pytest.fixture(scope="module")
def visitor(arrive: Opener) -> Person:
    """Nobody in particular."""
    return arrive()


@pytest.fixture(scope="module")
def shell(terminal: Callable[[], Terminal]) -> Terminal:
    """A shell that is logged in nowhere."""
    return terminal()


def test_a_pull_is_counted_and_what_is_left_is_shown(
    visitor: Person, shell: Terminal, campus: Service, hub_process: Hub
) -> None:
    before = visitor.go("/mirror").figure("Today")
    shell.pull(f"{campus.host}/mirror/library/redis:7")
    left = 200 - hub_process.counters().get_manifest
    visitor.until("/mirror", "library/redis").until("/mirror", f"{left} of 200 left")
    grown(visitor, "Today", before)
    before = visitor.figure("From the cache")
    shell.pull(f"{campus.host}/mirror/library/redis:7")
    grown(visitor, "From the cache", before)
    assert 200 - hub_process.counters().get_manifest == left
    visitor.click("library/redis", role="link")
    expect(visitor.row("7")).to_contain_text("linux/amd64")
    visitor.screen("mirror-repository")


def test_a_running_fill_shows_its_progress(visitor: Person, shell: Terminal, campus: Service, hub_process: Hub) -> None:
    hub_process.add(single("slow", sizes=(3_000_000, 1_000)), "library/slow", "1")
    visitor.go("/mirror")
    expect(visitor.page.get_by_text("Nothing is being downloaded right now.")).to_be_visible()
    hub_process.pace(bandwidth=500_000)
    try:
        with ThreadPoolExecutor(1) as pool:
            pulled = pool.submit(shell.type, f"docker pull {campus.host}/mirror/library/slow:1")
            fill = visitor.page.locator(".fill").first
            expect(fill).to_contain_text("library/slow")
            expect(fill).to_contain_text("1 client")
            expect(fill.locator("progress")).to_be_visible()
            visitor.screen("mirror-filling")
            assert "Downloaded newer image" in pulled.result()
    finally:
        hub_process.pace()
    expect(visitor.page.get_by_text("Nothing is being downloaded right now.")).to_be_visible()


def test_what_was_left_is_drawn_over_time(visitor: Person, campus: Service) -> None:
    """It is noted at each full minute, and a line goes from there to what is left now."""
    plot = visitor.page.get_by_role("img", name="Requests left over the last 24 hours")
    line = plot.locator("path.line")
    for _ in range(70):
        visitor.go("/mirror")
        if "L" in (line.last.get_attribute("d") or ""):
            break
        visitor.page.wait_for_timeout(1000)
    assert "L" in (line.last.get_attribute("d") or "")
    expect(plot.locator("text", has_text="200")).to_be_visible()
    visitor.screen("mirror")


def test_at_the_limit_only_what_is_cached_is_pulled(
    visitor: Person, shell: Terminal, campus: Service, hub_process: Hub
) -> None:
    hub_process.add(single("cold", sizes=(20_000,)), "library/cold", "1")
    hub_process.leave(0)
    assert "toomanyrequests" in shell.refused(f"docker pull {campus.host}/mirror/library/cold:1")
    shell.pull(f"{campus.host}/mirror/library/redis:7")
    visitor.go("/mirror")
    expect(visitor.page.get_by_text("Used up")).to_be_visible()
    visitor.screen("mirror-used-up")


def grown(person: Person, figure: str, before: int) -> None:
    """Look at the mirror's page until one of its figures is beyond ``before``; counts are written every 5 seconds."""
    for _ in range(20):
        if person.go("/mirror").figure(figure) > before:
            return
        person.page.wait_for_timeout(500)
    raise AssertionError(f"{figure} stayed at {before}")
