"""Repeat a job of a worker beside its requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.oci.errors import OCIError

log = logging.getLogger(__name__)


async def repeat(what: str, do: Callable[[], Awaitable[object]], seconds: float, *, now: bool = False) -> None:
    """Run ``do`` every so many seconds until cancelled; with ``now``, the first run does not wait.

    A failure is logged under the name ``what`` and never ends the job. When it is cancelled, a run under way is
    finished first. A second cancellation breaks that run off.
    """
    if not now:
        await asyncio.sleep(seconds)
    while True:
        run = asyncio.create_task(_once(what, do, seconds))
        try:
            await asyncio.shield(run)
        except asyncio.CancelledError:
            # A statement that is broken off leaves a connection to be closed, and aiosqlite may wait for that forever.
            await run
            raise
        await asyncio.sleep(seconds)


async def _once(what: str, do: Callable[[], Awaitable[object]], seconds: float) -> None:
    try:
        await do()
    except OCIError as error:
        log.warning("%s put off: %s", what, error)
    except Exception:
        log.exception("%s failed; the next time is in %g s", what, seconds)
