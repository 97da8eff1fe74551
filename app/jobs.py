"""What a worker does again and again beside its requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.oci.errors import OCIError

log = logging.getLogger(__name__)


async def repeat(what: str, do: Callable[[], Awaitable[object]], seconds: float, *, now: bool = False) -> None:
    """Do something, pause for so many seconds, and again, until cancelled; ``now``: without a pause before the first.

    Whatever goes wrong once is logged as ``what``, and the next time comes: nobody would miss a job that had ended.
    Cancelled in the middle, it finishes what it does; cancelled once more, it breaks that off.
    """
    if not now:
        await asyncio.sleep(seconds)
    while True:
        doing = asyncio.create_task(_once(what, do, seconds))
        try:
            await asyncio.shield(doing)
        except asyncio.CancelledError:
            # A statement that is broken off leaves a connection to be closed, and aiosqlite may wait for that forever.
            await doing
            raise
        await asyncio.sleep(seconds)


async def _once(what: str, do: Callable[[], Awaitable[object]], seconds: float) -> None:
    try:
        await do()
    except OCIError as error:
        log.warning("%s put off: %s", what, error)
    except Exception:
        log.exception("%s failed; the next time is in %g s", what, seconds)
