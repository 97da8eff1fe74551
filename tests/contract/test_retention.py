"""Retention: what a rule keeps stays, a run removes what a dry run names, and it reads what has changed."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import text

from app.access.errors import Conflict, Invalid, Missing
from app.config import Policy as Config
from app.database import retention
from app.database.retention import Policy, Status, Task
from app.oci.digest import Digest
from app.oci.manifest import OCI_INDEX
from app.oci.reference import Tag
from app.oci.retention import DAY, Rule, Template
from app.oci.selectors import Selector
from app.projects.audit import Audit
from app.projects.retention import Retentions
from app.registry.pulls import Pulls
from app.registry.retention_runs import RetentionRuns
from tests.api.documents import EMPTY, image, index

from .house import House
from .rows import rows


class Keeper:
    """The retention of one project; `run` gives what was removed, by repository: digests and tags."""

    def __init__(self, house: House, project_id: int, *, has_bin: bool = False) -> None:
        self.house = house
        self.project_id = project_id
        self.policies = Retentions(house.database)
        audit = Audit(house.database, Config(), str)
        self.runs = RetentionRuns(house.database, audit, settle_seconds=0.0, has_bin=has_bin)

    async def policy(self) -> Policy:
        found = await self.policies.of_project(self.project_id)
        assert found is not None
        return found

    async def use(self, *rules: Rule, schedule: str = "") -> Policy:
        found = await self.policies.of_project(self.project_id)
        if found is None:
            return await self.policies.create(self.project_id, rules, schedule)
        await self.policies.change(found.id, rules, schedule)
        return await self.policy()

    async def tasks(self, *, dry_run: bool = False) -> list[Task]:
        policy = await self.policy()
        number = await self.policies.begin(policy.id, dry_run=dry_run)
        await self.runs.work()
        assert (await self.policies.execution(policy.id, number)).status == Status.SUCCESS
        return (await self.policies.tasks(number, limit=1000))[0]

    async def run(self, *, dry_run: bool = False) -> set[tuple[str, str, str]]:
        return {
            (task.repository, one["digest"], " ".join(one["tags"]))
            for task in await self.tasks(dry_run=dry_run)
            for one in task.removed
        }

    async def tags(self, *names: str) -> set[str]:
        """Run, after a dry run has named the same; give the tags that went."""
        named = await self.run(dry_run=True)
        removed = await self.run()
        assert named == removed
        return {tag for _, _, tags in removed for tag in tags.split()}


@pytest.fixture
async def keeper(house: House) -> Keeper:
    made = await house.project()
    await house.quotas.set(await house.admin(), made.id, None)
    await house.push_blob(EMPTY)
    return Keeper(house, made.id)


def build(number: object) -> bytes:
    return image(annotations={"build": str(number)})


async def push(keeper: Keeper, *names: str, days: float = 0.0, to: str = "physics/app") -> list[Digest]:
    """Push an image for each tag, the first one first; ``days`` ago."""
    digests = [await keeper.house.push(build(f"{to} {name}"), name, to=to) for name in names]
    await ago(keeper.house, days, *digests)
    return digests


async def ago(house: House, days: float, *digests: Digest) -> None:
    """Let pushes and pulls of manifests have been so many days earlier, and be in order."""
    listed = ", ".join(f"'{digest}'" for digest in digests)
    async with house.database.transaction() as transaction:
        for table, columns in (("tag", ("updated_at", "pointed_at")), ("manifest", ("created_at", "pulled_at"))):
            moved = ", ".join(f"{column} = {column} - {days * DAY + 20}" for column in columns)
            await transaction.execute(text(f"UPDATE {table} SET {moved} WHERE digest IN ({listed})"))


def latest(count: int, tags: str = "**", **more: object) -> Rule:
    return Rule(Template.LATEST_PUSHED, count, Selector(tags), **more)  # type: ignore[arg-type]


async def test_each_rule_keeps_what_it_says(keeper: Keeper) -> None:
    await push(keeper, "old", "v1", days=9)
    await push(keeper, "v2", "x", days=5)
    await push(keeper, "v3", "new", days=1)
    await keeper.use(Rule(Template.ALWAYS), latest(1))
    assert await keeper.tags() == set()
    await keeper.use(Rule(Template.DAYS_SINCE_PUSH, 7))
    assert await keeper.tags() == {"old", "v1"}
    await keeper.use(latest(1, "v*"), Rule(Template.ALWAYS, tags=Selector("x")), latest(9, disabled=True))
    assert await keeper.tags() == {"v2", "new"}
    await push(keeper, "a", "b", days=3)
    await keeper.use(Rule(Template.LATEST_PULLED, 1, Selector("v*", excludes=True)), Rule(Template.DAYS_SINCE_PULL, 2))
    async with keeper.house.database.transaction() as transaction:
        await transaction.execute(text(f"UPDATE manifest SET pulled_at = {time.time() - 60} "
                                       "WHERE digest = (SELECT digest FROM tag WHERE name = 'a')"))  # fmt: skip
    assert await keeper.tags() == {"b", "x"}, "v3 came a day ago"
    left = await rows(keeper.house.database, "SELECT name FROM tag ORDER BY name")
    assert [row[0] for row in left] == ["a", "v3"]


async def test_an_artifact_stays_with_all_its_tags(keeper: Keeper) -> None:
    digest = (await push(keeper, "v1", days=9))[0]
    await keeper.house.artifacts.add_tag(await keeper.house.id_of(), digest, Tag("latest"))
    await push(keeper, "other")
    await keeper.use(latest(5, "v*"))
    assert await keeper.tags() == {"other"}


async def test_repositories_without_a_rule_stay(keeper: Keeper) -> None:
    await keeper.house.push_blob(EMPTY, to="physics/team/app")
    await push(keeper, "a", "b", days=1)
    await push(keeper, "a", "b", days=1, to="physics/team/app")
    await keeper.use(Rule(Template.LATEST_PUSHED, 1, repositories=Selector("team/**")))
    assert {(one[0], one[2]) for one in await keeper.run()} == {("team/app", "a")}


async def test_parts_and_attachments_go_with_their_artifact_only(keeper: Keeper) -> None:
    house = keeper.house
    child, other = build("child"), build("other child")
    for payload in (child, other):
        await house.push(payload)
    whole = await house.push(index(child), "v1", media_type=OCI_INDEX)
    subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": whole, "size": len(index(child))}
    signature = await house.push(image(subject=subject, artifactType="application/x-signature"))
    by_tag = await house.push(build("cosign"), f"sha256-{whole.hex}.sig")
    old = await house.push(index(other), "v0", media_type=OCI_INDEX)
    old_signature = await house.push(build("cosign of v0"), f"sha256-{old.hex}.sig")
    everything = [Digest.of(child), Digest.of(other), whole, signature, by_tag, old, old_signature]
    await ago(house, 5, *everything)
    await ago(house, 1, old, Digest.of(other), old_signature)
    await keeper.use(latest(1, "v?"))
    assert await keeper.tags() == {"v0", f"sha256-{old.hex}.sig"}
    async with house.database.transaction() as transaction:
        await transaction.execute(text("UPDATE review SET review_at = 1"))
    await house.collection.collect()
    left = {row[0] for row in await rows(house.database, "SELECT digest FROM manifest")}
    assert left == {Digest.of(child), whole, signature, by_tag}


async def test_what_is_immutable_stays_until_its_rule_ends(keeper: Keeper) -> None:
    await push(keeper, "v1", "v2", "x", days=3)
    rule = await keeper.house.immutability.create(keeper.project_id, tags=Selector("v*"))
    await keeper.use(latest(1, "none"))
    assert await keeper.tags() == {"x"}
    assert await keeper.tags() == set()
    await keeper.house.immutability.change(keeper.project_id, rule.id, tags=Selector("v2"))
    assert await keeper.tags() == {"v1"}
    await keeper.house.immutability.change(keeper.project_id, rule.id, ends_at=time.time() - 0.001)
    assert await keeper.tags() == {"v2"}


async def test_untagged_ones(keeper: Keeper) -> None:
    house = keeper.house
    pinned, young = await house.push(build("pinned")), await house.push(build("young"))
    await ago(house, 3, pinned)
    await push(keeper, "v1")
    await keeper.use(latest(5, untagged=True))
    assert await keeper.run() == set()
    first = await house.push(build("moves"), "v2")
    await house.push(build("moved"), "v2")
    async with house.database.transaction() as transaction:
        await transaction.execute(text("UPDATE review SET review_at = 1"))
    await house.collection.collect()
    assert (first,) in await rows(house.database, "SELECT digest FROM manifest"), "a rule keeps it"
    await keeper.use(latest(5))
    await ago(house, 3, first)
    assert {one[1] for one in await keeper.run()} == {pinned, first}, f"not {young}, whose index may be on its way"


async def test_what_is_pulled_while_it_runs_stays_and_is_looked_at_again(keeper: Keeper) -> None:
    house, pulls = keeper.house, Pulls(keeper.house.database)
    old, older = await push(keeper, "old", "older", days=3)
    keeper.runs = RetentionRuns(house.database, Audit(house.database, Config(), str), settle_seconds=1.5)
    await keeper.use(latest(1, "none"))
    await keeper.policies.begin((await keeper.policy()).id, dry_run=False)

    async def pull() -> None:
        while not ((repository := await house.open()).pulls_noted_until or 0.0) > time.time():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert repository.id is not None
        pulls.manifest(repository.id, old)
        await pulls.flush()

    await asyncio.gather(keeper.runs.work(), pull())
    assert await rows(house.database, "SELECT name FROM tag") == [("old",)]
    assert (await house.open()).pulls_noted_until is None
    await ago(house, 3, old)
    assert await keeper.tags() == {"old"}, "the next run looks at it again"
    assert older


async def test_bytes_that_come_free(keeper: Keeper) -> None:
    house, shared, own = keeper.house, b"s" * 5000, b"o" * 7000
    for name in ("physics/app", "physics/other"):
        await house.push_blob(EMPTY, to=name)
    for data in (shared, own):
        await house.push_blob(data)
    both = [await house.push(image(shared, own), "v1"), await house.push(image(shared), "v2")]
    await ago(house, 2, both[0])
    await keeper.use(latest(1))
    used = await house.used(keeper.project_id)
    task = (await keeper.tasks(dry_run=True))[0]
    assert (task.total, task.retained) == (2, 1)
    await keeper.run()
    async with house.database.transaction() as transaction:
        await transaction.execute(text("UPDATE review SET review_at = 1"))
    await house.collection.collect()
    assert used - await house.used(keeper.project_id) == task.freed_bytes > len(own)


async def test_schedules_stops_and_what_is_no_policy(keeper: Keeper) -> None:
    policy = await keeper.use(latest(1), schedule="0 0 * * * *")
    assert policy.next_at is not None
    assert 0 < policy.next_at - time.time() <= 3600
    async with keeper.house.database.transaction() as transaction:
        await retention.set_next(transaction, policy, time.time() - 1)
    await keeper.runs.work()
    first = (await keeper.policies.executions(policy.id))[0]
    assert (first.trigger, first.status) == ("Schedule", Status.SUCCESS)
    assert ((await keeper.policy()).next_at or 0) > time.time()
    number = await keeper.policies.begin(policy.id, dry_run=False)
    with pytest.raises(Conflict):
        await keeper.policies.begin(policy.id, dry_run=True)
    await keeper.policies.stop(policy.id, number)
    await keeper.runs.work()
    assert (await keeper.policies.execution(policy.id, number)).status == Status.STOPPED
    with pytest.raises(Conflict):
        await keeper.policies.create(keeper.project_id, [latest(1)])
    for rules, schedule in (([latest(0)], ""), ([latest(1, "a/b")], ""), ([latest(1)], "* * * * * *"), ([], "daily")):
        with pytest.raises(Invalid):
            await keeper.policies.change(policy.id, rules, schedule)
    await keeper.policies.remove(policy.id)
    with pytest.raises(Missing):
        await keeper.policies.find(policy.id)


async def test_a_run_whose_worker_was_killed_is_resumed(keeper: Keeper) -> None:
    await push(keeper, "old", "older", days=2)
    policy = await keeper.use(latest(1, "none"))
    number = await keeper.policies.begin(policy.id, dry_run=False)
    async with keeper.house.database.transaction() as transaction:
        assert await retention.claim(transaction, time.time()) is not None
        assert await retention.claim(transaction, time.time()) is None, "one worker at a time"
    await keeper.runs.work()
    assert (await keeper.policies.execution(policy.id, number)).status == Status.RUNNING
    async with keeper.house.database.transaction() as transaction:
        await transaction.execute(text("UPDATE retention_execution SET leased_until = 1"))
    await keeper.runs.work()
    assert (await keeper.policies.execution(policy.id, number)).status == Status.SUCCESS
    assert await rows(keeper.house.database, "SELECT name FROM tag") == []


async def test_of_rules_that_are_added_at_once_none_is_lost(keeper: Keeper) -> None:
    """A rule that is lost would be artifacts that are removed."""
    rules = [Rule(Template.ALWAYS, tags=Selector(f"v{number}*")) for number in range(6)]
    made = await asyncio.gather(*(keeper.policies.add_rule(keeper.project_id, rule) for rule in rules))
    assert sorted(made) == [False] * 5 + [True]
    assert set((await keeper.policy()).rules) == set(rules)
    spelled = [str(rule) for rule in (await keeper.policy()).rules]
    gone = await asyncio.gather(
        *(keeper.policies.remove_rule(keeper.project_id, 0, spelled[0]) for _ in range(3)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in gone) == ["Conflict", "Conflict", "NoneType"]
    assert [str(rule) for rule in (await keeper.policy()).rules] == spelled[1:]
    await keeper.policies.set_schedule(keeper.project_id, "0 0 2 * * *")
    assert ((await keeper.policy()).cron, len((await keeper.policy()).rules)) == ("0 0 2 * * *", 5)
