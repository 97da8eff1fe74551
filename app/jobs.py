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
    """
    if not now:
        await asyncio.sleep(seconds)
    while True:
        try:
            await do()
        except OCIError as error:
            log.warning("%s put off: %s", what, error)
        except Exception:
            log.exception("%s failed; the next time is in %g s", what, seconds)
        await asyncio.sleep(seconds)
