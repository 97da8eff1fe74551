"""Webhooks to a receiver that refuses, hangs, fails and comes back: each event arrives, none before its commit."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientTimeout, web
from sqlalchemy import text

from app.access.errors import Conflict, Invalid, Missing
from app.config import Policy
from app.database import Database, Transaction, webhooks
from app.database.keyset import Page
from app.database.quotas import QuotaExceeded
from app.database.webhooks import EventType, Webhook
from app.mirror.address_guard import AddressGuard, AddressKind
from app.oci.digest import Digest
from app.oci.errors import Unavailable
from app.oci.manifest import OCI_MANIFEST
from app.oci.reference import Tag
from app.oci.retention import Rule, Template
from app.projects.audit import Audit
from app.projects.retention import Retentions
from app.registry import retention_runs
from app.registry.pulls import Pulls
from app.registry.retention_runs import RetentionRuns
from app.webhooks.deliveries import Deliveries
from app.webhooks.payloads import PayloadFormat
from app.webhooks.service import Content, Target, Webhooks
from tests.api.documents import image

from .house import House

EVERYTHING = tuple(EventType)


class Receiver:
    """What it got, and how it answers: a status, or a number of seconds."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], Any]] = []
        self.answers: Callable[[], int | float] = lambda: 200
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        answer = self.answers()
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        self.got.append((dict(request.headers), await request.json()))
        return web.Response(status=answer if isinstance(answer, int) else 200, text="an answer")

    async def come(self, runner: web.AppRunner, port: int = 0) -> web.TCPSite:
        """Listen, on the same port as before if one is given."""
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[-1][1]}/hook"
        return site


@pytest.fixture
async def runner() -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(web.Application(), shutdown_timeout=0.1)
    yield runner
    await runner.cleanup()


@pytest.fixture
async def receiver(runner: web.AppRunner) -> Receiver:
    receiver = Receiver()
    runner.app.router.add_post("/hook", receiver.take)
    await runner.setup()
    await receiver.come(runner)
    return receiver


def trusting() -> AddressGuard:
    """Take the receiver's address for a public one."""
    return AddressGuard("", classify=lambda _: AddressKind.PUBLIC)


class Scene:
    def __init__(self, house: House, receiver: Receiver) -> None:
        self.house, self.receiver, self.database = house, receiver, house.database
        self.webhooks = Webhooks(house.database, trusting(), lambda text: text[::-1], lambda text: text[::-1])
        self.project = 0

    def deliveries(self, *waits: float) -> Deliveries:
        return Deliveries(
            self.database, trusting(), "registry.example.org", lambda text: text[::-1], waits or (0.0,) * 5
        )

    async def add(self, form: str = PayloadFormat.DEFAULT, events: tuple[str, ...] = EVERYTHING) -> Webhook:
        admin = await self.house.admin()
        if not self.project:
            self.project = (await self.house.project()).id
            await self.house.quotas.set(admin, self.project, None)
            await self.house.push_blob(b"{}")
        target = Target(self.receiver.url, "Bearer secret", form)
        return await self.webhooks.create(admin, self.project, Content(f"hook-{form}", "", True, target, events))

    async def push(self, *tags: str) -> Digest:
        payload = image()
        repository = await self.house.open()
        made, _ = await self.house.manifests.put(
            repository, Digest.of(payload), [Tag(tag) for tag in tags], OCI_MANIFEST, payload, "person:mari"
        )
        return made

    async def ended(self, webhook: Webhook) -> list[tuple[str, int]]:
        rows, _ = await self.webhooks.deliveries(webhook, Page(100))
        return [(row.status, row.attempts) for row in rows]


EMPTY = Digest.of(b"{}")


@pytest.fixture
def scene(house: House, receiver: Receiver) -> Scene:
    return Scene(house, receiver)


async def test_a_push_is_told_in_both_forms(scene: Scene) -> None:
    await scene.add()
    await scene.add(PayloadFormat.CLOUD_EVENTS)
    digest = await scene.push("v1")
    await scene.deliveries().send_due()
    (plain, document), (cloudy, event) = sorted(scene.receiver.got, key=lambda one: "specversion" in one[1])
    assert plain["Authorization"] == "Bearer secret"
    assert (document["type"], document["operator"]) == ("PUSH_ARTIFACT", "mari")
    assert document["event_data"]["resources"] == [
        {"digest": digest, "tag": "v1", "resource_url": "registry.example.org/physics/app:v1"}
    ]
    about = document["event_data"]["repository"]
    assert (about["repo_full_name"], about["repo_type"]) == ("physics/app", "public")
    assert cloudy["Content-Type"] == "application/cloudevents+json"
    assert (event["specversion"], event["type"]) == ("1.0", "harbor.artifact.pushed")
    assert event["data"] == document["event_data"]
    await scene.deliveries().send_due()
    assert len(scene.receiver.got) == 2, "nothing is sent twice"


async def test_pulls_deletions_and_quotas_are_told(scene: Scene) -> None:
    webhook = await scene.add()
    digest = await scene.push("v1")
    pulls = Pulls(scene.database)
    repository_id = await scene.house.id_of()
    pulls.manifest(repository_id, digest, counts=True)
    await pulls.flush()
    used = await scene.house.used(scene.project)
    await scene.house.quotas.set(await scene.house.admin(), scene.project, used + 100)
    for _ in range(2):
        assert await scene.house.quotas.warning(scene.project)
        with pytest.raises(QuotaExceeded):
            await scene.house.push_blob(b"x" * 4000)
    await scene.house.artifacts.remove(repository_id, digest, "person:juri")
    await scene.deliveries().send_due()
    told = sorted((body["type"], body["operator"]) for _, body in scene.receiver.got)
    assert told == [
        ("DELETE_ARTIFACT", "juri"), ("PULL_ARTIFACT", ""), ("PUSH_ARTIFACT", "mari"), ("QUOTA_EXCEED", ""),
        ("QUOTA_WARNING", ""),
    ]  # fmt: skip
    assert set(await scene.ended(webhook)) == {("Success", 1)}


class Keeping:
    """A project whose retention keeps the latest image."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.policies = Retentions(scene.database)
        self.runs = RetentionRuns(scene.database, Audit(scene.database, Policy(), str), settle_seconds=0.0)

    async def begin(self, *, dry_run: bool = False) -> int:
        policy = await self.policies.of_project(self.scene.project)
        if policy is None:
            policy = await self.policies.create(self.scene.project, [Rule(Template.LATEST_PUSHED, 1)], "")
        return await self.policies.begin(policy.id, dry_run=dry_run)

    async def told(self) -> list[dict[str, Any]]:
        """Give what was said since the last time, of retention and of deletions."""
        self.scene.receiver.got.clear()
        await self.scene.deliveries().send_due()
        return [body for _, body in self.scene.receiver.got]


async def test_what_a_retention_run_removed_is_told(scene: Scene) -> None:
    await scene.add(events=(EventType.DELETE, EventType.RETENTION))
    old = [await scene.house.push(image(annotations={"n": str(number)}), f"v{number}") for number in range(2)]
    await scene.house.push(image(), "latest")
    keeping = Keeping(scene)
    await keeping.begin(dry_run=True)
    await keeping.runs.work()
    assert await keeping.told() == []
    await scene.add(PayloadFormat.CLOUD_EVENTS, (EventType.RETENTION,))
    await keeping.begin()
    await keeping.runs.work()
    told = await keeping.told()
    deleted = [body["event_data"]["resources"][0] for body in told if body.get("type") == "DELETE_ARTIFACT"]
    assert sorted((one["digest"], one["tag"]) for one in deleted) == sorted(zip(old, ("v0", "v1"), strict=True))
    (plain,) = [body for body in told if body.get("type") == "TAG_RETENTION"]
    (cloudy,) = [body for body in told if body["type"] == "harbor.tag_retention.finished"]
    assert (plain["operator"], cloudy["operator"], cloudy["data"]) == ("MANUAL", "MANUAL", plain["event_data"])
    said = plain["event_data"]["retention"]
    artifacts = said.pop("deleted_artifact")
    (rule,) = said.pop("retention_rule")
    assert said == {
        "total": 3, "retained": 1, "harbor_hostname": "registry.example.org", "project_name": "physics",
        "retention_policy_id": 1, "result": "SUCCESS",
    }  # fmt: skip
    assert {(one["type"], one["status"], one["name_tag"]) for one in artifacts} == {
        ("image", "SUCCESS", "app:v0"), ("image", "SUCCESS", "app:v1"),
    }  # fmt: skip
    assert (rule["template"], rule["params"]) == ("latestPushedK", {"latestPushedK": 1})
    assert rule["scope_selectors"]["repository"][0]["decoration"] == "repoMatches"
    await keeping.begin()
    await keeping.runs.work()
    assert await keeping.told() == [], "nothing was removed"


async def test_a_retention_run_that_was_killed_tells_all_that_it_removed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, although one worker removed an artifact and another one the other."""
    await scene.add(events=(EventType.DELETE, EventType.RETENTION))
    monkeypatch.setattr("app.registry.retention_runs._REMOVED_AT_ONCE", 1)
    for tag in ("v0", "v1", "latest"):
        await scene.house.push(image(annotations={"n": tag}), tag)
    keeping, remove, removals = Keeping(scene), retention_runs._remove_batch, itertools.count()

    async def once(*arguments: Any) -> Any:
        if next(removals):
            raise Unavailable("the worker is killed")
        return await remove(*arguments)

    number = await keeping.begin()
    with monkeypatch.context() as killing:
        killing.setattr(retention_runs, "_remove_batch", once)
        with pytest.raises(Unavailable):
            await keeping.runs.work()
    assert [body["type"] for body in await keeping.told()] == ["DELETE_ARTIFACT"]
    for told in (["DELETE_ARTIFACT", "TAG_RETENTION"], []):
        async with scene.database.transaction() as transaction:
            again = "UPDATE retention_execution SET leased_until = 1, status = 'Running', ended_at = NULL"
            await transaction.execute(text(again))
        await keeping.runs.work()
        said = await keeping.told()
        assert [body["type"] for body in said] == told
        if told:
            run = said[1]["event_data"]["retention"]
            assert {one["name_tag"] for one in run["deleted_artifact"]} == {"app:v0", "app:v1"}
            assert (run["total"], run["retained"]) == (3, 1)
    ((task,), _) = await keeping.policies.tasks(number, limit=10)
    assert {one["tags"][0] for one in task.removed} == {"v0", "v1"}


async def test_only_what_is_wanted_and_committed_is_told(scene: Scene) -> None:
    webhook = await scene.add(events=(EventType.DELETE,))
    await scene.push("v1")
    repository_id = await scene.house.id_of()

    async def fail(transaction: Transaction) -> None:
        await webhooks.emit(transaction, repository_id, EventType.DELETE, digest=EMPTY, tags=(), operator="")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await scene.database.transact(fail)
    assert await scene.ended(webhook) == []
    off = Content(webhook.name, "", False, Target(scene.receiver.url, "", "Default"), EVERYTHING)
    await scene.webhooks.update(scene.project, webhook.id, off)
    await scene.push("v2")
    assert await scene.ended(webhook) == []
    await scene.webhooks.update(scene.project, webhook.id, replace(off, enabled=True))
    await scene.push("v3")
    assert len(await scene.ended(webhook)) == 1


async def test_a_receiver_that_fails_and_comes_back_gets_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.webhooks.deliveries._SECONDS", ClientTimeout(total=1))
    webhook = await scene.add()
    await scene.push("v1")
    answers: Iterator[int | float] = iter([500, 302, 404, 30.0, 204])
    scene.receiver.answers = lambda: next(answers)
    await scene.deliveries().send_due()
    assert await scene.ended(webhook) == [("Success", 5)]
    assert len({headers["X-Event-Id"] for headers, _ in scene.receiver.got}) == 1, "repeats can be told"


async def test_one_that_never_comes_back_is_given_up_and_sent_again_by_hand(scene: Scene) -> None:
    webhook = await scene.add()
    await scene.push("v1")
    scene.receiver.answers = lambda: 500
    await scene.deliveries(0.0, 0.0, 0.0).send_due()
    assert await scene.ended(webhook) == [("Error", 3)]
    (row,), _ = await scene.webhooks.deliveries(webhook, Page(10))
    assert row.answer == "500 Internal Server Error\nan answer"
    scene.receiver.answers = lambda: 200
    await scene.webhooks.send_again(webhook, row.id)
    with pytest.raises(Missing):
        await scene.webhooks.send_again(webhook, row.id + 1)
    await scene.deliveries().send_due()
    assert await scene.ended(webhook) == [("Success", 1)]


async def test_a_worker_killed_while_it_sends_leaves_the_rest_to_another(scene: Scene) -> None:
    webhook = await scene.add()
    await scene.push("v1")
    scene.receiver.answers = lambda: 30.0
    killed = asyncio.create_task(scene.deliveries(60.0, 60.0).send_due())
    async with asyncio.timeout(20):
        while not (await scene.ended(webhook))[0][1]:  # noqa: ASYNC110  # another task's row in SQL
            await asyncio.sleep(0.02)
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    scene.receiver.answers = lambda: 200
    await scene.deliveries().send_due()
    assert await scene.ended(webhook) == [("Pending", 1)], "its lease runs"
    async with scene.database.transaction() as transaction:
        await transaction.execute(text("UPDATE delivery SET next_at = 0"))
    await asyncio.gather(*(scene.deliveries(60.0, 60.0).send_due() for _ in range(3)))
    assert await scene.ended(webhook) == [("Success", 2)]
    assert len(scene.receiver.got) == 1


async def test_nothing_is_sent_before_its_event_is_committed(scene: Scene) -> None:
    await scene.add()
    await scene.push("v1")
    repository_id, sender = await scene.house.id_of(), scene.deliveries()
    await sender.send_due()
    scene.receiver.got.clear()
    async with scene.database.transaction() as transaction:
        await webhooks.emit(transaction, repository_id, EventType.DELETE, digest=EMPTY, tags=(), operator="")
        await sender.send_due()
        assert scene.receiver.got == []
    await sender.send_due()
    assert [body["type"] for _, body in scene.receiver.got] == ["DELETE_ARTIFACT"]


async def test_each_event_arrives_although_receiver_and_workers_fail(
    scene: Scene, runner: web.AppRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses, fails, hangs and comes back, and workers are killed while they send."""
    monkeypatch.setattr("app.webhooks.deliveries._SECONDS", ClientTimeout(total=0.5))
    webhook, chance, port = await scene.add(), random.Random(4), runner.addresses[0][1]
    for number in range(5):
        await scene.push(f"v{number}")
    for site in list(runner.sites):
        await site.stop()
    await scene.deliveries(60.0, 60.0).send_due()
    answers = [answer for _, answer in await told(scene, webhook)]
    assert all("Cannot connect" in answer for answer in answers), "it refuses"
    await scene.receiver.come(runner, port)
    async with scene.database.transaction() as transaction:
        await transaction.execute(text("UPDATE delivery SET next_at = 0"))
    scene.receiver.answers = lambda: chance.choice((200, 500, 503, 30.0))
    async with asyncio.timeout(90):
        while {status for status, _ in await told(scene, webhook)} != {"Success"}:
            workers = [asyncio.create_task(scene.deliveries(*(0.3,) * 1000).send_due()) for _ in range(2)]
            await asyncio.sleep(chance.random() / 5)
            workers[0].cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    arrived = {(headers["X-Event-Id"], body["event_data"]["resources"][0]["tag"]) for headers, body in
               scene.receiver.got}  # fmt: skip
    assert sorted(tag for _, tag in arrived) == [f"v{number}" for number in range(5)]


async def told(scene: Scene, webhook: Webhook) -> list[tuple[str, str]]:
    """Give the status and the last answer of each delivery."""
    rows, _ = await scene.webhooks.deliveries(webhook, Page(100))
    return [(row.status, row.answer) for row in rows]


async def test_nothing_is_sent_inside(scene: Scene, database: Database) -> None:
    webhook = await scene.add()
    await scene.push("v1")
    strict = AddressGuard("")
    await Deliveries(database, strict, "host", lambda text: text, (0.0,)).send_due()
    assert scene.receiver.got == []
    (row,), _ = await scene.webhooks.deliveries(webhook, Page(10))
    assert "not a public address" in row.answer
    named = scene.receiver.url.replace("127.0.0.1", "localhost")
    async with database.transaction() as transaction:
        await transaction.execute(text("UPDATE webhook SET url = :url"), {"url": named})
    await scene.webhooks.send_again(webhook, row.id)
    await Deliveries(database, strict, "host", lambda text: text, (0.0,)).send_due()
    assert scene.receiver.got == []
    service = Webhooks(database, strict, lambda text: text, lambda text: text)
    admin = await scene.house.admin()
    for url in ("http://10.0.0.1/", "http://[::1]/", "http://169.254.169.254/", "ftp://example.org/", "no address",
                "http://user@example.org/", "http://example.org:0/", "http://" + "x" * 2000):  # fmt: skip
        inside = Content("inside", "", True, Target(url, "", "Default"), EVERYTHING)
        with pytest.raises(Invalid):
            await service.create(admin, scene.project, inside)


async def test_what_cannot_be_done_is_refused(scene: Scene) -> None:
    webhook = await scene.add()
    good = Content("other", "", True, Target(scene.receiver.url, "", "Default"), EVERYTHING)
    admin = await scene.house.admin()
    for wrong in (
        {"event_types": ("SCANNING_FAILED",)}, {"event_types": ()}, {"name": ""},
        {"target": Target(scene.receiver.url, "", "Slack")}, {"target": Target(scene.receiver.url, "a\nb", "Default")},
    ):  # fmt: skip
        with pytest.raises(Invalid):
            await scene.webhooks.create(admin, scene.project, replace(good, **wrong))
    with pytest.raises(Conflict):
        await scene.webhooks.create(admin, scene.project, replace(good, name=webhook.name))
    other = await scene.webhooks.create(admin, scene.project, good)
    with pytest.raises(Conflict):
        await scene.webhooks.update(scene.project, other.id, replace(good, name=webhook.name))
    with pytest.raises(Missing):
        await scene.webhooks.find(scene.project + 1, other.id)
    await scene.webhooks.remove(scene.project, other.id)
    with pytest.raises(Missing):
        await scene.webhooks.find(scene.project, other.id)
