"""Making, changing, listing and removing projects, on both databases."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import text

from app.access.errors import Conflict, Forbidden, Invalid, Missing
from app.access.permissions import Permissions
from app.access.principal import ANONYMOUS, Principal, PrincipalKind
from app.access.roles import ALL_RIGHTS, PULL, READ_PROJECT, UPDATE_PROJECT, Role
from app.database import projects, repositories
from app.database.keyset import Page
from app.database.projects import Filter
from app.oci.digest import Digest
from app.oci.errors import NameUnknown, OCIError
from app.oci.reference import Tag
from app.projects.census import Census
from tests.api.documents import EMPTY, image

from .house import House, body
from .rows import rows

READ = frozenset({READ_PROJECT})


async def test_a_project_is_its_makers(house: House) -> None:
    mari = await house.person("mari")
    made = await house.projects.create(mari, name="physics", public=False, description="Tõravere", quota_bytes=500)
    assert (made.name, made.public, made.description, made.quota_bytes) == ("physics", False, "Tõravere", 500)
    assert (made.owner_id, made.upstream, made.used_bytes, made.settings) == (mari.id, None, 0, {})
    assert await house.projects.find("physics") == made == await house.projects.get(made.id)
    assert await Permissions(house.database).rights(mari, made.id, public=False) == ALL_RIGHTS
    assert await Permissions(house.database).rights(await house.person("jaan"), made.id, public=False) == frozenset()


@pytest.mark.parametrize(
    "name", ["", "A", "a b", "a..b", "a__b", "-a", "a-", "a/b", "a" * 129, "ä", "a\n", "a\0", "~1"]
)
async def test_a_name_that_cannot_be(house: House, name: str) -> None:
    with pytest.raises(Invalid, match="cannot be a project name"):
        await house.project(name)
    with pytest.raises(Missing):
        await house.projects.find(name)


@pytest.mark.parametrize("name", ["v2", "api", "service", "saml", "login", "static", "projects", "metrics", "library"])
async def test_a_name_that_is_reserved(house: House, name: str) -> None:
    with pytest.raises(Conflict, match="reserved"):
        await house.project(name, by=await house.person("mari"))


@pytest.mark.parametrize("name", ["mine", "mirror", "search"])
async def test_what_the_configuration_has_made_goes_on_under_a_reserved_name(house: House, name: str) -> None:
    async with house.database.transaction() as transaction:
        assert await projects.create(transaction, name, public=True, upstream="docker.io", settings={})
    admin = await house.person("admin", is_admin=True)
    found = await house.projects.find(name)
    changed = await house.projects.update(admin, found.id, description="as before")
    assert (changed.name, changed.description) == (name, "as before")
    opened = await house.open(f"{name}/library/redis")
    assert (opened.project_id, opened.upstream) == (found.id, "docker.io")


async def test_of_many_who_want_a_name_one_gets_it(house: House) -> None:
    people = [await house.person(f"person{number}") for number in range(4)]
    made = await asyncio.gather(
        *(house.projects.create(person, name="physics", public=True) for person in people), return_exceptions=True
    )
    assert sorted(isinstance(outcome, Conflict) for outcome in made) == [False, True, True, True]
    owner = (await house.projects.find("physics")).owner_id
    assert await rows(house.database, "SELECT account_id, role FROM member") == [(owner, "project admin")]


async def test_nobody_makes_more_than_they_may(house: House) -> None:
    mari = await house.person("mari")
    made = await asyncio.gather(
        *(house.project(f"project{number}", by=mari) for number in range(5)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Forbidden) for outcome in made) == 2
    for number in range(5):
        await house.project(f"of-admin{number}")
    await house.projects.remove((await house.projects.page(mari, Page(50), Filter(mine=True)))[0].project.id)
    await house.project("one-more", by=mari)


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"quota_bytes": None}, Forbidden),
        ({"quota_bytes": 10_001}, Forbidden),
        ({"quota_bytes": -1}, Invalid),
        ({"quota_bytes": 1 << 70}, Invalid),
        ({"quota_bytes": True}, Invalid),
        ({"upstream": "docker.io"}, Forbidden),
        ({"credential": ("u", "p")}, Forbidden),
        ({"settings": {"cache_bytes": 5}}, Invalid),
        ({"description": "x" * 4001}, Invalid),
        ({"description": "a\0b"}, Invalid),
        ({"description": "half \ud800"}, Invalid),
    ],
)
async def test_what_a_person_may_not_have(house: House, wanted: dict[str, Any], error: type[OCIError]) -> None:
    mari = await house.person("mari")
    with pytest.raises(error):
        await house.projects.create(mari, name="physics", public=True, **wanted)
    assert await house.projects.page(mari, Page(50)) == []


async def test_an_admin_is_bound_by_none_of_it(house: House) -> None:
    admin = await house.admin()
    assert (await house.projects.create(admin, name="a", public=True, quota_bytes=None)).quota_bytes is None
    assert (await house.projects.create(admin, name="b", public=True, quota_bytes=1 << 50)).quota_bytes == 1 << 50
    assert (await house.projects.create(admin, name="library", public=True)).quota_bytes == 1000


async def test_who_is_no_person_makes_none(house: House) -> None:
    for principal in (
        ANONYMOUS,
        Principal(PrincipalKind.ROBOT, "robot-a+b", id=1, limits={"*": ALL_RIGHTS}),
        await house.person("mari", limits={"1": ALL_RIGHTS}),
        Principal(PrincipalKind.PERSON, "gone", id=4711),
    ):
        with pytest.raises(Forbidden):
            await house.project("physics", by=principal)
    await house.project("physics", by=await house.person("mari", limits={"*": frozenset({UPDATE_PROJECT})}))


@pytest.mark.parametrize("who", ["admin", "cacher"])
async def test_a_cache(house: House, who: str) -> None:
    by = await house.admin() if who == "admin" else await house.person("mari", groups=("cachers",))
    assert house.projects.may_cache(by)
    made = await house.projects.create(
        by,
        name="hub",
        public=True,
        upstream="docker.io",
        credential=("user", "password"),
        settings={"cache_bytes": 10**9, "official_images": "alias"},
    )
    assert (made.upstream, made.quota_bytes, made.has_credential) == ("docker.io", None, True)
    assert made.settings == {"cache_bytes": 10**9, "official_images": "alias"}
    stored = (await rows(house.database, "SELECT upstream_credential FROM project"))[0][0]
    assert json.loads(stored[::-1]) == ["user", "password"]

    changed = await house.projects.update(by, made.id, upstream="quay.io", settings={"cache_bytes": None})
    assert (changed.id, changed.upstream, changed.has_credential) == (made.id, "quay.io", True)
    assert changed.settings == {"cache_bytes": None, "official_images": "alias"}
    changed = await house.projects.update(by, made.id, credential=None, public=False, description="of Quay")
    assert (changed.has_credential, changed.public, changed.description) == (False, False, "of Quay")
    with pytest.raises(Forbidden):
        await house.projects.update(await house.person("jaan"), made.id, upstream="docker.io")


async def sees_with_the_configured_account(house: House, project_id: int) -> bool:
    return (await house.database.read(projects.upstream_account, project_id))[1]


async def test_only_operators_have_a_private_cache_see_with_the_configured_account(house: House) -> None:
    admin, member = await house.admin(), await house.person("mari", groups=("cachers",))
    limited = await house.person("admin", is_admin=True, limits={"*": frozenset({UPDATE_PROJECT})})
    for by, may in ((admin, True), (member, False)):
        name = f"of-{by.name}"
        made = await house.projects.create(by, name=name, public=False, upstream="docker.io")
        assert await sees_with_the_configured_account(house, made.id) is may
        # A public one shows only what anybody may see, and may pull with the account.
        made = await house.projects.create(by, name=f"{name}-open", public=True, upstream="docker.io")
        assert await sees_with_the_configured_account(house, made.id)
        await house.projects.update(by, made.id, public=False)
        assert await sees_with_the_configured_account(house, made.id) is may
    changes: list[dict[str, Any]] = [{"upstream": "quay.io"}, {"credential": ("a", "b")}, {"credential": None}]
    for number, change in enumerate(changes):
        made = await house.projects.create(admin, name=f"lent-{number}", public=False, upstream="docker.io")
        await house.projects.update(member, made.id, public=False, description="as it was", upstream="docker.io")
        assert await sees_with_the_configured_account(house, made.id)
        await house.projects.update(member, made.id, **change)
        assert not await sees_with_the_configured_account(house, made.id)
    with pytest.raises(Forbidden):
        await house.projects.create(limited, name="limited", public=False, upstream="docker.io")


async def test_a_project_of_the_configuration_is_the_operators(house: House) -> None:
    async def mark(name: str, *, public: bool = False, upstream: str = "docker.io") -> int:
        async with house.database.transaction() as transaction:
            await projects.create(transaction, name, public=public, upstream=upstream, settings={})
            await projects.mark_as_configured(transaction, name, public=public, upstream=upstream)
            found = await projects.find(transaction, name)
        assert found is not None
        return found.id

    configured = await mark("vault")
    assert await sees_with_the_configured_account(house, configured)
    member = await house.person("mari", groups=("cachers",))
    await house.projects.update(member, configured, upstream="quay.io")
    assert not await sees_with_the_configured_account(house, configured)
    # The next start finds another project than the configuration has.
    await mark("vault")
    assert not await sees_with_the_configured_account(house, configured)
    theirs = await house.projects.create(member, name="theirs", public=False, upstream="docker.io")
    await mark("theirs")
    assert not await sees_with_the_configured_account(house, theirs.id)


@pytest.mark.parametrize(
    "wanted",
    [
        {"upstream": "elsewhere"},
        {"upstream": "docker.io", "quota_bytes": 5},
        {"upstream": "docker.io", "settings": {"cache_bytes": 0}},
        {"upstream": "docker.io", "settings": {"cache_bytes": "much"}},
        {"upstream": "docker.io", "settings": {"official_images": "always"}},
        {"upstream": "docker.io", "settings": {"colour": "red"}},
        {"upstream": "docker.io", "settings": {"allowed_names": "library/*"}},
        {"upstream": "docker.io", "settings": {"allowed_names": ["Library/*"]}},
        {"upstream": "docker.io", "settings": {"denied_names": [5]}},
        {"upstream": "docker.io", "settings": {"denied_names": ["a"] * 101}},
        {"settings": {"denied_names": []}},
        {"upstream": "docker.io", "credential": ("user", "")},
        {"credential": ("user", "password")},
    ],
)
async def test_a_cache_that_cannot_be(house: House, wanted: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        await house.projects.create(await house.admin(), name="hub", public=True, **wanted)


async def test_a_private_cache_is_never_made_public(house: House) -> None:
    admin = await house.admin()
    cache = await house.projects.create(admin, name="hub", public=False, upstream="docker.io")
    with pytest.raises(Conflict, match="make a new public cache instead"):
        await house.projects.update(admin, cache.id, public=True)
    assert not (await house.projects.get(cache.id)).public
    assert (await house.projects.update(admin, cache.id, public=False, description="ours")).description == "ours"
    other = await house.projects.create(admin, name="open-hub", public=True, upstream="docker.io")
    assert (await house.projects.update(admin, other.id, public=True)).public
    assert not (await house.projects.update(admin, other.id, public=False)).public
    with pytest.raises(Conflict, match="make a new public cache instead"):
        await house.projects.update(admin, other.id, public=True)
    host = await house.project("host", by=admin, public=False)
    assert (await house.projects.update(admin, host.id, public=True)).public


async def test_a_host_becomes_no_cache(house: House) -> None:
    made, admin = await house.project(), await house.admin()
    with pytest.raises(Conflict):
        await house.projects.update(admin, made.id, upstream="docker.io")
    with pytest.raises(Invalid):
        await house.projects.update(admin, made.id, settings={"cache_bytes": 5})
    with pytest.raises(Missing):
        await house.projects.update(admin, 4711, public=False)
    assert await house.projects.get(made.id) == made


async def test_everybody_sees_their_own_and_the_public_ones(house: House) -> None:
    admin, mari = await house.admin(), await house.person("mari", groups=("astronomers",))
    ids = {}
    for name, public in (("a-public", True), ("b-mine", False), ("c-group", False), ("d-other", False)):
        ids[name] = (await house.project(name, public=public)).id
    await house.members.add_person(ids["b-mine"], "mari", Role.DEVELOPER)
    await house.members.add_group(ids["b-mine"], "astronomers", Role.GUEST)
    await house.members.add_group(ids["c-group"], "astronomers", Role.MAINTAINER)
    a_robot = Principal(
        PrincipalKind.ROBOT, "robot-x", id=7, limits={str(ids["d-other"]): READ, str(ids["c-group"]): frozenset({PULL})}
    )
    key = await house.person("mari", groups=("astronomers",), limits={str(ids["c-group"]): READ})
    admins_key = await house.person("admin", is_admin=True, limits={str(ids["d-other"]): READ})
    for principal, expected in (
        (ANONYMOUS, ["a-public"]),
        (await house.person("jaan"), ["a-public"]),
        (mari, ["a-public", "b-mine", "c-group"]),
        (admin, ["a-public", "b-mine", "c-group", "d-other"]),
        (a_robot, ["a-public", "d-other"]),
        (key, ["a-public", "c-group"]),
        (admins_key, ["a-public", "d-other"]),
        (
            Principal(PrincipalKind.ROBOT, "robot-y", id=8, limits={"*": READ}),
            ["a-public", "b-mine", "c-group", "d-other"],
        ),
        (Principal(PrincipalKind.ROBOT, "robot-of-a-token"), ["a-public"]),
    ):
        listed = await house.projects.page(principal, Page(50))
        assert [entry.project.name for entry in listed] == expected, principal
        assert (await house.projects.total(principal)).number == len(expected)
        for name, id_ in ids.items():
            rights = await Permissions(house.database).rights(principal, id_, public=name == "a-public")
            assert (READ_PROJECT in rights) == (name in expected), (principal, name)
    roles = {entry.project.name: entry.role for entry in await house.projects.page(mari, Page(50))}
    assert roles == {"a-public": None, "b-mine": Role.DEVELOPER, "c-group": Role.MAINTAINER}
    assert [entry.project.name for entry in await house.projects.page(mari, Page(50), Filter(mine=True))] == [
        "b-mine",
        "c-group",
    ]
    assert (await house.projects.total(mari, wanted=Filter(mine=True, public=True))).number == 0
    assert (await house.projects.entry(mari, ids["b-mine"])).owner == "admin"
    with pytest.raises(Missing):
        await house.projects.entry(mari, ids["d-other"])


async def test_pages_and_filters(house: House) -> None:
    admin = await house.admin()
    for name in ("alpha", "beta_1", "beta-1", "gamma"):
        await house.project(name, public=name != "gamma")

    async def names(**wanted: Any) -> list[str]:
        chosen = Filter(
            **{key: wanted.pop(key) for key in ("name", "public", "mine", "mirrors", "owner") if key in wanted}
        )
        page = Page(**{"limit": 50, **wanted})
        found = await house.projects.page(admin, page, chosen)
        assert (await house.projects.total(admin, page.search, chosen)).number >= len(found)
        return [entry.project.name for entry in found]

    assert await names() == ["alpha", "beta-1", "beta_1", "gamma"]
    assert await names(before="gamma", limit=2) == ["beta-1", "beta_1"]
    assert await names(before="alpha") == await names(before="\0") == []
    assert (await names(mirrors=True), len(await names(mirrors=False))) == ([], 4)
    assert await names(after="alpha", limit=2) == ["beta-1", "beta_1"]
    assert await names(sort=(("creation_time", True),), offset=1, limit=2) == ["beta-1", "beta_1"]
    assert await names(sort=(("name", True),), limit=1) == ["gamma"]
    assert await names(sort=(("owner_name", False), ("name", True)), limit=2) == ["gamma", "beta_1"]
    assert await names(owner="ADMIN", limit=1) == ["alpha"]
    assert await names(owner="nobody") == []
    assert await names(search="BETA") == ["beta-1", "beta_1"]
    assert await names(search="_") == ["beta_1"]
    assert await names(search="%") == []
    assert await names(name="beta_1") == ["beta_1"]
    assert await names(public=False) == ["gamma"]
    for bad in ("\0", "\ud800", "'; --", "\\"):
        assert await names(search=bad) == []
        assert await names(name=bad) == []
        await names(after=bad)


async def test_a_summary(house: House) -> None:
    made = await house.project(by=await house.person("mari"))
    await house.members.add_group(made.id, "astronomers", Role.GUEST)
    await house.members.add_group(made.id, "physicists", Role.GUEST)
    await house.push_blob(b"data")
    await house.show()
    summary = await house.projects.summary(made.id)
    assert (summary.owner, summary.repositories, summary.robots) == ("mari", 1, 0)
    assert summary.members == {"project admin": 1, "guest": 2}
    assert summary.project.used_bytes == 4
    await house.project("hidden", public=False)
    seen = await Census(house.database).statistics(ANONYMOUS)
    assert (seen.public_projects, seen.private_projects, seen.public_repositories, seen.used_bytes) == (1, 0, 1, None)
    seen = await Census(house.database).statistics(await house.admin())
    assert (seen.public_projects, seen.private_projects, seen.public_repositories, seen.used_bytes) == (1, 1, 1, 4)


async def test_a_removed_project_leaves_nothing(house: House) -> None:
    mari = await house.person("mari")
    made, other = await house.project(by=mari), await house.project("biology")
    for project in (made, other):
        await house.quotas.set(await house.admin(), project.id, None)
    shared, own = b"shared" * 10, b"own" * 10
    for name in ("physics/app", "physics/tool", "biology/app"):
        for data in (EMPTY, shared):
            await house.push_blob(data, to=name)
        await house.push(image(shared), "latest", to=name)
    await house.push_blob(own)
    running = await house.open()
    session = await house.uploads.begin(running)
    label = await house.labels.create(made.id, name="good")
    await house.labels.attach(made.id, await house.id_of(), Digest.of(image(shared)), label.id)

    await house.projects.remove(made.id)
    with pytest.raises(NameUnknown):
        await house.open()
    with pytest.raises(NameUnknown):
        await house.uploads.begin(running)
    with pytest.raises(OCIError):
        await house.uploads.find(running, session.id)
    with pytest.raises(Missing):
        await house.projects.remove(made.id)
    assert await rows(house.database, "SELECT DISTINCT project_id FROM link") == [(other.id,)]
    assert await rows(house.database, "SELECT count(*) FROM upload") == [(0,)]
    assert [row[0] for row in await rows(house.database, "SELECT name FROM project")] == ["biology"]
    async with house.database.transaction() as transaction:
        await transaction.execute(text("UPDATE garbage SET remove_at = 1"))
    await house.collection.collect()
    assert house.objects() == 2, "what the other project has"
    await house.check_books()


async def test_a_removal_that_was_interrupted_is_gone_on_with(house: House) -> None:
    made = await house.project()
    for number in range(3):
        await house.push_blob(f"data {number}".encode(), to=f"physics/app{number}")
    async with house.database.transaction() as transaction:
        await transaction.execute(text(f"UPDATE project SET name = '~{made.id}' WHERE id = {made.id}"))
    for principal in (await house.admin(), ANONYMOUS):
        assert await house.projects.page(principal, Page(50)) == []
    with pytest.raises(Missing):
        await house.projects.get(made.id)
    with pytest.raises(Missing):
        await house.quotas.usage(made.id)
    await house.project()
    await house.collection.collect()
    assert await rows(house.database, "SELECT count(*) FROM link") == [(0,)]
    assert [row[0] for row in await rows(house.database, "SELECT name FROM project")] == ["physics"]


@pytest.mark.parametrize("what", ["project", "repository"])
async def test_what_is_large_goes_in_batches(house: House, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Whoever asked waits for some of them, collection does the rest; the name is free at once."""
    monkeypatch.setattr("app.projects.removal._BATCH", 2)
    monkeypatch.setattr("app.projects.removal._BATCHES_AT_ONCE", 1)
    made = await house.project()
    for number in range(7):
        await house.push_blob(f"data {number}".encode())
    if what == "project":
        await house.projects.remove(made.id)
        made = await house.project()
    else:
        await house.repositories.remove(await house.id_of())
    assert await rows(house.database, "SELECT count(*) FROM link") == [(5,)]
    await house.check_books()
    await house.push_blob(b"anew")
    await house.show()
    await house.collection.collect()
    assert await rows(house.database, "SELECT count(*) FROM link") == [(1,)]
    assert [entry.name for entry in await house.database.read(repositories.page, made.id, Page(50))] == ["app"]
    assert await house.used(made.id) == 4


async def test_a_push_while_the_project_goes(house: House) -> None:
    """Whatever was begun ends with an error that says so, and nothing is left of it."""
    await house.project()
    repository = await house.open()
    session = await house.uploads.begin(repository)
    with pytest.raises(OCIError):  # noqa: PT012  # the commit is refused
        async with house.uploads.receive(repository, session) as receiving:
            await receiving.take(body(b"data"))
            await house.projects.remove((await house.projects.find("physics")).id)
            await receiving.commit(Digest.of(b"data"))
    assert not await house.blobs.mount(repository, Digest.of(b"data"), None)
    with pytest.raises(NameUnknown):
        await house.manifests.put(repository, Tag("latest"), [], None, image())
    assert await rows(house.database, "SELECT count(*) FROM blob") == [(0,)]
