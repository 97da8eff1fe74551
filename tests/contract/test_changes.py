"""Every function that changes a row of which there are copies tells the other workers before its writer is answered."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.access.roles import Role
from app.database import (
    Database,
    Transaction,
    access_keys,
    accounts,
    attendance,
    blobs,
    credentials,
    manifests,
    members,
    moved,
    projects,
    removals,
    retention,
    robots,
    webhooks,
)
from app.database.keyset import Page
from app.database.webhooks import EventType, Webhook
from app.oci.digest import Digest
from tests.parts.valkey import Valkey

from .copying import Host, hosts
from .rows import add_blob, add_manifest, image, make_project, make_repository

QUERIES = Path(__file__).resolve().parents[2] / "app" / "database"
# Their rows are what point queries read.
COPIED = {
    "project", "repository", "manifest", "tag", "link", "blob", "member", "account", "access_key", "robot", "webhook",
}  # fmt: skip
# They set columns of which nobody keeps a copy, or remove rows that nobody finds any more.
HARMLESS = {
    "backfills._see_everybody": "seen_at of rows without one, which count as seen as well",
    "blobs._remove_unlinked": "after the last link",
    "blobs.touch": "pulled_at",
    "credentials.touch": "last_used_at, last_used_from",
    "immutability._mark": "immutable, which is read with a lock",
    "moved.date_manifests": "created_at, pulled_at",
    "moved.date_tags": "updated_at; checked_at as in manifests.set_checked",
    "moved.describe_repository": "description, created_at, pull_count",
    "moved.replace_object": "the former object stays for longer than copies of the row",
    "retention.create": "retention_id, which people read",
    "retention.remove": "retention_id, which people read",
    "manifests.set_checked": "checked_at, which is read again before the upstream is asked",
    "manifests.touch": "pulled_at",
    "personal_data.hide": "created_by and its like, which tell people who did something",
    "plans.keep": "kept_until, which eviction reads",
    "projects.mark_as_configured": "uses_configured_account",
    "projects.set_owner": "owner_id",
    "projects.show_repository": "pending",
    "quotas.charge": "used_bytes",
    "quotas.set_quota": "quota_bytes",
    "binned._forget": "an entry of the bin, which nobody finds by a name",
    "binned.end": "an entry of the bin, which nobody finds by a name",
    "binned.return_project": "no copy has its name",
    "binned.return_repository": "no copy has its name",
    "removals._remove_people": "told by hide_project and end_project",
    "robots.show_of_project": "nobody could log in by the former names; the new ones are told",
    "removals.remove_project": "hidden before",
    "removals.remove_repository": "hidden before, or told by remove_pending",
    "removals.show_filled": "pending",
    "repositories.add_pulls": "pull_count",
    "repositories.describe": "description",
    "uncharged._charge_manifests": "charged_bytes",
    "uncharged._charge_rows": "charged_bytes",
}
OLD, NEW = image("old"), image("new")
OLD_DIGEST, NEW_DIGEST = Digest.of(OLD.payload), Digest.of(NEW.payload)
BLOB = Digest.of(b"data")


class Scene:
    """The ids of what there is: physics/app with two manifests, a tag and a blob, two people, a key, two robots."""

    def __init__(self, project: int, repository: int, person: int, member: int, key: int, robot: int) -> None:
        self.project, self.repository, self.person = project, repository, person
        self.member, self.key, self.robot = member, key, robot


async def furnish(database: Database) -> Scene:
    project = await make_project(database)
    repository = await make_repository(database, project)
    await add_manifest(database, repository, NEW)
    await add_manifest(database, repository, OLD, "latest")
    await add_blob(database, project, repository, b"data", "key")
    async with database.transaction() as transaction:
        assert await accounts.create(transaction, "mari", "hash", is_admin=True)
        person = await accounts.find(transaction, "mari")
        assert person is not None
        member = await members.add(transaction, project, Role.DEVELOPER, account_id=person.id)
        key = await access_keys.create(
            transaction, account_id=person.id, name="laptop", secret_hash="key", permissions={}, expires_at=2e9
        )
        robot = await robots.create(
            transaction, project_id=project, name="robot-ci", description="", secret_hash="robot", permissions={},
            created_by="mari", expires_at=None,
        )  # fmt: skip
        await make_webhook(transaction, Scene(project, repository, 0, 0, 0, 0), "first", EventType.PUSH)
    assert member is not None
    assert key is not None
    assert robot is not None
    return Scene(project, repository, person.id, member, key.id, robot.id)


async def add_key(transaction: Transaction, scene: Scene) -> None:
    """Replace a key by one with another secret."""
    named = {"name": "laptop", "login_name": "old", "secret_hash": "other"}
    await moved.add_key(transaction, scene.person, **named, permissions={}, expires_at=2e9)


async def make_webhook(transaction: Transaction, scene: Scene, name: str, *events: EventType) -> None:
    about = {"description": "", "enabled": True, "url": "u", "auth_header": None, "payload_format": "Default"}
    made = await webhooks.create(transaction, scene.project, created_by="", name=name, event_types=events, **about)
    assert made is not None


async def the_webhook(transaction: Transaction, scene: Scene) -> Webhook:
    (found,) = await webhooks.page(transaction, scene.project, Page(2))
    return found


async def change_webhook(transaction: Transaction, scene: Scene) -> None:
    assert await webhooks.change(transaction, await the_webhook(transaction, scene), event_types=(EventType.PULL,))


async def remove_webhook(transaction: Transaction, scene: Scene) -> None:
    await webhooks.remove(transaction, await the_webhook(transaction, scene))


async def told(database: Database, scene: Scene) -> object:
    return [await webhooks.wanted(database, scene.project, event) for event in EventType]


Change = Callable[[Transaction, Scene], Awaitable[Any]]
Read = Callable[[Database, Scene], Awaitable[Any]]


async def tag(database: Database, scene: Scene) -> object:
    found = await manifests.tagged(database, scene.repository, "latest")
    return found and (found.digest, found.checked_at)


async def present(database: Database, scene: Scene) -> object:
    return await manifests.present(database, scene.repository, OLD_DIGEST)


async def linked(database: Database, scene: Scene) -> object:
    return await blobs.linked(database, scene.repository, BLOB)


async def resolved(database: Database, _: Scene) -> object:
    return await projects.resolve(database, "physics", "app")


async def headed(database: Database, _: Scene) -> object:
    return await projects.head(database, "physics")


async def found_repository(database: Database, scene: Scene) -> object:
    return await projects.repository_id(database, scene.project, "app")


async def roles(database: Database, scene: Scene) -> object:
    return await members.roles(database, scene.project, scene.person, frozenset({"staff"}))


async def key(database: Database, _: Scene) -> object:
    return await credentials.find(database, "mari", "key")


async def robot(database: Database, _: Scene) -> object:
    return await credentials.find(database, "robot-ci", "robot")


async def login(database: Database, _: Scene) -> object:
    return await accounts.for_login(database, "mari")


async def known_robot(database: Database, _: Scene) -> object:
    return await credentials.is_name(database, "robot-ci")


async def known_person(database: Database, _: Scene) -> object:
    return await credentials.is_name(database, "mari")


# What each function does, and all the questions whose answers change with it.
CASES: dict[str, tuple[Change, tuple[Read, ...]]] = {
    "accounts.renew_password": (lambda t, s: accounts.renew_password(t, s.person, "hash", "other"), (login,)),
    "credentials.renew_robot": (lambda t, s: credentials.renew_robot(t, s.robot, "robot", "other"), (robot,)),
    "moved.add_key": (lambda t, s: add_key(t, s), (key,)),
    "access_keys.remove": (lambda t, s: access_keys.remove(t, s.person, s.key), (key,)),
    "accounts.change": (lambda t, s: accounts.change(t, s.person, is_admin=False), (key, login)),
    "accounts.remove": (lambda t, s: accounts.remove(t, s.person), (key, login, known_person, roles)),
    "accounts.set_password": (lambda t, _: accounts.set_password(t, "mari", "other"), (login,)),
    "attendance.mark": (lambda t, s: attendance.mark(t, [s.project], 1.0), (robot,)),
    "blobs.unlink": (lambda t, s: blobs.unlink(t, s.repository, BLOB), (linked,)),
    "manifests.remove_rows": (lambda t, s: manifests.remove(t, s.repository, OLD_DIGEST), (present, tag)),
    "manifests.remove_tag": (lambda t, s: manifests.remove_tag(t, s.repository, "latest"), (tag,)),
    "manifests.set_tags": (lambda t, s: manifests.set_tags(t, s.repository, ["latest"], NEW_DIGEST), (tag,)),
    "members.add": (lambda t, s: members.add(t, s.project, Role.GUEST, group="staff"), (roles,)),
    "members.remove": (lambda t, s: members.remove(t, s.member), (roles,)),
    "members.set_role": (lambda t, s: members.set_role(t, s.member, Role.GUEST), (roles,)),
    "projects.change": (lambda t, _: projects.change(t, "physics", public=False), (resolved, headed)),
    "removals.end_project": (lambda t, s: removals.end_project(t, s.project), (roles, robot, known_robot)),
    "robots.hide_of_project": (lambda t, s: robots.hide_of_project(t, s.project), (robot, known_robot)),
    "removals.hide_project": (
        lambda t, s: removals.hide_project(t, s.project),
        (resolved, headed, roles, robot, known_robot),
    ),
    "removals.hide_repository": (
        lambda t, s: removals.hide_repository(t, s.repository),
        (resolved, found_repository),
    ),
    "retention.note_pulls": (lambda t, s: retention.note_pulls(t, s.project, 9e9), (resolved,)),
    "robots.change": (lambda t, s: robots.change(t, s.robot, secret_hash="other"), (robot,)),
    "robots.remove": (lambda t, s: robots.remove(t, s.robot), (robot, known_robot)),
    "webhooks.change": (lambda t, s: change_webhook(t, s), (told,)),
    "webhooks.create": (lambda t, s: make_webhook(t, s, "other", EventType.PULL), (told,)),
    "webhooks.remove": (lambda t, s: remove_webhook(t, s), (told,)),
    "robots.remove_of_project": (lambda t, s: robots.remove_of_project(t, s.project), (robot, known_robot)),
}


def writers() -> set[str]:
    """Find the functions that change or remove rows of copied tables, as MODULE.FUNCTION."""
    found = set()
    for path in sorted(QUERIES.glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef) and any(map(_changes, ast.walk(function))):
                found.add(f"{path.stem}.{function.name}")
    return found


def _changes(node: ast.AST) -> bool:
    """Say whether a node is ``update(TABLE)``, ``delete(TABLE)``, ``TABLE.update()`` or ``TABLE.delete()``."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name) and node.func.id in ("update", "delete") and node.args:
        table = node.args[0]
        # A loop over tables, or a column's table, names none of them and counts as all.
        return not isinstance(table, ast.Name) or table.id in COPIED or table.id == "table"
    named = isinstance(node.func, ast.Attribute) and node.func.attr in ("update", "delete")
    return named and getattr(getattr(node.func, "value", None), "id", "") in COPIED


def test_every_writer_is_tried_or_harmless() -> None:
    # Their rows are new, but a copy of all groups' roles, or of all webhooks' events, lacks them.
    by_adding = {"members.add", "webhooks.create"}
    assert writers() | by_adding == set(CASES) | set(HARMLESS)


@pytest.fixture
async def two(postgres_url: str, valkey: Valkey) -> AsyncIterator[list[Host]]:
    async with hosts(postgres_url, valkey.url, valkey.url) as opened:
        yield opened


@pytest.mark.parametrize("name", sorted(CASES))
async def test_another_worker_shows_it_as_soon_as_it_was_answered(two: list[Host], name: str) -> None:
    writer, reader = two
    change, reads = CASES[name]
    scene = await furnish(writer)
    before = [await read(reader, scene) for read in reads]
    asked = reader.asked.total()
    assert [await read(reader, scene) for read in reads] == before
    assert reader.asked.total() == asked or name == "members.add", "these are copies"
    async with writer.transaction() as transaction:
        await change(transaction, scene)
    after = [await read(reader, scene) for read in reads]
    alone = Database(reader.url.render_as_string(hide_password=False))
    assert after == [await read(alone, scene) for read in reads]
    await alone.close()
    assert all(was != now for was, now in zip(before, after, strict=True)), (before, after)
