"""The audit log: who did what to which project, from where and when.

Notes are kept in memory and written every second, so that requests do not wait for them; shutdown writes the rest.
While the database is down they are kept, up to a limit; the log says if entries are dropped. A worker that is killed
loses the notes of one second, and the counts of one minute of refused log-ins.

Invariant: no entry contains a secret. Resources are names of existing things. A user name that does not exist may be a
password in the wrong field, so it is not written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

from app.access.principal import ANONYMOUS, Principal
from app.config import Policy
from app.database import JOB_SECONDS, Database, audit, settings
from app.database.audit import EVERYTHING, Entry, Filter, Note
from app.database.keyset import Page
from app.database.text import storable_part
from app.kit.jobs import repeat
from app.kit.single_flight import SingleFlight
from app.oci.errors import Unavailable

from .tally import Tally

_WRITE_SECONDS = 1.0
_WRITTEN_AT_ONCE = 500
_MOST_NOTES = 100_000
_TIDY_SECONDS = 3600.0
_REMOVED_AT_ONCE = 1000
_EXPORTED_AT_ONCE = 1000
_HIDDEN_AT_ONCE = 1000
# The setting with the id of the last entry whose names are hidden.
_HIDDEN = "audit names hidden until"
_DAY = 86400

log = logging.getLogger(__name__)


class Audit:
    """Takes notes and exports entries; `run` writes notes until cancelled, `close` writes the rest."""

    def __init__(self, database: Database, policy: Policy, pseudonym: Callable[[str], str]) -> None:
        """``pseudonym`` returns the word that replaces a person's name in old entries."""
        self._database = database
        self._policy = policy
        self._pseudonym = pseudonym
        self._notes: list[Note] = []
        self._tally = Tally()
        self._dropped = 0
        self._writing: SingleFlight[None] = SingleFlight()
        self._database_down = False

    def note(
        self,
        principal: Principal,
        address: str,
        operation: str,
        resource_type: str,
        resource: str,
        project: tuple[int, str] | None = None,
    ) -> None:
        """Note an action that was done just now; never waits and never fails.

        ``operation`` is a word such as create, update, delete, push, login. ``resource`` is a name as people know it.
        ``project`` is the id and name of the project that the action belongs to, if any.
        """
        who, where, what = map(storable_part, (principal.subject, address, resource))
        self._take(Note(time.time(), who, where, operation, resource_type, what, *(project or (None, ""))))

    def refused(self, name: str, address: str) -> None:
        """Note that a log-in as ``name`` was refused, "" if no account has the name; counted by the minute."""
        self._count("refuse", "user", name, address)

    def refused_by_university(self, what: str, address: str) -> None:
        """Note that a SAML message was not accepted; ``what`` is log-in or logout; counted by the minute."""
        self._count("reject", f"university {what}", "", address)

    def _count(self, operation: str, resource_type: str, resource: str, address: str) -> None:
        texts = ANONYMOUS.subject, storable_part(address), operation, resource_type, storable_part(resource)
        first = self._tally.add(Note(time.time(), *texts))
        if first is not None:
            self._take(first)

    def _take(self, note: Note) -> None:
        if len(self._notes) < _MOST_NOTES:
            self._notes.append(note)
        else:
            self._dropped += 1

    async def flush(self) -> None:
        """Write all notes; keep them for the next call if the database is down.

        A cancelled caller does not stop the writing. A cancelled transaction may keep SQLite's write lock, and it would
        be unknown which notes it wrote.
        """
        for note in self._tally.due():
            self._take(note)
        await self._writing.join(None, self._write)

    async def _write(self) -> None:
        try:
            while notes := self._notes[:_WRITTEN_AT_ONCE]:
                async with self._database.transaction(JOB_SECONDS) as transaction:
                    await audit.add(transaction, notes)
                del self._notes[: len(notes)]
            self._database_down = False
        except Unavailable as error:
            if not self._database_down:
                log.warning("audit entries not written yet: %s", error)
            self._database_down = True
        if self._dropped:
            log.error("%d audit entries were dropped: more than %d were waiting", self._dropped, _MOST_NOTES)
            self._dropped = 0

    async def close(self) -> None:
        """Write the rest; log how many notes could not be written."""
        for note in self._tally.due(all_of_it=True):
            self._take(note)
        await self.flush()
        if self._notes:
            log.error("%d audit entries are lost: the database is down", len(self._notes))

    async def run(self) -> None:
        """Write notes every second; hide names and remove old entries every hour, until cancelled."""
        await asyncio.gather(
            repeat("writing audit entries", self.flush, _WRITE_SECONDS),
            repeat("hiding names in old audit entries", self.hide_names, _TIDY_SECONDS, now=True),
            repeat("removing old audit entries", self.remove_old, _TIDY_SECONDS, now=True),
        )

    async def hide_names(self) -> None:
        """Replace people's names in entries that are older than the configured days; raises Unavailable.

        A setting says up to which entry that was done. If two workers do it at once, both write the same words.
        """
        before, more = time.time() - self._policy.audit_days * _DAY, True
        while more:
            began = time.monotonic()
            async with self._database.transaction(JOB_SECONDS) as transaction:
                done = await settings.keep(transaction, _HIDDEN, "0")
                end = await audit.hide_names(transaction, int(done), before, _HIDDEN_AT_ONCE, self._pseudonym)
                more = end > int(done) and await settings.swap(transaction, _HIDDEN, done, str(end))
            # As long again, so that others get their turn on a database with one writer.
            await asyncio.sleep(time.monotonic() - began)

    async def remove_old(self) -> None:
        """Remove entries that are older than the configured days, in batches; raises Unavailable."""
        before = time.time() - self._policy.audit_kept_days * _DAY
        removed = _REMOVED_AT_ONCE
        while removed == _REMOVED_AT_ONCE:
            async with self._database.transaction(JOB_SECONDS) as transaction:
                removed = await audit.remove_older(transaction, before, _REMOVED_AT_ONCE)

    async def export(self, chosen: Filter = EVERYTHING) -> AsyncIterator[Entry]:
        """Yield the chosen entries, the newest first, with one page of them in memory; raises Unavailable."""
        after: int | None = None
        while True:
            entries = await self._database.read(audit.page, Page(_EXPORTED_AT_ONCE, after), chosen)
            for entry in entries:
                yield entry
            if entries.reached is None and not entries:
                return
            after = entries[-1].id if entries.reached is None else entries.reached
