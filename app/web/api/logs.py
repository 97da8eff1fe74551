"""List and export the audit log of the system or of a project."""

from __future__ import annotations

import json
from typing import Any

from app.database import audit
from app.database.audit import Entry, Filter

from .handler import ApiHandler
from .shapes import moment, some

_WHOLE = ("username", "resource")
_EXT = ("id", "username", "resource", "resource_type", "operation", "op_time")
_PARTS = (*_WHOLE, "operation", "resource_type")


def entry(row: Entry) -> dict[str, Any]:
    """Return an entry of the log in Harbor's form."""
    kind, _, name = row.actor.partition(":")
    return some(
        id=row.id,
        username=name or kind,
        user_kind=kind,
        client_address=row.address,
        resource=row.resource,
        resource_type=row.resource_type,
        operation=row.operation,
        op_time=moment(row.at),
        project_id=row.project_id,
        project_name=row.project_name or None,
        times=row.times,
    )


class Logs(ApiHandler):
    """The base of handlers of both logs."""

    def chosen(self) -> Filter:
        """Return the choice of entries: those of the path's project, if there is one, and of ``q``."""
        view = getattr(self, "view", None)
        since, until = self.filters["op_time"].values if "op_time" in self.filters else (None, None)
        return Filter(
            project_id=None if view is None else view.id,
            project_name=self.text("project_name"),
            text=self.text("text"),
            operation=self.exactly("operation") or "",
            resource_type=self.exactly("resource_type") or "",
            exact={name: text for name in _WHOLE if (text := self.exactly(name))},
            parts={name: self.text(name) for name in _PARTS if name in self.filters and self.exactly(name) is None},
            since=None if since is None else float(since),
            until=None if until is None else float(until),
        )


class LogsHandler(Logs):
    async def get(self) -> None:
        chosen = self.chosen()
        rows = await self.services.database.read(audit.page, self.page(), chosen)
        self.answer_page([entry(row) for row in rows], await self.services.database.read(audit.total, chosen))


class ExtsHandler(Logs):
    async def get(self) -> None:
        chosen = self.chosen()
        rows = await self.services.database.read(audit.page, self.page(), chosen)
        spelled = [
            {
                **{name: said[name] for name in _EXT},
                "operation_description": f"{said['operation']} {said['resource_type']} {said['resource']}",
                "operation_result": True,
            }
            for said in map(entry, rows)
        ]
        self.answer_page(spelled, await self.services.database.read(audit.total, chosen))


class ExportHandler(Logs):
    async def get(self) -> None:
        self.set_header("Content-Type", "application/x-ndjson")
        self.set_header("Content-Disposition", 'attachment; filename="audit.ndjson"')
        async for row in self.services.audit.export(self.chosen()):
            self.write(json.dumps(entry(row)) + "\n")
            await self.flush()
