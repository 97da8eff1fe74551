"""Retention, immutable tags, the history and the bin against a model, under random operations of workers at once.

Each round has two parts. In the first, workers push, move, mount, delete, restore, delete for good, pull and point back
while rules change, a collection runs and a policy runs. The quota may need the room of the bin. Then it is quiet, days
pass, and the policy runs once more: it removes what its dry run named, and nothing that a rule keeps by a plain reading
of all rows. What was deleted is in the bin, whole; what people see has all its parts.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from app.access.errors import Missing
from app.database import Database
from app.database.binned import Entry
from app.oci.digest import Digest
from app.oci.errors import OCIError
from app.oci.reference import Tag
from app.oci.retention import DAY, Rule, Template
from app.oci.selectors import Selector
from app.registry.pulls import Pulls
from app.registry.tags import Tags
from tests.api.documents import EMPTY, image

from .bin_house import MARI, BinHouse, bin_house
from .house import House
from .rows import rows
from .test_retention import Keeper

REPOSITORIES = ("app", "team/tool")
TAGS = ("v1", "v2", "v3", "keep-1", "keep-2", "frozen-1", "frozen-2", "latest")
LAYERS = [f"layer {number} ".encode() * 50 for number in range(3)]
SEEN = (
    "SELECT repository_id, tag.name, digest FROM tag JOIN repository ON repository.id = repository_id"
    " WHERE repository.name < '~'"
)
POLICIES: Sequence[Sequence[Rule]] = (
    (Rule(Template.LATEST_PUSHED, 2, Selector("v*")), Rule(Template.ALWAYS, tags=Selector("keep-*"))),
    (
        Rule(Template.DAYS_SINCE_PUSH, 3, untagged=True),
        Rule(Template.LATEST_PULLED, 1),
        Rule(Template.ALWAYS, tags=Selector("keep-*")),
    ),
    (
        Rule(Template.LATEST_PUSHED, 3, untagged=True, repositories=Selector("app")),
        Rule(Template.DAYS_SINCE_PULL, 2, Selector("{v*,latest}")),
        Rule(Template.ALWAYS, tags=Selector("keep-*")),
    ),
)


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[BinHouse]:
    async with bin_house(database, tmp_path / "blobs") as house:
        yield house


class Worker:
    """Somebody who does anything with what a few tags name, mounts layers too, but never deletes a keep-* tag."""

    def __init__(self, house: BinHouse, project_id: int, seed: int) -> None:
        self.house = house
        self.project_id = project_id
        self.random = random.Random(seed)
        self.pulls = Pulls(house.database)
        # The artifacts that have been in the bin, and of these the ones that may have left it.
        self.deleted: set[str] = set()
        self.left: set[str] = set()

    async def act(self) -> None:
        name, tag = self.random.choice(REPOSITORIES), self.random.choice(TAGS)
        often = (self._push, self._push, self._push, self._delete)
        act = self.random.choice((*often, self._mount, self._pull, self._back, self._restore, self._restore, self._end))
        # What is not there, or immutable, is refused.
        with suppress(OCIError):
            await act(name, tag)

    async def _push(self, name: str, tag: str) -> None:
        build = self.random.randrange(12)
        payload = image(LAYERS[build % len(LAYERS)], annotations={"build": str(build)})
        names = self.random.choice(((tag,), (tag, "latest"), ()))
        if self.random.random() < 0.3:
            for data in (EMPTY, LAYERS[build % len(LAYERS)]):
                await self.house.push_blob(data, to=f"physics/{name}")
        await self.house.push(payload, *names, to=f"physics/{name}")

    async def _mount(self, name: str, tag: str) -> None:
        """Push an image with a layer that the other repository may have."""
        layer, path = self.random.choice(LAYERS), f"physics/{name}"
        (other,) = set(REPOSITORIES) - {name}
        source = await self.house.open(f"physics/{other}") if self.random.random() < 0.5 else None
        if not await self.house.blobs.mount(await self.house.open(path), Digest.of(layer), source, "person:mari"):
            await self.house.push_blob(layer, to=path)
        await self.house.push(image(layer), tag, to=path, by="person:mari")

    async def _pull(self, name: str, tag: str) -> None:
        repository_id = await self.house.id_of(f"physics/{name}")
        digest = await self.house.artifacts.resolve(repository_id, Tag(tag))
        self.pulls.manifest(repository_id, digest, counts=True)
        await self.pulls.flush()

    async def _delete(self, name: str, tag: str) -> None:
        if tag.startswith("keep-"):
            return
        repository = await self.house.open(f"physics/{name}")
        assert repository.id is not None
        digest = await self.house.artifacts.resolve(repository.id, Tag(tag))
        await self.house.artifacts.remove_tag(repository.id, digest, Tag(tag), MARI)
        self.deleted.add(f"{name}@{digest}")

    async def _restore(self, name: str, tag: str) -> None:
        entry = await self._any()
        restored = await self.house.bin.restore(self.project_id, entry.id, MARI)
        self.left.add(entry.name)
        assert {*restored.tags, *restored.taken} >= set(entry.tags)

    async def _end(self, name: str, tag: str) -> None:
        entry = await self._any()
        self.left.add(entry.name)
        await self.house.bin.delete(self.project_id, entry.id)

    async def _any(self) -> Entry:
        entries = await self.house.entries(self.project_id)
        if not entries:
            raise Missing
        return self.random.choice(entries)

    async def _back(self, name: str, tag: str) -> None:
        repository_id, tags = await self.house.id_of(f"physics/{name}"), Tags(self.house.database)
        past = (await tags.history(repository_id, Tag(tag))).past
        if not past:
            raise Missing
        await tags.point_back(repository_id, Tag(tag), self.random.choice(past).digest, "person:mari")


async def pass_days(house: House, days: float) -> None:
    """Let everything have happened earlier."""
    columns = {
        "tag": ("updated_at", "pointed_at"),
        "manifest": ("created_at", "pulled_at"),
        "tag_history": ("until",),
        "review": ("review_at",),
        "garbage": ("remove_at",),
        "retention": ("evaluated_at",),
        "repository": ("deleted_at",),
    }
    async with house.database.transaction() as transaction:
        for table, names in columns.items():
            moved = ", ".join(f"{name} = {name} - {days * DAY}" for name in names)
            await transaction.execute(text(f"UPDATE {table} SET {moved}"))


async def kept_by_plain_reading(keeper: Keeper) -> set[tuple[str, str]]:
    """Return what stays by the rules, from all rows: repository and digest."""
    now, stays = time.time(), set()
    rules = (await keeper.policy()).rules
    held = await keeper.house.immutability.rules(keeper.project_id)
    for repository_id, name in await rows(keeper.house.database, "SELECT id, name FROM repository WHERE name < '~'"):
        here = f"WHERE repository_id = {repository_id}"
        found = await rows(keeper.house.database, f"SELECT digest, created_at, pulled_at FROM manifest {here}")
        tags: dict[str, list[tuple[str, float]]] = {row[0]: [] for row in found}
        for tag, digest, at in await rows(keeper.house.database, f"SELECT name, digest, updated_at FROM tag {here}"):
            tags[digest].append((tag, at))
        over = [rule for rule in rules if rule.repositories.takes(name)]
        stays |= {(name, row[0]) for row in found if not over}
        for digest, own in tags.items():
            if any(one.holds(name, tag, now) for one in held for tag, _ in own):
                stays.add((name, digest))
        for rule in over:
            taken: list[tuple[float, str]] = []
            for digest, created_at, pulled_at in found:
                times = [at for tag, at in tags[digest] if rule.tags.takes(tag)]
                times += [created_at] if rule.untagged and not tags[digest] else []
                by_pull = rule.template in (Template.LATEST_PULLED, Template.DAYS_SINCE_PULL)
                taken += [(pulled_at if by_pull else max(times), digest)] if times else []
            if rule.template in (Template.LATEST_PULLED, Template.LATEST_PUSHED):
                taken = sorted(taken)[-rule.count :]
            elif rule.template is not Template.ALWAYS:
                taken = [one for one in taken if one[0] > now - rule.count * DAY]
            stays |= {(name, digest) for _, digest in taken}
    return stays


async def check_parts(house: BinHouse) -> None:
    """Every blob that a manifest names is linked in its repository, also in the bin, and its object is in the store."""
    lost = (
        "SELECT p.repository_id, p.manifest, p.digest FROM part p LEFT JOIN link l ON l.digest = p.digest AND "
        "l.repository_id = p.repository_id LEFT JOIN blob b ON b.digest = l.digest WHERE NOT p.is_manifest "
        "AND b.digest IS NULL"
    )
    assert await rows(house.database, lost) == []
    there = {path.name for path in house.folder.rglob("*")}
    assert {row[0] for row in await rows(house.database, "SELECT object_key FROM blob")} <= there


async def walk(house: BinHouse, seed: int, rounds: int) -> None:
    made = await house.project()
    await house.quotas.set(await house.admin(), made.id, None)
    for name in REPOSITORIES:
        for data in (EMPTY, *LAYERS):
            await house.push_blob(data, to=f"physics/{name}")
    keeper, chance = Keeper(house, made.id, has_bin=True), random.Random(seed)
    workers = [Worker(house, made.id, seed * 100 + number) for number in range(4)]
    await keeper.use(*POLICIES[seed % len(POLICIES)])
    frozen = await house.immutability.create(made.id, tags=Selector("frozen-*"))

    async def work(worker: Worker) -> None:
        for _ in range(8):
            await worker.act()

    async def manage() -> None:
        await keeper.policies.begin((await keeper.policy()).id, dry_run=False)
        await keeper.runs.work()
        await house.collection.collect()

    for _ in range(rounds):
        await house.immutability.change(made.id, frozen.id, disabled=False)
        before = await rows(house.database, f"{SEEN} AND tag.name LIKE 'frozen-%'")
        keeps = await rows(house.database, f"{SEEN} AND tag.name LIKE 'keep-%'")
        needed = chance.random() < 0.3
        await house.quotas.set(await house.admin(), made.id, await house.used(made.id) + 2000 if needed else None)
        for worker in workers:
            worker.deleted, worker.left = set(), set()
        await asyncio.gather(manage(), *map(work, workers))
        after = await rows(house.database, SEEN)
        assert set(before) <= set(after), "an immutable tag names what it named"
        kept = {row[:2] for row in after}
        assert {row[:2] for row in keeps} <= kept, "a rule keeps them always, and nobody deleted them"
        in_bin = {one.name for one in await house.entries(made.id)}
        gone = set().union(*(worker.deleted for worker in workers)) - set().union(*(worker.left for worker in workers))
        assert needed or gone <= in_bin, "what somebody deleted can be restored"
        await pass_days(house, chance.choice((0.3, 1.1, 2.0)))
        if chance.random() < 0.3:
            await house.immutability.change(made.id, frozen.id, disabled=True)
        if chance.random() < 0.5:
            await house.collection.collect()
        stays, named = await kept_by_plain_reading(keeper), await keeper.run(dry_run=True)
        removed = await keeper.run()
        assert removed == named, "a run removes what the dry run named"
        assert stays.isdisjoint(one[:2] for one in removed), "nothing that a rule keeps is lost"
        there = await rows(house.database, "SELECT name, digest FROM manifest JOIN repository ON repository_id = id")
        assert {one[:2] for one in removed}.isdisjoint(tuple(row) for row in there)
        in_bin = {one.name for one in await house.entries(made.id)}
        assert {f"{name}@{digest}" for name, digest, _ in removed} <= in_bin, "what a run removes can be restored"
        await house.check_books()
        await check_parts(house)


@pytest.mark.parametrize("seed", range(3))
async def test_against_a_model(house: BinHouse, seed: int) -> None:
    await walk(house, seed, rounds=2)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(100, 112))
async def test_against_a_model_for_long(house: BinHouse, seed: int) -> None:
    await walk(house, seed, rounds=12)
