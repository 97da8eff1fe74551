"""Pinned tags of a mirror: served as they are, kept, compared by a HEAD only, and moved by those who may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from app.access.errors import Invalid
from app.database.pins import Pin
from app.database.tables import immutable_rule, link, manifest, project
from app.mirror.eviction import Eviction
from app.oci.errors import Denied
from app.oci.reference import Tag
from app.oci.selectors import Selector
from app.plans.pins import Pins
from app.projects.immutability import require_deletable_tag
from app.registry.content import Client
from tests.images import multi, single
from tests.parts.process import eventually
from tests.parts.valkey import Valkey
from tests.upstream.client import Hub

from .house import House
from .rows import rows
from .test_plans import HUB, Site, a_site, all_here, stepped

DAY = 86400.0
NAME = "library/a"


@pytest.fixture
async def site(house: House, hub: Hub, valkey: Valkey, tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(house, hub, valkey, tmp_path / "one") as one:
        yield one


async def pinned(house: House, site: Site, *, seconds: float = DAY, tag: str = "1") -> int:
    made = await house.immutability.create(
        site.project_id,
        tags=Selector(tag),
        repositories=Selector(NAME),
        ends_at=time.time() + seconds,
        by="person:jaan",
    )
    return made.id


async def shown(site: Site) -> list[Pin]:
    return list(await Pins(site.database, {HUB: site.mirror.preparation}).of_repository(site.project_id, NAME))


async def test_a_pinned_tag_stays_until_somebody_who_may_moves_it(house: House, hub: Hub, site: Site) -> None:
    hub.limit(100)
    old = hub.add(single("old"), NAME, "1")
    await site.pull(NAME)
    rule = await pinned(house, site)
    new = hub.add(single("new"), NAME, "1")
    hub.reset_counters()
    # Each pull compares, because tags are fresh for no time here.
    assert await site.pull(NAME) == old.digest
    assert await site.pull(NAME) == old.digest
    assert (hub.counters().get_manifest, hub.counters().head_manifest) == (0, 2)
    ((_, tag, _, by, digest, newer),) = await shown(site)
    assert (tag, by, digest, newer) == ("1", "person:jaan", old.digest, new.digest)

    use = Pins(site.database, {HUB: site.mirror.preparation}).use_newer
    await use(HUB, "mirror", NAME, Tag("1"), Client("person:mari", may_fill=True))
    assert hub.counters().get_manifest == 1
    newest = hub.add(single("newest"), NAME, "1")
    assert await site.pull(NAME) == new.digest
    assert (await shown(site))[0].newer == newest.digest
    await house.immutability.remove(site.project_id, rule)
    assert await site.pull(NAME) == newest.digest
    assert await shown(site) == []


async def test_a_pin_outlives_what_is_removed_upstream_but_not_its_end(house: House, hub: Hub, site: Site) -> None:
    old = hub.add(single("old"), NAME, "1")
    await site.pull(NAME)
    await pinned(house, site)
    ((repository_id,),) = await rows(site.database, "SELECT repository_id FROM tag")
    async with site.database.transaction() as transaction:
        with pytest.raises(Denied):
            await require_deletable_tag(transaction, repository_id, "1")
    hub.remove(NAME, "1")
    assert await site.pull(NAME) == old.digest
    hub.down()
    assert await site.pull(NAME) == old.digest
    hub.up()
    new = hub.add(single("new"), NAME, "1")
    await over(site)
    assert await site.pull(NAME) == new.digest


async def test_the_first_fetch_under_a_pin_is_what_stays(house: House, hub: Hub, site: Site) -> None:
    await pinned(house, site)
    old = hub.add(single("old"), NAME, "1")
    assert await site.pull(NAME) == old.digest
    hub.add(single("new"), NAME, "1")
    assert await site.pull(NAME) == old.digest
    assert [(pin.tag, pin.digest) for pin in await shown(site)] == [("1", old.digest)]


async def test_a_pull_under_way_does_not_move_a_tag_that_is_pinned_meanwhile(
    house: House, hub: Hub, site: Site
) -> None:
    old = hub.add(single("old"), NAME, "1")
    await site.pull(NAME)
    hub.add(single("new"), NAME, "1")
    hub.pace(latency=0.5)
    pull = asyncio.create_task(site.pull(NAME))

    async def is_asked() -> bool:
        return hub.counters().head_manifest > 0

    await eventually(is_asked, what="the comparison")
    await pinned(house, site)
    assert await pull == old.digest
    assert [pin.digest for pin in await shown(site)] == [old.digest]


async def test_pinned_content_is_kept_from_eviction_until_the_end(house: House, hub: Hub, site: Site) -> None:
    image = hub.add(multi("kept"), NAME, "1")
    amd = image.platform("linux/amd64")
    await site.pull(NAME)
    admin = await house.admin()
    made = await site.plans.create(admin, site.proposal(NAME))
    await stepped(site, made, admin, all_here)
    await site.plans.remove(admin, made)
    await pinned(house, site)
    async with site.database.transaction() as transaction:
        for table in (link, manifest):
            await transaction.execute(update(table).values(kept_until=0.0, pulled_at=0.0))
        await transaction.execute(update(project).values(settings={"cache_bytes": 1}))
    await Eviction(site.database).make_room()
    assert len(await rows(site.database, "SELECT 1 FROM link")) == len(amd.blobs)
    async with site.database.transaction() as transaction:
        await transaction.execute(update(link).values(kept_until=0.0))
    await over(site)
    await Eviction(site.database).make_room()
    assert await rows(site.database, "SELECT 1 FROM link") == []


async def test_a_plan_pins_its_tags_for_the_term(house: House, hub: Hub, site: Site) -> None:
    hub.limit(100)
    old = hub.add(single("old"), NAME, "1")
    admin, until = await house.admin(), time.time() + 90 * DAY
    await site.plans.create(admin, site.proposal(NAME, hours=1, pin_until=until))
    made = await site.plans.create(admin, site.proposal(NAME, hours=1, pin_until=until))
    state = await stepped(site, made, admin, all_here)
    assert [(pin.tag, pin.ends_at, pin.by) for pin in await shown(site)] == [("1", until, admin.subject)]
    new = hub.add(single("new"), NAME, "1")
    site.ahead = 1200
    await site.executor.step()
    state = await site.plans.get(admin, made)
    assert (state.images[0].digest, all_here(state)) == (old.digest, True)
    assert hub.counters().get_manifest == 1
    # The comparison before the date has shown what the upstream has.
    assert [pin.newer for pin in await shown(site)] == [new.digest]
    with pytest.raises(Invalid):
        await site.plans.create(admin, site.proposal(NAME, hours=1, pin_until=time.time()))


async def over(site: Site) -> None:
    """Let the time of every rule be over."""
    async with site.database.transaction() as transaction:
        await transaction.execute(update(immutable_rule).values(ends_at=time.time() - 1))
