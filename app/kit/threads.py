"""Run blocking calls in a thread, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")


async def in_thread(pool: Executor | None, call: Callable[[*Args], T], *args: *Args) -> T:
    """Run ``call`` in a thread of ``pool`` and return its result; None means the event loop's own threads.

    A call that has begun runs to its end, and a cancelled caller waits for that. So no descriptor is closed and no
    file removed while a call still uses it.
    """
    job = asyncio.get_running_loop().run_in_executor(pool, call, *args)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait([job])
        raise
