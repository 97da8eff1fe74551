"""A worker process that follows the fill of a stage with some clients, and how a test starts one.

It prints a line for each client's first byte and for its end, and stops its fills at SIGTERM.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.mirror.fills import Fills
from app.oci.errors import OCIError
from tests.parts.process import Process, eventually, python
from tests.unit.mirror.fills_stage import Stage

_numbers = itertools.count(1)


class Worker:
    """A started worker, its output read line by line."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pid = process.pid
        self._read = 0
        self._ends: list[dict[str, Any]] = []

    async def event(self, kind: str) -> dict[str, Any]:
        """Wait for the next line of this kind."""
        while True:
            told = await eventually(self._next, what=f"a word of {kind!r} from worker {self.pid}", timeout=60)
            if told["event"] == "end":
                self._ends.append(told)
            if told["event"] == kind:
                return told

    async def _next(self) -> dict[str, Any] | None:
        running = self._process.running
        lines = self._process.output().splitlines(keepends=True)
        # Warnings are printed between them.
        lines = [line for line in lines if line.startswith("{") and line.endswith("\n")]
        if len(lines) == self._read:
            assert running, f"worker {self.pid} has ended"
            return None
        self._read += 1
        told: dict[str, Any] = json.loads(lines[self._read - 1])
        return told

    async def ends(self, clients: int) -> list[dict[str, Any]]:
        """Wait until every client has ended, and give what each got."""
        while len(self._ends) < clients:
            await self.event("end")
        return self._ends

    def kill(self) -> None:
        self._process.stop(signal.SIGKILL)

    def terminate(self) -> None:
        self._process.send(signal.SIGTERM)


@asynccontextmanager
async def worker(stage: Stage, clients: int) -> AsyncIterator[Worker]:
    name = f"fills-worker-{next(_numbers)}"
    process = Process(name, python("-m", __name__, str(stage.folder), str(clients)), stage.folder, preload=True)
    try:
        yield Worker(process)
    finally:
        process.stop(signal.SIGKILL)


def _say(event: str, **more: object) -> None:
    print(json.dumps({"event": event, **more}), flush=True)


async def _client(stage: Stage, fills: Fills) -> None:
    got, count, error = hashlib.new(stage.digest.algorithm), 0, None
    try:
        fill = await fills.join(stage.request())
        if fill is None:
            _say("end", stored=True)
            return
        await fill.ready()
        async for piece in fill.read():
            if not count:
                _say("first")
            got.update(piece)
            count += len(piece)
        _say("read")
        await fill.done()
    except OCIError as caught:
        error = {
            "class": type(caught).__name__,
            "message": caught.message,
            "headers": caught.headers,
            "status": caught.answer_status,
        }
    _say("end", stored=False, digest=f"{got.name}:{got.hexdigest()}", count=count, error=error)


async def _main(folder: Path, clients: int) -> None:
    stage = Stage(folder)
    fills = Fills(stage)
    tasks = [asyncio.create_task(_client(stage, fills)) for _ in range(clients)]
    loop = asyncio.get_running_loop()
    closing: list[asyncio.Task[None]] = []
    loop.add_signal_handler(signal.SIGTERM, lambda: closing.append(asyncio.create_task(fills.close(0))))
    await asyncio.gather(*tasks)
    await fills.close(60)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
