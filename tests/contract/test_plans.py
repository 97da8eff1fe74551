"""Plans carried out in front of the strict upstream: once, within the reservation, again after whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.access.computations import Computations
from app.access.errors import Conflict, Forbidden, Invalid, Missing
from app.cache import Cache
from app.config import Credential, Policy, UpstreamConfig
from app.database import Database, Transaction, blobs, plans, projects
from app.mirror import ledger
from app.mirror.mirror import Mirror
from app.oci.digest import Digest
from app.oci.errors import OCIError, TooManyRequests
from app.oci.reference import Name, Tag
from app.plans.budgets import Forecasts
from app.plans.executor import Executor
from app.plans.machines import Machines
from app.plans.service import Plans, Proposal, State, Wanted
from app.plans.waiting import WaitingContent, WaitingRoom
from app.projects.service import Repository
from app.registry.blobs import Blobs
from app.registry.content import Client, HostedContent
from app.registry.manifests import Manifests
from app.registry.payloads import Payloads
from app.registry.pulls import Pulls
from app.storage.filesystem import FilesystemStore
from tests.images import Image, multi, single
from tests.parts.valkey import Valkey
from tests.upstream.client import Hub

from .house import House
from .rows import rows

POLICY = Policy(plan_groups=("teachers",))
HOUR = 3600.0
WEEK = 168 * HOUR
HUB = "docker.io"


@dataclass
class Site:
    """One host: its worker's part in plans, at a time of its own."""

    database: Database
    mirror: Mirror
    plans: Plans
    executor: Executor
    room: WaitingRoom
    machines: Machines
    project_id: int
    ahead: float = 0.0

    def wanted(self, *names: str) -> list[Wanted]:
        split = [name.partition(":") for name in names]
        return [Wanted(self.project_id, "mirror", HUB, name, tag or "1") for name, _, tag in split]

    def proposal(self, *names: str, hours: float = 12, **more: object) -> Proposal:
        due_at = time.time() + self.ahead + hours * HOUR
        return Proposal("Class", self.wanted(*names), ("linux/amd64",), due_at, **more)  # type: ignore[arg-type]

    async def pull(self, name: str, tag: str = "1", *, client: str = "somebody", address: str = "") -> Digest:
        """Pull an image's manifest as a client of the mirror; return its digest."""
        found = await projects.resolve(self.database, "mirror", name)
        assert found is not None
        repository = Repository(Name(f"mirror/{name}"), found[0], found[1], found[2], found[3], found[5])
        content = WaitingContent(self.mirror.content, self.room, self.machines)
        asking = Client(client, may_fill=True, address=address)
        return (await content.manifest(repository, Tag(tag), asking, head=False)).digest


@asynccontextmanager
async def a_site(house: House, hub: Hub, valkey: Valkey, folder: Path, *accounts: Credential) -> AsyncIterator[Site]:
    async def make(transaction: Transaction) -> int:
        await projects.create(transaction, "mirror", public=True, upstream=HUB, settings={})
        found = await projects.find(transaction, "mirror")
        assert found is not None
        return found.id

    database, cache, store = house.database, Cache(valkey.url), FilesystemStore(folder / "blobs")
    await store.start()
    project_id = await database.transact(make)
    manifests, pulls = Manifests(database, Payloads(None), Computations()), Pulls(database)
    mirror = Mirror(
        HUB,
        UpstreamConfig(hub.url, accounts, fresh_for=0),
        folder / "spool",
        database=database,
        store=store,
        cache=cache,
        hosted=HostedContent(database, manifests, Blobs(database), pulls),
        stored=manifests,
        pulls=pulls,
        decrypt=str,
    )
    await mirror.start()
    site: list[Site] = []

    def now() -> float:
        return time.time() + (site[0].ahead if site else 0.0)

    prepared, forecasts = {HUB: mirror.preparation}, Forecasts(database)
    executor = Executor(database, cache, prepared, forecasts, now)
    machines, room = Machines(database, cache, now), WaitingRoom(database, prepared, forecasts, now)
    made = Plans(database, POLICY, prepared, forecasts, machines, now)
    site.append(Site(database, mirror, made, executor, room, machines, project_id))
    try:
        yield site[0]
    finally:
        await executor.close()
        await mirror.close(5)
        await store.close()
        await cache.close()


@pytest.fixture
async def site(house: House, hub: Hub, valkey: Valkey, tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(house, hub, valkey, tmp_path / "one") as one:
        yield one


async def stepped(site: Site, plan_id: int, by: object, until: Callable[[State], bool], steps: int = 6) -> State:
    """Let the executor run until a plan is as it should be."""
    state = await site.plans.get(by, plan_id)  # type: ignore[arg-type]
    for _ in range(steps):
        await site.executor.step()
        state = await site.plans.get(by, plan_id)  # type: ignore[arg-type]
        if until(state):
            return state
    raise AssertionError([(image.name, image.gets, image.problem, image.expected_at) for image in state.images])


def all_here(state: State) -> bool:
    return state.ready == len(state.images)


def fill(hub: Hub, *names: str) -> dict[str, Image]:
    images = {name: multi(name) for name in names}
    for name, image in images.items():
        hub.add(image, name, "1")
    return images


async def test_a_plan_is_shown_then_carried_out_and_nobody_pays_at_the_date(house: House, hub: Hub, site: Site) -> None:
    hub.limit(100)
    names = ["library/a", "library/b", "library/c"]
    images, admin = fill(hub, *names), await house.admin()
    proposal = site.proposal(*names, "library/none")
    shown = await site.plans.preview(admin, proposal)
    assert [one.gets for one in shown.prospects] == [2, 2, 2, 0]
    assert [one.is_here for one in shown.prospects] == [False] * 4
    assert all(one.expected_at is not None and not one.late for one in shown.prospects[:3])
    assert isinstance(shown.prospects[3].problem, OCIError)
    assert not shown.fits
    assert hub.counters().get_manifest == 0

    made = await site.plans.create(admin, site.proposal(*names))
    state = await stepped(site, made, admin, all_here)
    assert hub.counters().get_manifest == 6
    amd = images["library/a"].platform("linux/amd64")
    assert (state.images[0].bytes, state.images[0].missing_bytes) == (amd.size, 0)
    hub.reset_counters()
    for name in names:
        await site.pull(name)
    assert hub.counters().get_manifest == 0
    again = await site.plans.preview(admin, site.proposal(*names))
    assert (again.gets, again.missing_size, [one.is_here for one in again.prospects]) == (0, 0, [True] * 3)


async def test_two_plans_for_one_image_cost_once(house: House, hub: Hub, site: Site) -> None:
    hub.limit(100)
    fill(hub, "library/a")
    mari = await house.person("mari", groups=("teachers",))
    first = await site.plans.create(await house.admin(), site.proposal("library/a"))
    second = await site.plans.create(mari, site.proposal("library/a", hours=9))
    await stepped(site, second, mari, all_here)
    await stepped(site, first, await house.admin(), all_here)
    assert hub.counters().get_manifest == 2


async def test_plans_leave_the_last_third_of_an_address_and_say_what_will_be_late(
    house: House, hub: Hub, site: Site
) -> None:
    hub.limit(12)
    names, admin = [f"library/n{number}" for number in range(6)], await house.admin()
    fill(hub, *names)
    proposal = site.proposal(*names, hours=2)
    shown = await site.plans.preview(admin, proposal)
    assert sum(one.late for one in shown.prospects) == 2
    assert not shown.fits
    made = await site.plans.create(admin, proposal)
    state = await stepped(site, made, admin, lambda state: state.ready >= 4)
    assert hub.counters().get_manifest == 8
    await site.executor.step()
    state = await site.plans.get(admin, made)
    assert (state.ready, len(state.late)) == (4, 2)
    assert all(image.expected_at is not None and image.expected_at > state.plan.due_at for image in state.late)
    assert hub.counters().get_manifest == 8
    assert hub.counters().get_manifest_429 == 0


@pytest.mark.usefixtures("hurried")
async def test_pulls_without_a_plan_cannot_take_what_is_reserved(house: House, hub: Hub, site: Site) -> None:
    hub.limit(12)
    admin = await house.admin()
    fill(hub, "library/plan", "library/other", "library/more")
    await site.pull("library/other")
    view = await site.mirror.preparation.budget(site.project_id)
    assert view.remaining is not None
    await site.mirror.preparation.reserve(site.project_id, view.remaining - view.reserved, 60)
    with pytest.raises(TooManyRequests, match=r"library/more:1 will be here at \d\d:\d\d UTC"):
        await site.pull("library/more")
    made = await site.plans.create(admin, site.proposal("library/plan"))
    await stepped(site, made, admin, all_here)


async def test_what_moved_upstream_is_fetched_again_before_the_date(house: House, hub: Hub, site: Site) -> None:
    hub.limit(100)
    fill(hub, "library/a")
    admin = await house.admin()
    made = await site.plans.create(admin, site.proposal("library/a", hours=1))
    before = (await stepped(site, made, admin, all_here)).images[0].digest
    newer = hub.add(multi("newer"), "library/a", "1")
    await site.executor.step()
    assert (await site.plans.get(admin, made)).images[0].digest == before
    site.ahead = 1200
    state = await stepped(site, made, admin, lambda state: all_here(state) and state.images[0].digest != before)
    assert state.images[0].digest == newer.digest
    assert hub.counters().get_manifest == 4


async def test_a_plan_goes_on_after_a_flush_and_in_another_worker(
    house: House, hub: Hub, valkey: Valkey, tmp_path: Path, site: Site
) -> None:
    hub.limit(12)
    names, admin = [f"library/n{number}" for number in range(4)], await house.admin()
    fill(hub, *names)
    made = await site.plans.create(admin, site.proposal(*names))
    await site.executor.step()
    spent = hub.counters().get_manifest
    valkey.flush()
    async with a_site(house, hub, valkey, tmp_path / "two") as other:
        state = await stepped(other, made, admin, all_here)
        await site.executor.step()
    assert state.ready == 4
    assert hub.counters().get_manifest == 8 >= spent
    assert hub.counters().get_manifest_429 == 0


async def test_uncounted_images_need_no_budget(house: House, hub: Hub, site: Site) -> None:
    hub.limit(100)
    fill(hub, "library/free", "library/paid")
    hub.uncount("library/free")
    hub.leave(0)
    admin = await house.admin()
    shown = await site.plans.preview(admin, site.proposal("library/free", "library/paid"))
    assert [one.gets for one in shown.prospects] == [0, 2]
    made = await site.plans.create(admin, site.proposal("library/free", "library/paid"))
    state = await stepped(site, made, admin, lambda state: state.ready == 1)
    assert [image.ready_at is not None for image in state.images] == [True, False]


async def test_what_a_plan_brought_is_not_evicted_until_its_date_is_over(house: House, hub: Hub, site: Site) -> None:
    hub.add(single("kept"), "library/kept", "1")
    admin = await house.admin()
    made = await site.plans.create(admin, site.proposal("library/kept"))
    await stepped(site, made, admin, all_here)
    long_ago = time.time() + 10
    assert await site.database.read(blobs.coldest, site.project_id, long_ago, 10) == []
    for table in ("link", "manifest"):
        ((least, most),) = await rows(site.database, f"SELECT min(kept_until), max(kept_until) FROM {table}")
        assert time.time() + 35 * HOUR < least <= most < time.time() + 37 * HOUR
    await site.plans.remove(admin, made)
    with pytest.raises(Missing):
        await site.plans.get(admin, made)


async def test_a_weekly_plan_turns_to_its_next_date(house: House, hub: Hub, site: Site) -> None:
    hub.limit(100)
    fill(hub, "library/a")
    admin = await house.admin()
    due_at = time.time() + HOUR
    proposal = site.proposal("library/a", hours=1, weekly=True, ends_at=due_at + 3 * WEEK + 60)
    made = await site.plans.create(admin, proposal)
    await stepped(site, made, admin, all_here)
    site.ahead = 8 * HOUR
    await site.executor.step()
    turned = (await site.plans.get(admin, made)).plan
    assert turned.due_at == pytest.approx(due_at + WEEK, abs=60)
    site.ahead = WEEK - 6 * HOUR
    hub.add(multi("newer"), "library/a", "1")
    await stepped(site, made, admin, lambda state: hub.counters().get_manifest == 4 and all_here(state))


async def test_who_may_plan_and_what_is_no_plan(house: House, site: Site) -> None:
    jaan = await house.person("jaan")
    mari = await house.person("mari", groups=("teachers",))
    with pytest.raises(Forbidden):
        await site.plans.create(jaan, site.proposal("library/a"))
    for wrong in (
        site.proposal(),
        site.proposal("library/a", hours=-1),
        site.proposal("library/a", hours=9000),
        site.proposal("library/a", weekly=True, ends_at=time.time()),
        Proposal("Class", site.wanted("a/b"), ("windows",), time.time() + HOUR),
        Proposal(" ", site.wanted("a/b"), ("linux/amd64",), time.time() + HOUR),
    ):
        with pytest.raises(Invalid):
            await site.plans.preview(mari, wrong)
    made = await site.plans.create(mari, site.proposal("library/a"))
    assert [state.plan.id for state in await site.plans.newest(mari)] == [made]
    assert await site.plans.newest(jaan) == []
    with pytest.raises(Missing):
        await site.plans.get(jaan, made)
    for _ in range(19):
        await site.plans.create(mari, site.proposal("library/a"))
    with pytest.raises(Conflict):
        await site.plans.create(mari, site.proposal("library/a"))


async def test_spent_gets_are_counted_apart_from_others(house: House, hub: Hub, site: Site) -> None:
    hub.limit(100)
    fill(hub, "library/a")
    made = await site.plans.create(await house.admin(), site.proposal("library/a"))
    await stepped(site, made, await house.admin(), all_here)
    spent = await site.database.read(plans.spent_since, HUB, "", time.time() - HOUR)
    assert sum(spent.values()) == 2


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a held GET lapse soon."""
    monkeypatch.setitem(ledger._RULES, "hold", 1)


@pytest.mark.usefixtures("hurried")
async def test_a_refused_pull_is_promised_a_minute_and_needs_no_second_try(house: House, hub: Hub, site: Site) -> None:
    hub.limit(4, window=15)
    fill(hub, "library/a", "library/b", "library/c", "library/d")
    refused: dict[str, TooManyRequests] = {}
    for name in ("library/a", "library/b", "library/c", "library/d"):
        try:
            await site.pull(name)
        except TooManyRequests as error:
            refused[name] = error
            break
    ((name, refusal),) = refused.items()
    assert 1 <= int(refusal.headers["Retry-After"]) <= 15 + 120
    assert "(place 1 of 1)" in refusal.message
    with pytest.raises(TooManyRequests, match=r"place 1 of 1"):
        await site.pull(name)
    assert [(place.number, place.image.name) for place in await site.room.places()] == [(1, f"mirror/{name}:1")]
    assert await site.plans.newest(await house.admin()) == []
    until = time.monotonic() + 90
    while await site.room.places() and time.monotonic() < until:
        await asyncio.sleep(1)
        await site.executor.step()
    assert await site.room.places() == []
    hub.limit(0)
    hub.reset_counters()
    await site.pull(name)
    assert hub.counters().get_manifest == 0
    assert hub.counters().get_manifest_429 == 0


@pytest.mark.usefixtures("hurried")
async def test_the_queue_takes_turns_and_has_an_end(house: House, hub: Hub, site: Site) -> None:
    hub.limit(100)
    names = [f"library/n{number}" for number in range(23)]
    fill(hub, "library/first", *names)
    await site.pull("library/first")
    view = await site.mirror.preparation.budget(site.project_id)
    await site.mirror.preparation.reserve(site.project_id, view.limit or 0, 60)
    for name in names[:22]:
        with pytest.raises(TooManyRequests):
            await site.pull(name, client="greedy")
    with pytest.raises(TooManyRequests, match=r"place 2 of 21"):
        await site.pull(names[22], client="modest")
    places = await site.room.places()
    assert len(places) == 21
    assert [place.client for place in places[:3]] == ["greedy", "modest", "greedy"]


async def test_the_machines_of_a_class_are_counted_once_each(
    house: House, hub: Hub, valkey: Valkey, site: Site
) -> None:
    fill(hub, "library/a", "library/b")
    admin = await house.admin()
    made = await site.plans.create(admin, site.proposal("library/a", "library/b", hours=0.5))
    await stepped(site, made, admin, all_here)
    await site.machines.flush()
    for number in range(64):
        for name in ("library/a", "library/b"):
            await site.pull(name, client="robot", address=f"10.0.0.{number}")
    hub.add(single("other"), "library/other", "1")
    await site.pull("library/other", address="10.0.1.1")
    await site.machines.flush()
    assert 62 <= ((await site.plans.get(admin, made)).machines or 0) <= 66
    site.ahead = 5 * HOUR
    await site.machines.flush()
    await site.pull("library/a", address="10.0.0.100")
    await site.machines.flush()
    assert 62 <= ((await site.plans.get(admin, made)).machines or 0) <= 66
    valkey.flush()
    assert (await site.plans.get(admin, made)).machines == 0


async def test_a_weekly_class_stays_at_its_hour_when_summer_time_ends(house: House, hub: Hub, site: Site) -> None:
    tallinn = ZoneInfo("Europe/Tallinn")
    begins = datetime(datetime.now(tallinn).year + 1, 3, 1, 10, 15, tzinfo=tallinn)
    site.ahead = begins.timestamp() - HOUR - time.time()
    fill(hub, "library/a")
    admin, hours = await house.admin(), []
    proposal = site.proposal("library/a", hours=1, weekly=True, ends_at=begins.timestamp() + 8 * WEEK)
    made = await site.plans.create(admin, replace(proposal, due_at=begins.timestamp(), zone="Europe/Tallinn"))
    for _ in range(8):
        site.ahead += WEEK
        await site.executor.step()
        due_at = (await site.plans.get(admin, made)).plan.due_at
        hours.append(datetime.fromtimestamp(due_at, tallinn).strftime("%H:%M"))
    assert set(hours) == {"10:15"}
    with pytest.raises(Invalid):
        await site.plans.create(admin, replace(proposal, zone="Europe/Nowhere"))


@pytest.mark.parametrize("username", ["lab", ""])
async def test_what_would_lapse_of_an_account_of_our_own_refreshes_tags_that_moved(
    house: House, hub: Hub, valkey: Valkey, tmp_path: Path, username: str
) -> None:
    hub.account("lab", "secret")
    hub.limit(100)
    accounts = [Credential(username, "secret")] if username else []
    async with a_site(house, hub, valkey, tmp_path / "one", *accounts) as site:
        fill(hub, "library/a", "library/b")
        admin = await house.admin()
        made = await site.plans.create(admin, site.proposal("library/a", "library/b"))
        await stepped(site, made, admin, all_here)
        await site.plans.remove(admin, made)
        newer = hub.add(multi("newer"), "library/a", "1")
        hub.reset_counters()
        site.ahead = 4 * HOUR
        await site.executor.step()
        assert (hub.counters().get_manifest, hub.counters().head_manifest) == (0, 0)
        site.ahead = 6 * HOUR - 300
        await site.executor.step()
        await site.executor.step()
        # The index, and the image for the platform that was here.
        assert hub.counters().get_manifest == (2 if username else 0)
        assert await site.pull("library/a") == newer.digest
        assert hub.counters().get_manifest == (2 if username else 1)
