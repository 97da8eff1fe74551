"""A worker process that follows the fill of a stage with some clients, and how a test starts one.

It prints a line for each client's first byte and for its end, and stops its fills at SIGTERM.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.mirror.fills import Fills
from app.oci.errors import OCIError
from tests.unit.mirror.fills_stage import Stage

ROOT = Path(__file__).parents[3]


class Worker:
    """A started worker, its output read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self._ends: list[dict[str, Any]] = []

    async def event(self, kind: str) -> dict[str, Any]:
        """Wait for the next line of this kind."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told: dict[str, Any] = json.loads(line)
            if told["event"] == "end":
                self._ends.append(told)
            if told["event"] == kind:
                return told
        raise AssertionError(f"worker {self.pid} ended without a word of {kind!r}")

    async def ends(self, clients: int) -> list[dict[str, Any]]:
        """Wait until every client has ended, and give what each got."""
        while len(self._ends) < clients:
            await self.event("end")
        return self._ends

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    def terminate(self) -> None:
        self._process.terminate()


@asynccontextmanager
async def worker(stage: Stage, clients: int) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(stage.folder), str(clients), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


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
