"""Queries on the artifacts that a retention policy looks at: those that have changed, their facts, and what they free.

A run reads only artifacts that have changed since the last one: tags that were pushed, moved or removed, and manifests
that came. Artifacts that a rule by days has just given up count too, and the latest ones of each rule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, select, union, union_all

from app.oci.retention import BY_PULL, DAY, LATEST, Facts, Rule

from .artifacts import ATTACHING_ENDINGS, parts
from .engine import Transaction, insert
from .tables import link, manifest, manifest_label, part, repository, retention_kept, review, tag, tag_history
from .text import END_OF_NAMES

# A manifest without a tag stays for so long after its push, because its index may be on its way.
UNTAGGED_SECONDS = DAY
# The place of artifacts that the next run looks at again.
AGAIN = -1
# SQLite takes 500 SELECTs in one statement.
_AT_ONCE = 400
# A tag that attaches something to the manifest of that digest.
_ATTACHES = re.compile(rf"sha256-(?P<hex>[0-9a-f]{{64}})(?:{'|'.join(map(re.escape, ATTACHING_ENDINGS))})\Z")


@dataclass(frozen=True, slots=True)
class Unit:
    """An artifact to decide on; ``bound``: an index or a subject keeps its manifest, so only its tags go."""

    facts: Facts
    bound: bool


async def changed(
    transaction: Transaction, repository_id: int, rules: Collection[Rule], since: float, now: float
) -> set[str]:
    """Return the manifests of a repository on which the rules may decide otherwise than at ``since`` (Unix seconds)."""
    here, theirs = tag.c.repository_id == repository_id, manifest.c.repository_id == repository_id
    ways = [
        select(tag.c.digest).where(here, tag.c.updated_at > since),
        select(manifest.c.digest).where(theirs, manifest.c.created_at > since),
        select(tag_history.c.digest).where(tag_history.c.repository_id == repository_id, tag_history.c.until > since),
        select(retention_kept.c.digest).where(
            retention_kept.c.repository_id == repository_id, retention_kept.c.rule == AGAIN
        ),
    ]
    if any(rule.template in LATEST & BY_PULL for rule in rules):
        ways.append(select(manifest.c.digest).where(theirs, manifest.c.pulled_at > since))
    for rule in rules:
        if rule.template in LATEST or not rule.count:
            continue
        # Those that the rule kept then and does not keep now.
        begin, end = since - rule.count * DAY, now - rule.count * DAY
        if rule.template in BY_PULL:
            ways.append(
                select(manifest.c.digest).where(theirs, manifest.c.pulled_at > begin, manifest.c.pulled_at <= end)
            )
        else:
            ways.append(select(tag.c.digest).where(here, tag.c.updated_at > begin, tag.c.updated_at <= end))
            ways.append(
                select(manifest.c.digest).where(theirs, manifest.c.created_at > begin, manifest.c.created_at <= end)
            )
    return set((await transaction.execute(union(*ways))).scalars())


async def some_of_all(transaction: Transaction, repository_id: int, after: str, limit: int) -> list[str]:
    """List manifests of a repository by digest, past ``after``."""
    statement = (
        select(manifest.c.digest)
        .where(manifest.c.repository_id == repository_id, manifest.c.digest > after)
        .order_by(manifest.c.digest)
        .limit(limit)
    )
    return list((await transaction.execute(statement)).scalars())


async def units(
    transaction: Transaction, repository_id: int, digests: Sequence[str], *, locked: bool = False
) -> list[Unit]:
    """Read the artifacts among some manifests, at most 500; ``locked``, so that they get no tags and no pulls.

    Parts of another artifact are none: children of an index, referrers of a subject that is here, and manifests whose
    tags only attach them to one that is here. A manifest that has just lost its last tag is left to the collection,
    so that somebody may still point the tag back.
    """
    rows = select(manifest.c.digest, manifest.c.subject, manifest.c.created_at, manifest.c.pulled_at).where(
        manifest.c.repository_id == repository_id, manifest.c.digest.in_(digests)
    )
    found = (await transaction.execute(rows.order_by(manifest.c.digest).with_for_update() if locked else rows)).all()
    tags: dict[str, list[tuple[str, float]]] = {}
    named = select(tag.c.digest, tag.c.name, tag.c.updated_at).where(
        tag.c.repository_id == repository_id, tag.c.digest.in_([row[0] for row in found])
    )
    for digest, name, at in await transaction.execute(named):
        tags.setdefault(digest, []).append((name, at))
    wanted = {row[1] for row in found if row[1]} | {
        subject for names in tags.values() for name, _ in names if (subject := _subject(name)) is not None
    }
    here = await _present(transaction, repository_id, wanted)
    children = await _children(transaction, repository_id, [row[0] for row in found])
    leaving = await _under_review(transaction, repository_id, [row[0] for row in found])
    units = []
    for digest, subject, created_at, pulled_at in found:
        own = sorted(one for one in tags.get(digest, ()) if _subject(one[0]) not in here)
        bound = digest in children or subject in here
        if own or not (bound or digest in tags or digest in leaving):
            units.append(Unit(Facts(digest, tuple(own), created_at, pulled_at), bound))
    return units


def _subject(name: str) -> str | None:
    found = _ATTACHES.match(name)
    return None if found is None else f"sha256:{found['hex']}"


async def _present(transaction: Transaction, repository_id: int, digests: Iterable[str]) -> set[str]:
    found: set[str] = set()
    wanted = sorted(digests)
    for start in range(0, len(wanted), _AT_ONCE):
        some = manifest.c.digest.in_(wanted[start : start + _AT_ONCE])
        rows = select(manifest.c.digest).where(manifest.c.repository_id == repository_id, some)
        found.update((await transaction.execute(rows)).scalars())
    return found


async def _children(transaction: Transaction, repository_id: int, digests: Sequence[str]) -> set[str]:
    rows = select(part.c.digest).where(part.c.repository_id == repository_id, part.c.digest.in_(digests))
    return set((await transaction.execute(rows.where(part.c.is_manifest).distinct())).scalars())


async def _under_review(transaction: Transaction, repository_id: int, digests: Sequence[str]) -> set[str]:
    rows = select(review.c.digest).where(review.c.repository_id == repository_id, review.c.digest.in_(digests))
    return set((await transaction.execute(rows)).scalars())


async def latest(transaction: Transaction, repository_id: int) -> dict[int, set[str]]:
    """Return the artifacts that were the latest by each rule at the last run, by the rule's place."""
    rows = select(retention_kept.c.rule, retention_kept.c.digest).where(
        retention_kept.c.repository_id == repository_id, retention_kept.c.rule > AGAIN
    )
    found: dict[int, set[str]] = {}
    for rule, digest in await transaction.execute(rows):
        found.setdefault(rule, set()).add(digest)
    return found


async def set_latest(
    transaction: Transaction, repository_id: int, before: Mapping[int, set[str]], now: Mapping[int, set[str]]
) -> None:
    """Write the artifacts that are the latest by each rule; ``before`` is what `latest` returned."""
    for rule in {*before, *now}:
        gone = sorted(before.get(rule, set()) - now.get(rule, set()))
        for start in range(0, len(gone), _AT_ONCE):
            await _forget(transaction, repository_id, rule, gone[start : start + _AT_ONCE])
        await _keep(transaction, repository_id, rule, now.get(rule, set()) - before.get(rule, set()))


async def look_again(transaction: Transaction, repository_id: int, digests: Iterable[str]) -> None:
    """Have the next run look at some artifacts."""
    await _keep(transaction, repository_id, AGAIN, digests)


async def looked(transaction: Transaction, repository_id: int, digests: Sequence[str]) -> None:
    """Take artifacts off the list of those that the next run looks at; at most 500."""
    await _forget(transaction, repository_id, AGAIN, digests)


async def _keep(transaction: Transaction, repository_id: int, rule: int, digests: Iterable[str]) -> None:
    rows = [{"repository_id": repository_id, "rule": rule, "digest": digest} for digest in sorted(set(digests))]
    if rows:
        await transaction.execute(insert(transaction, retention_kept).on_conflict_do_nothing(), rows)


async def _forget(transaction: Transaction, repository_id: int, rule: int, digests: Sequence[str]) -> None:
    here = (retention_kept.c.repository_id == repository_id) & (retention_kept.c.rule == rule)
    await transaction.execute(delete(retention_kept).where(here, retention_kept.c.digest.in_(digests)))


@dataclass(slots=True)
class _Naming:
    """Parts of some manifests: how many of these name each, and its size in bytes."""

    manifests: dict[str, int] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    async def read(self, transaction: Transaction, repository_id: int, digests: Sequence[str]) -> None:
        for start in range(0, len(digests), _AT_ONCE):
            for one in await parts(transaction, repository_id, digests[start : start + _AT_ONCE]):
                named = self.manifests if one.is_manifest else self.blobs
                named[one.digest] = named.get(one.digest, 0) + 1
                if not one.is_manifest:
                    self.sizes[one.digest] = one.size


async def freed(transaction: Transaction, project_id: int, repository_id: int, digests: Sequence[str]) -> int:
    """Return the bytes that come free if these manifests go, with all that only they name: children, blobs, rows.

    A blob counts unless another manifest of the repository names it or another repository of the project links it.
    """
    naming = _Naming()
    await naming.read(transaction, repository_id, digests)
    only = await _named_by_these(transaction, repository_id, naming.manifests, are_manifests=True)
    children = sorted(set(only) - set(digests) - await _tagged(transaction, repository_id, only))
    await naming.read(transaction, repository_id, children)
    free = await _named_by_these(transaction, repository_id, naming.blobs, are_manifests=False)
    elsewhere = await _linked_elsewhere(transaction, project_id, repository_id, free)
    total = sum(naming.sizes[digest] for digest in free if digest not in elsewhere)
    gone = [*digests, *children]
    for start in range(0, len(gone), _AT_ONCE):
        for table in (manifest, tag, manifest_label):
            here = table.c.repository_id == repository_id, table.c.digest.in_(gone[start : start + _AT_ONCE])
            charged = (await transaction.execute(select(table.c.charged_bytes).where(*here))).scalars()
            total += sum(one or 0 for one in charged)
    return total


async def _named_by_these(
    transaction: Transaction, repository_id: int, naming: Mapping[str, int], *, are_manifests: bool
) -> list[str]:
    """Return the parts that no manifest names but those that were read."""
    digests, found = sorted(naming), []
    for start in range(0, len(digests), _AT_ONCE):
        some = digests[start : start + _AT_ONCE]
        # One more than is known is enough: a layer may belong to a hundred thousand images.
        each = [
            select(part.c.digest)
            .where(part.c.repository_id == repository_id, part.c.digest == digest)
            .where(part.c.is_manifest if are_manifests else ~part.c.is_manifest)
            .limit(naming[digest] + 1)
            .subquery()
            for digest in some
        ]
        counted = Counter((await transaction.execute(union_all(*(select(one) for one in each)))).scalars())
        found += [digest for digest in some if counted[digest] <= naming[digest]]
    return found


async def _tagged(transaction: Transaction, repository_id: int, digests: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(digests), _AT_ONCE):
        some = tag.c.digest.in_(digests[start : start + _AT_ONCE])
        rows = select(tag.c.digest).where(tag.c.repository_id == repository_id, some).distinct()
        found.update((await transaction.execute(rows)).scalars())
    return found


async def _linked_elsewhere(
    transaction: Transaction, project_id: int, repository_id: int, digests: Sequence[str]
) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(digests), _AT_ONCE):
        some = link.c.digest.in_(digests[start : start + _AT_ONCE])
        rows = select(link.c.digest).join_from(link, repository, repository.c.id == link.c.repository_id)
        # A repository in the bin goes as well.
        others = (link.c.repository_id != repository_id, repository.c.name < END_OF_NAMES)
        found.update((await transaction.execute(rows.where(link.c.project_id == project_id, some, *others))).scalars())
    return found


async def attached_by_tag(
    transaction: Transaction, repository_id: int, digests: Iterable[str]
) -> list[tuple[str, str, str]]:
    """List the tags that attach something to manifests: subject, tag, and the digest that the tag names."""
    names = {
        f"{digest.replace(':', '-')}{ending}": digest
        for digest in digests
        if digest.startswith("sha256:")
        for ending in ATTACHING_ENDINGS
    }
    found: list[tuple[str, str, str]] = []
    wanted = sorted(names)
    for start in range(0, len(wanted), _AT_ONCE):
        # One by one, because SQLite reads a whole index of the repository for a list of names.
        each = (
            select(tag.c.name, tag.c.digest).where(tag.c.repository_id == repository_id, tag.c.name == name)
            for name in wanted[start : start + _AT_ONCE]
        )
        rows = await transaction.execute(union_all(*each))
        found += [(names[name], name, digest) for name, digest in rows]
    return found
