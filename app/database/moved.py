"""Queries of moving in from a Harbor: what was moved, and writing much at once.

A row of ``moved`` is written in the transaction that writes what it notes. So a mover that is killed has noted exactly
what it has written.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import bindparam, delete, func, select, update

from app.oci.digest import Digest

from . import changes, quotas
from .blobs import FINAL, MOVE, OBJECT_GRACE_SECONDS, OPEN
from .engine import Transaction, insert
from .ids import retire
from .tables import access_key, account, blob, garbage, link, manifest, moved, project, repository, setting, tag

_CHUNK = 500
_FIRST_KEY, _AFTER_KEYS = "sha", "shb"


@dataclass(frozen=True, slots=True)
class Moved:
    """A row of Harbor's as it was when it was written here, and the id of our row."""

    state: str
    target: int


async def begin(transaction: Transaction) -> bool:
    """Note that a move has begun; return False if one was declared final."""
    await transaction.execute(insert(transaction, setting).values(name=MOVE, value=OPEN).on_conflict_do_nothing())
    return not await is_final(transaction)


async def is_final(transaction: Transaction) -> bool:
    """Return whether the move was declared final."""
    return (await transaction.execute(select(setting.c.value).where(setting.c.name == MOVE))).scalar() == FINAL


async def finish(transaction: Transaction) -> int:
    """Declare the move final, so that Harbor's objects that were held back are removed; return their number."""
    await transaction.execute(insert(transaction, setting).values(name=MOVE, value=FINAL).on_conflict_do_nothing())
    await transaction.execute(update(setting).where(setting.c.name == MOVE).values(value=FINAL))
    theirs = garbage.c.object_key.between(_FIRST_KEY, _AFTER_KEYS)
    release = update(garbage).where(theirs).values(remove_at=time.time() + OBJECT_GRACE_SECONDS)
    return (await transaction.execute(release)).rowcount


async def between(transaction: Transaction, kind: str, after: int, until: int) -> dict[int, Moved]:
    """Return what was moved of Harbor's rows with ids after ``after`` up to ``until``, by id."""
    here = (moved.c.kind == kind, moved.c.harbor_id > after, moved.c.harbor_id <= until)
    rows = await transaction.execute(select(moved.c.harbor_id, moved.c.state, moved.c.target).where(*here))
    return {row[0]: Moved(row[1], row[2]) for row in rows}


async def is_target(transaction: Transaction, kind: str, target: int) -> bool:
    """Return whether a row of ours is already what another row of Harbor's became. This reads all rows of the kind."""
    here = (moved.c.kind == kind, moved.c.target == target)
    return (await transaction.execute(select(moved.c.harbor_id).where(*here).limit(1))).first() is not None


async def last(transaction: Transaction, kind: str) -> int:
    """Return the highest id of Harbor's that was moved, 0 if none was."""
    highest = select(func.max(moved.c.harbor_id)).where(moved.c.kind == kind)
    return int((await transaction.execute(highest)).scalar() or 0)


async def note(transaction: Transaction, kind: str, rows: Mapping[int, Moved]) -> None:
    """Note what was written of Harbor's rows, by id."""
    values = [{"kind": kind, "harbor_id": key, "state": row.state, "target": row.target} for key, row in rows.items()]
    if values:
        statement = insert(transaction, moved)
        new = {"state": statement.excluded.state, "target": statement.excluded.target}
        put = statement.on_conflict_do_update(index_elements=["kind", "harbor_id"], set_=new)
        await transaction.execute(put, values)


async def forget(transaction: Transaction, kind: str, ids: Collection[int]) -> None:
    """Forget rows that Harbor does not have any more."""
    await transaction.execute(delete(moved).where(moved.c.kind == kind, moved.c.harbor_id.in_(ids)))


async def join(transaction: Transaction, kind: str, harbor_id: int) -> None:
    """Note that a row of Harbor's belongs to a row that was here before; the move does not change that one."""
    await note(transaction, f"joined {kind}", {harbor_id: Moved("", 0)})


async def is_joined(transaction: Transaction, kind: str, harbor_id: int) -> bool:
    """Return whether `join` was called for a row of Harbor's."""
    return bool(await between(transaction, f"joined {kind}", harbor_id - 1, harbor_id))


async def forget_others(transaction: Transaction, kind: str, kept: int) -> None:
    """Forget all rows of a kind but one, which says how far a log was moved."""
    await transaction.execute(delete(moved).where(moved.c.kind == kind, moved.c.harbor_id != kept))


def charge_unchecked(transaction: Transaction) -> None:
    """Let the transaction charge what it writes without asking whether it fits: Harbor has it already."""
    noted = changes.noted(transaction)
    if noted is not None:
        noted.settle = partial(quotas.settle, checked=False)


async def known_blobs(transaction: Transaction, digests: Iterable[str]) -> dict[str, int]:
    """Return the sizes in bytes of those of the blobs whose objects are known to be in Harbor's store."""
    found: dict[str, int] = {}
    for some in _chunks(sorted(set(digests))):
        here = (blob.c.digest.in_(some), blob.c.object_key == blob.c.digest)
        rows = await transaction.execute(select(blob.c.digest, blob.c.size).where(*here))
        found.update({row[0]: row[1] for row in rows})
    return found


async def adopt_blobs(
    transaction: Transaction, project_id: int, repository_id: int, sizes: Mapping[Digest, int]
) -> None:
    """Write blobs whose objects stay where Harbor has them, unless we have them already, and link them.

    ``sizes`` are in bytes. As `blobs.add` and `blobs.add_link` do it, for many at once.
    """
    now, digests = time.time(), sorted(sizes)
    for some in _chunks(digests):
        rows = [{"digest": each, "object_key": each, "size": sizes[Digest(each)], "created_at": now} for each in some]
        await transaction.execute(insert(transaction, blob).on_conflict_do_nothing(), rows)
        locked = select(blob.c.digest, blob.c.object_key, blob.c.size).where(blob.c.digest.in_(some))
        found = (await transaction.execute(locked.order_by(blob.c.digest).with_for_update(key_share=True))).all()
        adopted = [row.digest for row in found if row.object_key == row.digest]
        await transaction.execute(delete(garbage).where(garbage.c.object_key.in_(adopted)))
        charged = select(link.c.digest).where(link.c.project_id == project_id, link.c.digest.in_(some)).distinct()
        paid = set((await transaction.execute(charged)).scalars())
        linked = select(link.c.digest).where(link.c.repository_id == repository_id, link.c.digest.in_(some))
        missing = sorted(set(some) - set((await transaction.execute(linked)).scalars()))
        ours = {"repository_id": repository_id, "project_id": project_id, "pulled_at": now}
        if missing:
            await transaction.execute(
                insert(transaction, link).on_conflict_do_nothing(), [ours | {"digest": each} for each in missing]
            )
        owed = sum(row.size for row in found if row.digest in missing and row.digest not in paid)
        quotas.owe(transaction, repository_id, owed)
        charge_unchecked(transaction)


async def date_manifests(transaction: Transaction, times: Mapping[tuple[int, str], tuple[float, float]]) -> None:
    """Set when manifests were pushed and last pulled (Unix seconds), by (repository id, digest)."""
    rows = [{"r": key[0], "d": key[1], "pushed": at[0], "pulled": at[1]} for key, at in sorted(times.items())]
    if rows:
        here = (manifest.c.repository_id == bindparam("r"), manifest.c.digest == bindparam("d"))
        values: dict[str, Any] = {"created_at": bindparam("pushed"), "pulled_at": bindparam("pulled")}
        await transaction.execute(update(manifest).where(*here).values(values), rows)


async def date_tags(transaction: Transaction, times: Mapping[tuple[int, str], float], *, checked: bool) -> None:
    """Set when tags were pushed (Unix seconds), by (repository id, name).

    Unless ``checked``, those of a mirror are compared with the upstream at the next pull.
    """
    rows = [{"r": key[0], "n": key[1], "at": at} for key, at in sorted(times.items())]
    if rows:
        here = (tag.c.repository_id == bindparam("r"), tag.c.name == bindparam("n"))
        values: dict[str, Any] = {"updated_at": bindparam("at"), "checked_at": bindparam("at") if checked else 0.0}
        await transaction.execute(update(tag).where(*here).values(values), rows)


async def tags_here(transaction: Transaction, repository_id: int, names: Collection[str]) -> dict[str, str]:
    """Return what tags of a repository name, by name."""
    here = (tag.c.repository_id == repository_id, tag.c.name.in_(names))
    return {row[0]: row[1] for row in await transaction.execute(select(tag.c.name, tag.c.digest).where(*here))}


async def describe_repository(
    transaction: Transaction, repository_id: int, *, description: str, created_at: float, more_pulls: int
) -> None:
    """Set what Harbor says of a repository, and add the pulls that it has counted since."""
    values = {
        "description": description,
        "created_at": created_at,
        "pull_count": repository.c.pull_count + more_pulls,
    }
    await transaction.execute(update(repository).where(repository.c.id == repository_id).values(values))


async def add_key(
    transaction: Transaction, account_id: int, *, name: str, login_name: str, secret_hash: str,
    permissions: Mapping[str, Sequence[str]], expires_at: float,
) -> None:  # fmt: skip
    """Write the secret of a person's command line as an access key, in the place of the one before."""
    theirs = (access_key.c.account_id == account_id, access_key.c.name == name)
    changes.changed(
        transaction,
        *map(
            changes.account_named,
            (await transaction.execute(select(account.c.username).where(account.c.id == account_id))).scalars(),
        ),
    )
    changes.changed(transaction, changes.account_named(login_name))
    await retire(transaction, access_key)
    await transaction.execute(delete(access_key).where(*theirs))
    values = {
        "account_id": account_id,
        "name": name,
        "login_name": login_name,
        "secret_hash": secret_hash,
        "permissions": dict(permissions),
        "created_at": time.time(),
        "expires_at": expires_at,
    }
    await transaction.execute(insert(transaction, access_key).values(values).on_conflict_do_nothing())


async def adopted(transaction: Transaction, after: str, limit: int) -> list[tuple[Digest, int]]:
    """List blobs whose objects are still Harbor's, by digest, with their sizes in bytes."""
    here = (blob.c.object_key == blob.c.digest, blob.c.digest > after)
    rows = await transaction.execute(
        select(blob.c.digest, blob.c.size).where(*here).order_by(blob.c.digest).limit(limit)
    )
    return [(Digest(row[0]), row[1]) for row in rows]


async def adopted_total(transaction: Transaction) -> tuple[int, int]:
    """Count the blobs whose objects are still Harbor's, and their bytes; this reads the whole table."""
    total = select(func.count(), func.coalesce(func.sum(blob.c.size), 0)).where(blob.c.object_key == blob.c.digest)
    count, size = (await transaction.execute(total)).one()
    return int(count), int(size)


async def replace_object(transaction: Transaction, digest: Digest, key: str) -> bool:
    """Let a blob name our copy instead of Harbor's object; return False if it does not name that any more.

    Harbor's object stays for longer than anybody keeps a copy of the row.
    """
    here = (blob.c.digest == digest, blob.c.object_key == digest)
    if not (await transaction.execute(update(blob).where(*here).values(object_key=key))).rowcount:
        return False
    await transaction.execute(delete(garbage).where(garbage.c.object_key == key))
    return True


async def usage(transaction: Transaction, names: Collection[str]) -> dict[str, tuple[int | None, int, bool]]:
    """Return quota and blob bytes of projects, and whether they are public, by name."""
    theirs = select(link.c.digest).where(link.c.project_id == project.c.id).distinct().scalar_subquery()
    held = select(func.coalesce(func.sum(blob.c.size), 0)).where(blob.c.digest.in_(theirs)).scalar_subquery()
    rows = select(project.c.name, project.c.quota_bytes, held, project.c.public).where(project.c.name.in_(names))
    return {row[0]: (row[1], int(row[2]), row[3]) for row in await transaction.execute(rows)}


def _chunks(digests: Sequence[str]) -> Iterable[Sequence[str]]:
    return (digests[start : start + _CHUNK] for start in range(0, len(digests), _CHUNK))
