"""Compare Harbor with this registry after a move: artifacts, the digest of each tag, visibility, quotas and counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from app.database import Database, manifests, moved
from app.database.harbor import Artifact, HarborDatabase
from app.database.projects import get
from app.oci.digest import Digest

from .report import Report
from .steps import Known

_BATCH = 500
_KIND = "compared"


@dataclass(slots=True)
class Comparison:
    """The counts of what is the same on both sides, and the names of what differs."""

    same: Counter[str] = field(default_factory=Counter)
    report: Report = field(default_factory=lambda: Report(dry=False))
    differences: int = 0

    def differ(self, what: str, name: str) -> None:
        """Note a difference."""
        self.differences += 1
        self.report.remark(f"{what} differ", name)

    def text(self) -> str:
        """Return the comparison for a person."""
        counts = ", ".join(f"{number} {what}" for what, number in self.same.items())
        head = f"The same on both sides: {counts or 'nothing'}."
        if not self.differences:
            return f"{head}\nNothing differs."
        return "\n".join([head, f"{self.differences} differ:", *self.report.text().splitlines()[1:]])


async def compare(harbor: HarborDatabase, database: Database, known: Known) -> Comparison:
    """Compare everything that moved; what did not move is in the report of the move."""
    found = Comparison()
    await _artifacts(harbor, database, known, found)
    await _tags(harbor, database, known, found)
    await _projects(harbor, database, known, found)
    return found


async def _artifacts(harbor: HarborDatabase, database: Database, known: Known, found: Comparison) -> None:
    after = 0
    while rows := await harbor.artifacts(after, _BATCH):
        after = rows[-1].id
        theirs: dict[int, list[Artifact]] = defaultdict(list)
        for row in rows:
            if row.repository_id in known.repositories and row.id not in known.refused:
                theirs[row.repository_id].append(row)
        for repository_id, some in theirs.items():
            if _is_cache(known, repository_id):
                continue
            digests = {Digest(row.digest) for row in some}
            here = await database.read(manifests.sizes, known.repositories[repository_id][0], digests)
            found.same["artifacts"] += len(here)
            for digest in sorted(digests - here.keys()):
                found.differ("artifacts", f"{some[0].repository}@{digest} is not here")


async def _tags(harbor: HarborDatabase, database: Database, known: Known, found: Comparison) -> None:
    after = 0
    while rows := await harbor.tags(after, _BATCH):
        after = rows[-1].id
        theirs: dict[int, dict[str, str]] = defaultdict(dict)
        for row in rows:
            if row.repository_id not in known.repositories or _is_cache(known, row.repository_id):
                continue
            theirs[row.repository_id][row.name] = row.digest
        names = {row.repository_id: row.repository for row in rows}
        for repository_id, tags in theirs.items():
            ours = await database.read(moved.tags_here, known.repositories[repository_id][0], list(tags))
            for name, digest in tags.items():
                if ours.get(name) == digest:
                    found.same["tags"] += 1
                else:
                    found.differ("tags", f"{names[repository_id]}:{name}: {digest} there, {ours.get(name)} here")


async def _projects(harbor: HarborDatabase, database: Database, known: Known, found: Comparison) -> None:
    counts = Counter(project for _, project in known.repositories.values())
    theirs = await harbor.repository_counts()
    after = 0
    while rows := await harbor.projects(after, _BATCH):
        after = rows[-1].id
        for row in rows:
            if row.id not in known.projects or row.deleted:
                continue
            project_id, name, is_cache = known.projects[row.id]
            ours = await database.read(get, project_id)
            quota = row.quota_bytes if row.quota_bytes is not None and row.quota_bytes >= 0 else None
            there = (row.metadata.get("public") == "true", None if is_cache else quota, theirs.get(row.id, 0))
            here = (ours.public, ours.quota_bytes, counts[row.id]) if ours is not None else None
            if here == there:
                found.same["projects with visibility, quota and repositories"] += 1
            else:
                found.differ("projects", f"{name}: {there} there, {here} here")


def _is_cache(known: Known, repository_id: int) -> bool:
    return known.projects[known.repositories[repository_id][1]][2]
