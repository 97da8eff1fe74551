"""No query reads a whole table: every one walks an index, on both databases.

Pages of lists are in `tests.growth`, which measures what they read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import event, text

from app.database import (
    Database,
    Transaction,
    artifacts,
    binned,
    blobs,
    labels,
    manifests,
    members,
    projects,
    quotas,
    removals,
    repositories,
    uncharged,
    uploads,
)
from app.database.keyset import Page
from app.database.projects import Viewer
from app.database.uploads import UploadSession
from app.oci.digest import Digest

from .rows import add_blob, add_manifest, image, index, make_project, make_repository

MARI = Viewer(account_id=1, groups=frozenset({"astronomers"}))

A, B = Digest.of(b"a"), Digest.of(b"b")
APP = Digest.of(image("app", Digest.of(b"layer")).payload)
QUERIES: dict[str, Callable[[Transaction], Awaitable[object]]] = {
    "linked sizes": lambda t: blobs.linked_sizes(t, 1, [A, B]),
    "linked in project": lambda t: blobs.linked_in_project(t, 1, A),
    "add a blob": lambda t: blobs.add(t, A, "key", 1),
    "link": lambda t: blobs.add_link(t, 1, 1, Digest.of(b"layer")),
    "unlink": lambda t: blobs.unlink(t, 1, Digest.of(b"layer")),
    "touch blobs": lambda t: blobs.touch(t, {(1, A): 1.0}),
    "coldest": lambda t: blobs.coldest(t, 1, 5.0, 10),
    "due garbage": lambda t: blobs.due_garbage(t, 10),
    "forget garbage": lambda t: blobs.forget_garbage(t, ["key"]),
    "sizes": lambda t: manifests.sizes(t, 1, [A, B]),
    "set tags": lambda t: manifests.set_tags(t, 1, ["latest", "new"], APP),
    "set checked": lambda t: manifests.set_checked(t, 1, "latest", A),
    "remove a tag": lambda t: manifests.remove_tag(t, 1, "latest"),
    "remove a manifest": lambda t: manifests.remove(t, 1, A),
    "tags": lambda t: manifests.tags(t, 1, "a", 10),
    "referrers": lambda t: manifests.referrers(t, 1, A, None, "", 10),
    "referrers of a kind": lambda t: manifests.referrers(t, 1, A, "application/x", B, 10),
    "is referenced": lambda t: manifests.is_referenced(t, 1, A),
    "names blob": lambda t: manifests.names_blob(t, 1, A),
    "touch manifests": lambda t: manifests.touch(t, {(1, A): 1.0}),
    "ask review": lambda t: manifests.ask_review(t, 1, [A, B], 1.0),
    "due reviews": lambda t: manifests.due_reviews(t, 10),
    "find a project": lambda t: projects.find(t, "physics"),
    "charge": lambda t: quotas.charge(t, 1, 5),
    "open uploads": lambda t: uploads.count_open(t, 1, "person:mari", 10),
    "end idle uploads of somebody in a project": lambda t: uploads.remove_idle_in(t, 1, "person:mari", 0.0, 10),
    "end idle uploads in a project": lambda t: uploads.remove_idle_in(t, 1, None, 0.0, 10),
    "settle": lambda t: quotas.settle(t, {1: 5}),
    "charge what is not charged": uncharged.charge_some,
    "room": lambda t: quotas.room(t, 1),
    "reserve": lambda t: uploads.reserve(t, 1, "upload", 5, 5),
    "give back": lambda t: uploads.give_back(t, 1, "upload", 0),
    "end an upload": lambda t: uploads.end(t, "upload"),
    "remove an upload": lambda t: uploads.remove(t, "upload"),
    "find an upload with room": lambda t: uploads.find_with_room(t, 1, "upload"),
    "keep": lambda t: projects.keep(t, 1, 1),
    "roles": lambda t: projects.roles(t, MARI, [1, 2]),
    "owned": lambda t: projects.owned(t, 1),
    "find a member": lambda t: members.find(t, 1, 1),
    "own membership": lambda t: members.of_account(t, 1, 1),
    "labels of manifests": lambda t: labels.of_manifests(t, 1, [APP, A]),
    "find a repository": lambda t: repositories.find(t, 1, "app"),
    "count pulls": lambda t: repositories.add_pulls(t, {1: 5}),
    "payloads": lambda t: artifacts.payloads(t, 1, [APP, A], 100),
    "parts": lambda t: artifacts.parts(t, 1, [APP, A]),
    "present": lambda t: artifacts.present(t, 1, [APP, A]),
    "put off a review": lambda t: manifests.put_off_review(t, 1, A, 5.0),
    "hidden projects": removals.hidden_projects,
    "hidden repositories": removals.hidden_repositories,
    "repositories that have had nothing": lambda t: removals.left_pending(t, 5.0, 10),
    "show what has something": removals.show_filled,
    "the bin": lambda t: binned.page(t, 1, Page(10)),
    "the oldest of the bin": lambda t: binned.oldest(t, 1, 10),
    "end the oldest of all bins": lambda t: binned.end_older(t, 5.0, 10),
    "deleted projects": lambda t: binned.projects_of(t, None, Page(10)),
    "the oldest deleted projects": lambda t: binned.older_projects(t, 5.0, 10),
    "put into the bin": lambda t: binned.put(t, 1, APP, ["latest"], "person:mari"),
    "unlink some": lambda t: blobs.unlink_some(t, 1, 10),
    "ensure repository": lambda t: projects.ensure_repository(t, 1, "app"),
    "find an upload": lambda t: uploads.find(t, 1, "upload"),
    "remove idle uploads": lambda t: uploads.remove_idle(t, 5.0, 10),
}
# What PostgreSQL would do with tables too large to be read whole, of which the tests have none.
LARGE_TABLES = "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off"


@pytest.mark.parametrize("name", QUERIES)
async def test_the_plan(database: Database, name: str) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    layer = await add_blob(database, project, repository, b"layer", "key1")
    await add_manifest(database, repository, image("app", layer), "latest")
    await add_manifest(database, repository, index(image("app", layer)))
    statements: list[tuple[str, Any]] = []

    def note(
        _connection: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool
    ) -> None:
        statements.append((statement, parameters[0] if many else parameters))

    async with database.transaction() as transaction:
        await manifests.ask_review(transaction, repository, [A], 1.0)
        await uploads.create(transaction, UploadSession("upload", repository, "key2", None, 0, ""))
        if not database.is_sqlite:
            for setting in LARGE_TABLES.split(";"):
                await transaction.execute(text(setting))
        connection = transaction.sync_connection
        event.listen(connection, "before_cursor_execute", note)
        await QUERIES[name](transaction)
        event.remove(connection, "before_cursor_execute", note)
        assert statements
        for statement, parameters in statements:
            explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
            rows = await transaction.exec_driver_sql(explain + statement, parameters)
            plan = [str(row[-1]).strip() for row in rows]
            bad = [line for line in plan if reads_everything(line)]
            assert not bad, "\n".join([statement, *plan])


def reads_everything(line: str) -> bool:
    """Say whether a line of a plan reads or sorts a whole table; a few values in memory, or one project, are none."""
    # Some indexes have a few rows alone. What a subquery reads is in lines of its own.
    few = ("_uncharged", "_being_removed", "_empty")
    if "CONSTANT ROW" in line or "Incremental Sort" in line or line.endswith(few) or "SCAN anon_" in line:
        return False
    return (
        line.startswith(("SCAN ", "USE TEMP B-TREE"))
        or "Seq Scan" in line
        or "->  Sort " in line
        # Parts are asked for by their digest: the repository alone would be all of its parts.
        or ("SEARCH part" in line and line.endswith("(repository_id=?)"))
    )
