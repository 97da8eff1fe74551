"""Charge the manifests, tags and labels that an older release wrote, which charged blobs only.

A row without ``charged_bytes`` is one of these. An index lists them, so a batch takes the first few. It passes by rows
that a request has locked, so that neither waits for the other. The quota does not refuse them, because they are here
already.
"""

from __future__ import annotations

from collections import Counter
from itertools import accumulate

from sqlalchemy import Table, Text, bindparam, cast, func, select, update

from . import quotas
from .engine import Transaction
from .tables import manifest, manifest_label, part, tag

# Each may be of another project, whose row is locked until the batch ends.
_ROWS = 100
# SQLite writes a whole row again, and both databases read its annotations. So a batch has few large manifests.
_MANIFEST_BYTES = 1024 * 1024


async def charge_some(transaction: Transaction) -> int:
    """Charge the next few rows; return how many there were."""
    charged = await _charge_manifests(transaction)
    for table in (tag, manifest_label):
        charged = charged or await _charge_rows(transaction, table)
    return charged


async def _charge_manifests(transaction: Transaction) -> int:
    parts = (
        select(func.count())
        .where(part.c.repository_id == manifest.c.repository_id, part.c.manifest == manifest.c.digest)
        .correlate(manifest)
        .scalar_subquery()
    )
    first = (
        select(manifest.c.repository_id, manifest.c.digest, manifest.c.size)
        .where(manifest.c.charged_bytes.is_(None))
        .order_by(manifest.c.repository_id, manifest.c.digest)
        .limit(_ROWS)
        .with_for_update(key_share=True, skip_locked=True)
    )
    rows = (await transaction.execute(first)).all()
    before = accumulate((row.size for row in rows), initial=0)
    keys = [row[:2] for row, size in zip(rows, before, strict=False) if size < _MANIFEST_BYTES]
    annotations = func.length(cast(manifest.c.annotations, Text))
    price = manifest.c.size + annotations + quotas.ROW_BYTES * (1 + parts)
    charge = (
        update(manifest)
        .where(manifest.c.repository_id == bindparam("r"), manifest.c.digest == bindparam("d"))
        .values(charged_bytes=price)
        .returning(manifest.c.charged_bytes)
    )
    owed: Counter[int] = Counter()
    for repository_id, digest in keys:
        owed[repository_id] += (await transaction.execute(charge, {"r": repository_id, "d": digest})).scalar_one()
    await quotas.settle(transaction, owed, checked=False)
    return len(keys)


async def _charge_rows(transaction: Transaction, table: Table) -> int:
    key = list(table.primary_key)
    left = select(*key).where(table.c.charged_bytes.is_(None)).order_by(*key).limit(_ROWS)
    rows = (await transaction.execute(left.with_for_update(key_share=True, skip_locked=True))).mappings().all()
    if rows:
        this = (column == bindparam(f"the_{column.name}") for column in key)
        charge = update(table).where(*this).values(charged_bytes=quotas.ROW_BYTES)
        await transaction.execute(charge, [{f"the_{name}": value for name, value in row.items()} for row in rows])
    counts = Counter(row["repository_id"] for row in rows)
    owed = {repository_id: quotas.ROW_BYTES * count for repository_id, count in counts.items()}
    await quotas.settle(transaction, owed, checked=False)
    return len(rows)
