"""Move webhooks with their targets and the events that there are here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.access.errors import Invalid
from app.database import Transaction, webhooks
from app.database.harbor import HarborDatabase, Hook
from app.database.text import storable_part
from app.database.webhooks import EventType

from .report import CannotMoveError, Report
from .steps import Change, Known, Step

_FORMATS = ("Default", "CloudEvents")
_HTTP = "http"
_MOST_TEXT = 255


class Hooks(Step[Hook]):
    """Webhooks of projects. Nothing is told of what the move writes."""

    kind = "webhooks"
    left_out = "the project has another webhook of that name here"

    def __init__(
        self, harbor: HarborDatabase, encrypt: Callable[[str], str], check: Callable[[str, str], None], known: Known
    ) -> None:
        """``check`` raises Invalid for an address and a header that a webhook made here could not have."""
        self._harbor = harbor
        self._encrypt = encrypt
        self._check = check
        self._known = known

    async def read(self, after: int, limit: int) -> Sequence[Hook]:
        """See `Step.read`."""
        return await self._harbor.hooks(after, limit)

    def name(self, row: Hook) -> str:
        """See `Step.name`."""
        project = self._known.projects.get(row.project_id)
        return f"{row.name} of {project[1] if project else f'project {row.project_id}'}"

    async def check(self, change: Change[Hook], report: Report) -> Change[Hook] | None:
        """See `Step.check`."""
        row = change.row
        events = [event for event in EventType if event in row.event_types]
        if row.project_id not in self._known.projects:
            raise CannotMoveError("the project does not move")
        if len(row.secret) != 1 or row.secret[0].get("type", _HTTP) != _HTTP:
            raise CannotMoveError("only one target of the type http is possible here")
        if not events:
            raise CannotMoveError("none of its events are here")
        target = row.secret[0]
        if lost := sorted(set(row.event_types) - set(events)):
            report.remark(f"webhooks without {', '.join(lost)}, which are not here", self.name(row))
        if target.get("skip_cert_verify"):
            report.remark("webhooks whose target's certificate will be verified", self.name(row))
        url, header = str(target.get("address", "")), str(target.get("auth_header") or "")
        try:
            self._check(url, header)
        except Invalid as error:
            raise CannotMoveError(error.message) from error
        form = target.get("payload_format") or _FORMATS[0]
        return replace(
            change,
            plan={
                "name": storable_part(row.name, _MOST_TEXT),
                "description": storable_part(row.description),
                "enabled": row.enabled,
                "url": url,
                "auth_header": self._encrypt(header) if header else None,
                "payload_format": form if form in _FORMATS else _FORMATS[0],
                "event_types": tuple(events),
            },
        )

    async def put(self, transaction: Transaction, change: Change[Hook]) -> int | None:
        """See `Step.put`."""
        row, project_id = change.row, self._known.projects[change.row.project_id][0]
        if change.was is None:
            return await webhooks.create(transaction, project_id, created_by=row.creator, **change.plan)
        before = await webhooks.find(transaction, project_id, change.was.target)
        if before is not None and not await webhooks.change(transaction, before, **change.plan):
            return None
        return change.was.target

    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """See `Step.remove`."""
        found = self._known.projects.get(row["project_id"])
        before = await webhooks.find(transaction, found[0], target) if found is not None else None
        if before is not None:
            await webhooks.remove(transaction, before)
