"""Queries on digests that were deleted for good, so that every worker and host drops its copies of them."""

from __future__ import annotations

import time
from collections.abc import Collection

from sqlalchemy import delete, select

from app.oci.digest import Digest

from .engine import Transaction, insert
from .tables import purged


async def add(transaction: Transaction, digests: Collection[Digest]) -> None:
    """Note that digests were deleted for good."""
    rows = [{"digest": digest, "at": time.time()} for digest in sorted(set(digests))]
    if rows:
        made = insert(transaction, purged)
        await transaction.execute(
            made.on_conflict_do_update(index_elements=["digest"], set_={"at": made.excluded.at}), rows
        )


async def since(transaction: Transaction, after: float) -> list[Digest]:
    """List the digests that were deleted for good after a time (Unix seconds)."""
    rows = await transaction.execute(select(purged.c.digest).where(purged.c.at > after).order_by(purged.c.at))
    return [Digest(digest) for digest in rows.scalars()]


async def forget(transaction: Transaction, before: float) -> None:
    """Remove the notes of digests that every worker has dropped by now."""
    await transaction.execute(delete(purged).where(purged.c.at < before))
