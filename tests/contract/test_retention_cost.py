"""A run over a large repository reads what has changed and what goes, counted in PostgreSQL's buffers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import text

from app.database import Database
from app.oci.retention import Rule, Template
from app.oci.selectors import Selector
from tests.api.documents import EMPTY, image

from .house import House
from .rows import rows
from .test_retention import Keeper, latest

_BUFFERS = "SELECT sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit) FROM pg_statio_user_tables"


@pytest.fixture
def kind() -> str:
    """PostgreSQL: SQLite counts no buffers."""
    return "postgresql"


async def filled(keeper: Keeper, size: int) -> None:
    """Fill a repository with ``size`` tags that a rule keeps, as if a run had looked at them an hour ago."""
    repository = await keeper.house.id_of()
    policy = await keeper.use(Rule(Template.ALWAYS, tags=Selector("build-*")), latest(3, "v*"))
    now = time.time()
    digest, series = "'sha256:' || lpad(to_hex(i), 64, '0')", f"FROM generate_series(1, {size}) AS series(i)"
    kinds = "repository_id, digest, media_type, annotations, payload, size, created_at, pulled_at, charged_bytes"
    tags, at = "repository_id, name, digest, updated_at, checked_at, charged_bytes", f"{now} - 9000 - i"
    async with keeper.house.database.transaction() as transaction:
        for statement in (
            f"INSERT INTO manifest ({kinds}) SELECT {repository}, {digest}, 'x', '{{}}', '', 1, {at}, {at}, 1 {series}",
            f"INSERT INTO tag ({tags}) SELECT {repository}, 'build-' || i, {digest}, {at}, {now}, 0 {series}",
            f"UPDATE project SET used_bytes = used_bytes + {size}",
            f"UPDATE retention SET evaluated_at = {now} - 3600 WHERE id = {policy.id}",
        ):
            await transaction.execute(text(statement))


async def buffers(keeper: Keeper) -> float:
    """Return what one run reads; the connections of its own tell their counts when they close."""

    async def counted() -> float:
        return float((await rows(keeper.house.database, _BUFFERS))[0][0])

    await keeper.house.database.close()
    before = await counted()
    await keeper.house.database.close()
    removed = await keeper.run()
    assert len(removed) == 4
    await keeper.house.database.close()
    return await counted() - before


async def cost(house: House, size: int) -> float:
    made = await house.project()
    await house.quotas.set(await house.admin(), made.id, None)
    await house.push_blob(EMPTY)
    keeper = Keeper(house, made.id)
    await filled(keeper, size)
    async with house.database.apart() as connection:
        await connection.execute(text("VACUUM ANALYZE"))
    for number in range(7):
        await house.push(image(annotations={"build": str(number)}), f"v{number}")
    async with house.database.transaction() as transaction:
        await transaction.execute(text("UPDATE tag SET updated_at = updated_at - 20 WHERE name LIKE 'v%'"))
        await transaction.execute(text("UPDATE manifest SET pulled_at = pulled_at - 60 WHERE media_type <> 'x'"))
    return await buffers(keeper)


@pytest.mark.parametrize("size", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
async def test_many_tags_cost_a_run_nothing(database: Database, tmp_path: Path, size: int) -> None:
    house = House(database, tmp_path / "blobs")
    await house.store.start()
    spent = await cost(house, size)
    await house.check_books()
    await house.store.close()
    # Four artifacts go, and three stay. One read of all the tags' rows would be more than this by itself.
    assert spent < min(1500, size / 4)
