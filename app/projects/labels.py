"""Manage labels, coloured words that are attached to artifacts, of one project or of the whole system."""

from __future__ import annotations

import re

from app.access.errors import Conflict, Invalid, Missing
from app.database import Database, Transaction, labels, projects
from app.database.labels import Label
from app.kit.ids import is_id
from app.oci.digest import Digest
from app.oci.errors import Term

from . import checks, unfinished

# Lists of artifacts read the labels of each.
_MOST_ON_ARTIFACT = 50
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}\Z")


class Labels:
    """Labels of projects and of the system; everybody sees the system's labels, administrators change them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, label_id: int) -> Label:
        """Read a label; raises Missing. The caller checks to which project it belongs."""
        return await self._database.read(_find, label_id)

    async def create(
        self, project_id: int | None, *, name: str, description: str = "", color: str = "#6c757d"
    ) -> Label:
        """Make a label; raises Invalid, Missing, Conflict if the project (or the system) has one of that name."""
        name, description, color = _checked(name, description, color)

        async def create(transaction: Transaction) -> Label:
            if project_id is not None and await projects.keep(transaction, project_id, None) is None:
                raise Missing("the project has been deleted")
            made = await labels.create(transaction, project_id, name=name, description=description, color=color)
            if made is None:
                raise _taken(name)
            return await _find(transaction, made)

        return await self._database.transact(create)

    async def update(
        self, label_id: int, *, name: str | None = None, description: str | None = None, color: str | None = None
    ) -> Label:
        """Change a label; None keeps a value. Raises Missing, Invalid, Conflict."""

        async def change(transaction: Transaction) -> Label:
            before = await _find(transaction, label_id)
            after = _checked(
                before.name if name is None else name,
                before.description if description is None else description,
                before.color if color is None else color,
            )
            if not await labels.change(transaction, before, name=after[0], description=after[1], color=after[2]):
                raise _taken(after[0])
            return await _find(transaction, label_id)

        return await self._database.transact(change)

    async def remove(self, label_id: int) -> None:
        """Remove a label, also from every artifact; raises Missing."""
        async with self._database.transaction() as transaction:
            removed = is_id(label_id) and await labels.remove(transaction, label_id)
        if not removed:
            raise _missing()

    async def attach(self, project_id: int, repository_id: int, digest: Digest, label_id: int) -> None:
        """Attach a label of the artifact's project or of the system to an artifact.

        Raises Missing if there is no such label or artifact, QuotaExceeded, and Conflict if the label is attached
        already or the artifact has too many.
        """

        async def attach(transaction: Transaction) -> bool | None:
            label = await _find(transaction, label_id)
            if label.project_id not in (None, project_id):
                raise _missing()
            attached = await labels.attach(transaction, repository_id, digest, label_id)
            if attached and await labels.count_on(transaction, repository_id, digest) > _MOST_ON_ARTIFACT:
                raise Conflict("an artifact can have %(most)s labels; remove one first", most=_MOST_ON_ARTIFACT)
            return attached

        attached = await unfinished.transact(self._database, attach)
        if attached is None:
            raise Missing("there is no artifact %(reference)s in this repository", reference=digest)
        if not attached:
            raise Conflict("the label is on this artifact already")

    async def detach(self, repository_id: int, digest: Digest, label_id: int) -> None:
        """Remove a label from an artifact; raises Missing."""
        async with self._database.transaction() as transaction:
            detached = is_id(label_id) and await labels.detach(transaction, repository_id, digest, label_id)
        if not detached:
            raise Missing("this label is not on this artifact")


async def _find(transaction: Transaction, label_id: int) -> Label:
    found = await labels.find(transaction, label_id) if is_id(label_id) else None
    if found is None:
        raise _missing()
    return found


def _checked(name: str, description: str, color: str) -> tuple[str, str, str]:
    if not _COLOR.match(color):
        raise Invalid("color must be #rrggbb, not %(color)r", color=color[:20])
    return checks.word(name, Term("name")), checks.text(description, Term("description")), color.lower()


def _missing() -> Missing:
    return Missing("there is no such label here")


def _taken(name: str) -> Conflict:
    return Conflict("there is a label %(name)r here already; choose another name", name=name)
