"""Move the audit log. Entries are only added, so `moved` keeps the last one of them and not each."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from app.access.principal import PrincipalKind
from app.database import JOB_SECONDS, Database, Transaction, audit, moved
from app.database.harbor import Logged
from app.database.moved import Moved
from app.database.text import storable_part

from .report import Report
from .steps import Known

_BATCH = 1000
_DAY = 86400
_ROBOT = "robot$"
_LOGIN = "login"
# Our words for what somebody tried in vain (`app.projects.audit`).
_REFUSED_LOGIN, _REFUSED = "refuse", "reject"


class Log:
    """One of Harbor's two audit logs."""

    kind = "audit entries"

    def __init__(
        self,
        name: str,
        read: Callable[[int, int], Awaitable[Sequence[Logged]]],
        known: Known,
        *,
        days: int,
        prefix: str = _ROBOT,
    ) -> None:
        """``days``: older entries do not move, because ours would be removed."""
        self._name = name
        self._read = read
        self._known = known
        self._days = days
        self._prefix = prefix
        self._usernames = frozenset(known.usernames.values())

    async def run(self, database: Database, report: Report, *, dry: bool) -> None:
        """Move the entries after the last one that was moved."""
        since = time.time() - self._days * _DAY
        after = await database.read(moved.last, self._name)
        while rows := await self._read(after, _BATCH):
            after = rows[-1].id
            notes = [self._note(row) for row in rows if row.at >= since]
            if not dry:
                await self._write(database, notes, after)
            report.count(self.kind, "new", len(notes))
            report.count(self.kind, "too old", len(rows) - len(notes))

    async def _write(self, database: Database, notes: Sequence[audit.Note], last: int) -> None:
        async def write(transaction: Transaction) -> None:
            await audit.add(transaction, notes)
            await moved.note(transaction, self._name, {last: Moved("", 0)})
            await moved.forget_others(transaction, self._name, last)

        await database.transact(write, JOB_SECONDS, answers=False)

    def _note(self, row: Logged) -> audit.Note:
        project = self._known.projects.get(row.project_id)
        operation = row.operation
        if not row.succeeded and operation == _LOGIN:
            # The name may be a password in the wrong field.
            known = row.username in self._usernames
            return audit.Note(row.at, "anonymous", row.address, _REFUSED_LOGIN, "user", row.username if known else "")
        if not row.succeeded:
            operation = _REFUSED
        kind = PrincipalKind.ROBOT if row.username.startswith(self._prefix) else PrincipalKind.PERSON
        return audit.Note(
            at=row.at,
            actor=f"{kind}:{storable_part(row.username)}" if row.username else "anonymous",
            address=row.address,
            operation=storable_part(operation),
            resource_type=storable_part(row.resource_type),
            resource=storable_part(row.resource),
            project_id=project[0] if project is not None else None,
            project_name=project[1] if project is not None else "",
        )
