"""The latest pushes, the sizes, the robots that end soon, and repositories by what they hold, on both databases."""

from __future__ import annotations

from sqlalchemy import update

from app.database import Database, activity, repositories, robots
from app.database.activity import Push, RepositorySize
from app.database.keyset import Page
from app.database.projects import Viewer
from app.database.repositories import Holding
from app.database.tables import tag
from app.oci.digest import Digest

from .rows import add_blob, add_manifest, image, make_project, make_repository


async def _tagged(database: Database, repository: int, name: str, at: float) -> None:
    await add_manifest(database, repository, image(f"{repository} {name}", Digest.of(b"layer")), name)
    async with database.transaction() as transaction:
        here = (tag.c.repository_id == repository) & (tag.c.name == name)
        await transaction.execute(update(tag).where(here).values(updated_at=at))


async def test_the_latest_pushes_of_some_projects(database: Database) -> None:
    lab, other, empty = [await make_project(database, name) for name in ("lab", "other", "empty")]
    app, tool = [await make_repository(database, lab, name) for name in ("app", "tool")]
    far = await make_repository(database, other, "far")
    await make_repository(database, lab, "bare")
    for repository, name, at in (
        (app, "1", 100.0), (app, "2", 300.0), (app, f"sha256-{'0' * 64}.sig", 400.0), (tool, "x", 200.0),
        (far, "y", 900.0),
    ):  # fmt: skip
        await _tagged(database, repository, name, at)
    async with database.reading() as transaction:
        found = await activity.pushed(transaction, [lab, empty], looked=10, limit=10)
        assert found == [Push("lab", "app", "2", 300.0), Push("lab", "tool", "x", 200.0)]
        assert [one.name for one in await activity.pushed(transaction, [lab, other], looked=10, limit=2)] == [
            "far", "app",
        ]  # fmt: skip
        assert await activity.pushed(transaction, [], looked=10, limit=10) == []


async def test_the_sizes_of_repositories(database: Database) -> None:
    lab, other = await make_project(database, "lab"), await make_project(database, "other")
    app, tool = [await make_repository(database, lab, name) for name in ("app", "tool")]
    far = await make_repository(database, other, "far")
    for repository, project, data in (
        (app, lab, b"a" * 500), (app, lab, b"s" * 100), (tool, lab, b"s" * 100), (tool, lab, b"t" * 7),
        (far, other, b"a" * 500),
    ):  # fmt: skip
        await add_blob(database, project, repository, data, f"{repository}{data[:1]!r}")
    await make_repository(database, lab, "bare")
    for repository in (app, tool, far):
        await _tagged(database, repository, "1", 1.0)
    async with database.reading() as transaction:
        found, complete = await activity.sizes(transaction, lab, 10)
        assert found == [RepositorySize("app", 600, 500, 2), RepositorySize("tool", 107, 7, 2)]
        assert complete
        assert [one.name for one in (await activity.sizes(transaction, lab, 1))[0]] == ["app"]
        assert await activity.sizes(transaction, lab + other + 9, 10) == ([], True)


async def test_robots_that_end_soon(database: Database) -> None:
    lab, other = await make_project(database, "lab"), await make_project(database, "other")
    async with database.transaction() as transaction:
        for project, name, expires_at in (
            (lab, "late", 500.0), (lab, "soon", 150.0), (lab, "sooner", 120.0), (lab, "gone", 90.0),
            (lab, "never", None), (other, "far", 130.0),
        ):  # fmt: skip
            await robots.create(
                transaction, project_id=project, name=f"robot${name}", description="", secret_hash=name, permissions={},
                created_by="x", expires_at=expires_at,
            )  # fmt: skip
    async with database.reading() as transaction:
        found = await robots.ending(transaction, [lab], 100.0, 200.0, 5)
        assert [one.name for one in found] == ["robot$sooner", "robot$soon"]
        found = await robots.ending(transaction, [lab, other], 100.0, 200.0, 2)
        assert [one.name for one in found] == ["robot$sooner", "robot$far"]


async def test_repositories_are_found_by_what_they_hold(database: Database) -> None:
    lab, secret = await make_project(database, "lab"), await make_project(database, "secret", public=False)
    digests = {}
    for project, name, tags in ((lab, "app", ("1.0", "1.1")), (lab, "tool", ("2.0",)), (secret, "app", ("1.0",))):
        repository = await make_repository(database, project, name)
        made = image(f"{project} {name}", Digest.of(b"layer"))
        digests[project, name] = repository, await add_manifest(database, repository, made, *tags)
    nobody, everybody = Viewer(everything=False), Viewer(everything=True)

    async def found(viewer: Viewer, holding: Holding, search: str = "") -> dict[str, str]:
        async with database.reading() as transaction:
            page: Page[tuple[str, str]] = Page(10, search=search)
            entries = await repositories.search(transaction, viewer, page, holding)
            held = await repositories.held(transaction, [entry.id for entry in entries], holding)
        return {entry.full_name: held[entry.id] for entry in entries}

    tag = Holding("tag", "1.")
    assert await found(nobody, tag) == {"lab/app": "1.0"}
    assert await found(everybody, tag) == {"lab/app": "1.0", "secret/app": "1.0"}
    assert await found(everybody, tag, "SECRET/") == {"secret/app": "1.0"}
    assert await found(everybody, Holding("tag", "1.1")) == {"lab/app": "1.1"}
    assert await found(everybody, Holding("tag", "1.%")) == {}
    _, digest = digests[lab, "tool"]
    for text in (digest, digest[:20]):
        assert await found(nobody, Holding("digest", text)) == {"lab/tool": digest}
    assert await found(nobody, Holding("digest", digests[secret, "app"][1])) == {}
    async with database.reading() as transaction:
        pages: list[str] = []
        after = None
        for _ in range(3):
            entries = await repositories.search(transaction, everybody, Page(1, after), tag)
            pages += [entry.full_name for entry in entries]
            after = (entries[-1].project, entries[-1].name) if entries else None
            if after is None:
                break
    assert pages == ["lab/app", "secret/app"]
