"""A worker process of the storage contract's tests: ``python -m tests.contract.storage_worker JSON``.

``{"store": description, "key": …, "state": …, "size": …, "then": "hang" | "finish"}`` writes `content(size)` from the
state's offset on; says ``written`` and hangs to be killed, or finishes, reads it back and says how much memory it took.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

from tests.contract.storage_places import MIB, content, opened, write


async def work(store: dict[str, Any], key: str, state: dict[str, Any] | None, size: int, then: str) -> None:
    """Do what one line of JSON says."""
    async with opened(store) as blobs:
        writer = await blobs.writer(key, state)
        if then == "hang":
            await write(writer, content(size)[writer.offset :])
            print("written", flush=True)
            await asyncio.sleep(600)
        await write(writer, content(MIB))
        before = _peak()
        for _ in range(size // MIB - 1):
            await write(writer, content(MIB))
        await writer.finish()
        async with aclosing(blobs.read(key, 0, size)) as stream:
            got = sum([len(piece) async for piece in stream])
        print(json.dumps({"read": got, "grown": _peak() - before}), flush=True)


def _peak() -> int:
    # Bytes of memory at the worst moment so far.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


if __name__ == "__main__":
    asyncio.run(work(**json.loads(sys.argv[1])))
