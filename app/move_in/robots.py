"""Move robot accounts with their names, rights and hashes of secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.access import harbor_secrets
from app.access.principal import COMMAND_LINE
from app.database import Transaction, robots
from app.database.harbor import HarborDatabase, Robot
from app.database.text import storable_part

from .naming import rights_of
from .people import robot_prefix
from .report import CannotMoveError, Report
from .steps import Change, Known, Step

_ROBOT_HASH = "sha256"
_MOST_NAME = 255


@dataclass(frozen=True, slots=True)
class _Plan:
    """The robot account as it will be; ``secret_hash`` is None if it stays."""

    name: str
    permissions: Mapping[str, Sequence[str]]
    secret_hash: str | None


class Robots(Step[Robot]):
    """Robot accounts of projects and of the system."""

    kind = "robots"
    left_out = "there is another robot account of that name here"

    def __init__(self, harbor: HarborDatabase, known: Known, *, properties: Mapping[str, str]) -> None:
        self._harbor = harbor
        self._known = known
        self._prefix = robot_prefix(properties)

    async def read(self, after: int, limit: int) -> Sequence[Robot]:
        """See `Step.read`."""
        return await self._harbor.robots(after, limit)

    def name(self, row: Robot) -> str:
        """See `Step.name`."""
        return self._prefix + row.name

    async def check(self, change: Change[Robot], report: Report) -> Change[Robot] | None:
        """See `Step.check`."""
        return replace(change, plan=self._plan(change, report))

    def _plan(self, change: Change[Robot], report: Report) -> _Plan:
        row, name = change.row, self.name(change.row)
        if row.project_id and row.project_id not in self._known.projects:
            raise CannotMoveError("the project does not move")
        if len(name) > _MOST_NAME or not name.isprintable():
            raise CannotMoveError("our rules refuse the name")
        if not harbor_secrets.is_known(_ROBOT_HASH, row.salt, row.secret):
            raise CannotMoveError("its secret has a form that is not known here; make a new robot account")
        ours = {theirs: found[0] for theirs, found in self._known.projects.items()}
        permissions, lost = rights_of(row.rights, ours)
        for right in lost:
            report.remark(f"robots without {right.partition(' in ')[0]}, which is not here or not in this place", name)
        kept = None if change.before.get("mark") == row.mark() else harbor_secrets.of_robot(row.salt, row.secret)
        return _Plan(name, permissions, kept)

    async def put(self, transaction: Transaction, change: Change[Robot]) -> int | None:
        """See `Step.put`."""
        row, plan, target = change.row, change.plan, change.was.target if change.was is not None else None
        values: dict[str, Any] = {
            "description": storable_part(row.description),
            "permissions": plan.permissions,
            "expires_at": None if row.expires_at < 0 else float(row.expires_at),
        }
        if target is None:
            project_id = self._known.projects[row.project_id][0] if row.project_id else None
            made = await robots.create(
                transaction,
                project_id=project_id,
                name=plan.name,
                secret_hash=plan.secret_hash,
                created_by=COMMAND_LINE.subject,
                **values,
            )
            if made is None:
                return None
            target, values = made.id, {}
        elif plan.secret_hash is not None:
            values["secret_hash"] = plan.secret_hash
        changed = await robots.change(
            transaction, target, **values, name=plan.name, disabled=row.disabled, created_at=row.created_at
        )
        return changed.id if changed is not None else target

    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """See `Step.remove`."""
        await robots.remove(transaction, target)
