"""Repeat a worker's background job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.oci.errors import OCIError

log = logging.getLogger(__name__)


async def repeat(what: str, do: Callable[[], Awaitable[object]], seconds: float, *, now: bool = False) -> None:
    """Run ``do`` until cancelled, with a pause of ``seconds`` before each run; ``now`` starts the first one at once.

    A failure is logged under the name ``what`` and never ends the job. A cancelled job first finishes the run under
    way. A second cancellation stops that run.
    """
    if not now:
        await asyncio.sleep(seconds)
    while True:
        run = asyncio.create_task(_once(what, do, seconds))
        try:
            await asyncio.shield(run)
        except asyncio.CancelledError:
            # An interrupted statement leaves a connection to be closed, and aiosqlite may wait for that forever.
            await run
            raise
        await asyncio.sleep(seconds)


async def _once(what: str, do: Callable[[], Awaitable[object]], seconds: float) -> None:
    try:
        await do()
    except OCIError as error:
        log.warning("%s put off: %s", what, error)
    except Exception:
        log.exception("%s failed; the next run is in %g s", what, seconds)
