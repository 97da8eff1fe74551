"""Requests that run: a stop waits for all of them, and ends those that can be ended."""

from __future__ import annotations

import asyncio

import pytest

from app.web.running import Running


class Upload:
    """A request that ends once its connection is cut, or only when it is cancelled."""

    def __init__(self, running: Running, *, stubborn: bool) -> None:
        self._running = running
        self._stubborn = stubborn
        self.told: list[str] = []
        running.begin(self, self)

    def cut(self) -> None:
        self.told.append("cut")
        if not self._stubborn:
            self._running.finish(self)

    def cancel(self) -> None:
        self.told.append("cancel")
        self._running.finish(self)


async def test_a_stop_waits_until_the_last_request_has_ended() -> None:
    running = Running()
    running.begin("page")
    running.begin("pull")
    drained = asyncio.create_task(running.drain())
    running.finish("page")
    await asyncio.sleep(0.01)
    assert not drained.done()
    running.finish("pull")
    await asyncio.wait_for(drained, 1)


@pytest.mark.parametrize(("stubborn", "told"), [(False, ["cut"]), (True, ["cut", "cancel"])])
async def test_a_request_is_cut_first_and_cancelled_when_it_goes_on(stubborn: bool, told: list[str]) -> None:
    running = Running()
    upload = Upload(running, stubborn=stubborn)
    await running.end(0.01)
    assert upload.told == told


async def test_ending_leaves_what_ends_with_its_connection_alone() -> None:
    running = Running()
    running.begin("page")
    await asyncio.wait_for(running.end(5), 1)
    running.finish("page")
    running.finish("page")
    await asyncio.wait_for(running.drain(), 1)
