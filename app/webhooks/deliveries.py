"""Send deliveries that are due, by every worker; each delivery is taken by one of them at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import aiohttp
from yarl import URL

from app.database import JOB_SECONDS, Database, webhooks
from app.database.text import storable_part
from app.database.webhooks import Due
from app.kit.jobs import repeat
from app.mirror.address_guard import AddressGuard
from app.oci.errors import OCIError

from .payloads import body, event_id

# Seconds until the next attempt, by the number of attempts before this one. The last attempt has no next one. Each is
# longer than an attempt may take. All together are about a day.
WAITS = (30.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0, 21600.0, 36000.0)
_EVERY_SECONDS = 5.0
_TAKEN_AT_ONCE = 20
_SECONDS = aiohttp.ClientTimeout(total=15, connect=5)
_MOST_ANSWER = 4096
_KEPT_SECONDS = 14 * 86400
_REMOVED_AT_ONCE = 1000
_TIDY_SECONDS = 3600.0
_USER_AGENT = "registry.hpc.ut.ee (webhook)"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Outcome:
    succeeded: bool
    answer: str


class Deliveries:
    """Sends what is due. ``host`` is what names of images begin with, ``decrypt`` reads the header of a webhook."""

    def __init__(
        self,
        database: Database,
        guard: AddressGuard,
        host: str,
        decrypt: Callable[[str], str],
        waits: tuple[float, ...] = WAITS,
    ) -> None:
        self._database = database
        self._guard = guard
        self._host = host
        self._decrypt = decrypt
        self._waits = waits
        self._tidied = 0.0

    async def run(self) -> None:
        """Send what is due, every few seconds, until cancelled."""
        await repeat("webhooks", self.send_due, _EVERY_SECONDS)

    async def send_due(self) -> None:
        """Send everything that is due now, and remove what ended long ago; raises Unavailable."""
        while await self._send_some():
            pass
        if time.monotonic() - self._tidied > _TIDY_SECONDS:
            self._tidied = time.monotonic()
            remove = partial(webhooks.remove_ended, before=time.time() - _KEPT_SECONDS, limit=_REMOVED_AT_ONCE)
            while await self._database.transact(remove, JOB_SECONDS):
                pass

    async def _send_some(self) -> int:
        # Mostly nothing is due, and a transaction would hold up SQLite's writers.
        if not await self._database.read(webhooks.is_any_due):
            return 0
        take = partial(webhooks.take_due, limit=_TAKEN_AT_ONCE, wait=self._waits)
        found = await self._database.transact(take, JOB_SECONDS)
        if found:
            # A connection for each: nothing of one receiver's is left for another one's, or for a later attempt.
            connector = aiohttp.TCPConnector(resolver=self._guard, force_close=True, limit=_TAKEN_AT_ONCE)
            cookies = aiohttp.DummyCookieJar()
            async with aiohttp.ClientSession(connector=connector, timeout=_SECONDS, cookie_jar=cookies) as session:
                await asyncio.gather(*(self._attempt(session, due) for due in found))
        return len(found)

    async def _attempt(self, session: aiohttp.ClientSession, due: Due) -> None:
        outcome = await self._post(session, due)
        ends = outcome.succeeded or due.delivery.attempts + 1 >= len(self._waits)
        if not outcome.succeeded:
            log.info("webhook %d: delivery %d failed: %s", due.webhook.id, due.delivery.id, outcome.answer[:200])
        note = partial(
            webhooks.note_attempt,
            delivery_id=due.delivery.id,
            answer=outcome.answer,
            succeeded=outcome.succeeded,
            ends=ends,
        )
        await self._database.transact(note, JOB_SECONDS)

    async def _post(self, session: aiohttp.ClientSession, due: Due) -> _Outcome:
        kind, data = body(due, self._host)
        headers = {"Content-Type": kind, "User-Agent": _USER_AGENT, "X-Event-Id": event_id(due.delivery.id)}
        try:
            if due.webhook.auth_header is not None:
                headers["Authorization"] = self._decrypt(due.webhook.auth_header)
            url = URL(due.webhook.url)
            self._guard.check(url)
            async with session.post(url, data=data, headers=headers, allow_redirects=False) as answer:
                text = (await answer.content.read(_MOST_ANSWER)).decode(errors="replace")
                return _Outcome(200 <= answer.status < 300, storable_part(f"{answer.status} {answer.reason}\n{text}"))
        except OCIError:
            return _Outcome(False, "the target is not a public address, so nothing was sent")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return _Outcome(False, storable_part(str(error) or type(error).__name__))
