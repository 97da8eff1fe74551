"""The tags of hosted repositories over time: read what they named before, and point them back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from app.access.errors import Missing
from app.database import Database, Transaction, artifacts, manifests, tag_history
from app.database.tag_history import Entry
from app.oci.digest import Digest
from app.oci.reference import Tag
from app.projects import unfinished
from app.projects.immutability import require_movable_in

from .garbage_collection import GRACE_SECONDS
from .tag_fates import Fate, fate_of


@dataclass(frozen=True, slots=True)
class History:
    """The digests that a tag names and named before, the newest first; ``current`` is None if the tag is removed.

    ``present`` has those digests whose manifests are still here.
    """

    current: Entry | None
    past: Sequence[Entry]
    present: frozenset[str]


class Tags:
    """The tags of hosted repositories over time; it holds no state of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def history(self, repository_id: int, name: Tag) -> History:
        """Return the history of a tag, also of one that is removed; raises Missing if nothing is known of it."""
        async with self._database.reading() as transaction:
            current = await tag_history.current(transaction, repository_id, name)
            past = await tag_history.entries(transaction, repository_id, name)
            if current is None and not past:
                raise _unknown(name)
            digests = {entry.digest for entry in past}
            present = await artifacts.present(transaction, repository_id, digests)
        return History(current, past, frozenset(present))

    async def fate(self, project_id: int, repository_id: int, repository_name: str, name: Tag) -> Fate | None:
        """Return what the project's rules do with a tag, None if it is removed."""
        try:
            return await fate_of(self._database, project_id, repository_id, repository_name, name)
        except Missing:
            return None

    async def point_back(self, repository_id: int, name: Tag, digest: Digest, by: str) -> None:
        """Point a tag at a manifest that it named before; ``by`` is the principal's subject.

        Raises Missing if it did not, or the manifest is gone, and Denied (412) if the tag is immutable.
        """

        async def point(transaction: Transaction) -> None:
            past = await tag_history.entries(transaction, repository_id, name)
            if digest not in {entry.digest for entry in past}:
                raise Missing("the tag %(tag)s has not named %(digest)s before", tag=name, digest=digest)
            if not await manifests.sizes(transaction, repository_id, [digest]):
                raise Missing("%(digest)s is no longer in this repository; push it again", digest=digest)
            moved = await manifests.set_tags(transaction, repository_id, [name], digest, by)
            await require_movable_in(transaction, repository_id, moved)
            await manifests.ask_review(transaction, repository_id, moved.values(), time.time() + GRACE_SECONDS)

        await unfinished.transact(self._database, point)


def _unknown(name: Tag) -> Missing:
    return Missing("there is no tag %(tag)s in this repository", tag=name)
