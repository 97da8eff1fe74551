"""A project's quota through the running service: told before the body is sent, never exceeded, always given back."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from sqlalchemy import text

from app.database import Database, binned, projects, quotas
from app.projects.removal import finish_removals
from tests.api.client import Answer, Registry, basic, closing, digest_of, expect, location, refused
from tests.api.conftest import PROJECTS
from tests.api.documents import EMPTY, OCI_MANIFEST, fresh, image
from tests.api.wire import Connection
from tests.parts.process import wait_for
from tests.parts.service import Service

MiB = 1024 * 1024
T = TypeVar("T")


class Books:
    """Looks into the database of a service that runs, and sets quotas in it."""

    def __init__(self, service: Service) -> None:
        self._url = f"sqlite:///{service.folder / 'data' / 'registry.sqlite'}"
        self._others = 0
        self._others = self.sessions()

    def limit(self, name: str, more: int | None) -> None:
        """Leave a project ``more`` bytes beyond what it uses now; None: no end. Its bin is emptied first."""

        async def change(database: Database) -> None:
            async with database.transaction() as transaction:
                project = await projects.find(transaction, name)
                assert project is not None
                await binned.end(transaction, [one.id for one in await binned.oldest(transaction, project.id, 1000)])
            # Otherwise the collection of the service removes them in the middle of a test, and the project uses less.
            await finish_removals(database)
            async with database.transaction() as transaction:
                project = await projects.find(transaction, name)
                assert project is not None
                quota = None if more is None else project.used_bytes + more
                await quotas.set_quota(transaction, project.id, quota)

        self._do(change)

    def used(self, name: str) -> int:
        """Read what a project is charged for, checked against what it has and what its running uploads hold."""

        async def read(database: Database) -> tuple[int, int]:
            async with database.reading() as transaction:
                project = await projects.find(transaction, name)
                assert project is not None
                blobs = "SELECT sum(size) FROM blob WHERE digest IN (SELECT digest FROM link"
                others = [
                    f"SELECT sum(charged_bytes) FROM {table} JOIN repository ON repository_id = repository.id"
                    for table in ("upload", "manifest", "tag", "tag_history")
                ]
                sums = (
                    f"{blobs} WHERE project_id = :project)",
                    *(f"{one} WHERE project_id = :project" for one in others),
                )
                has = [
                    (await transaction.execute(text(statement), {"project": project.id})).scalar() or 0
                    for statement in sums
                ]
            return project.used_bytes, sum(has)

        used, has = self._do(read)
        assert used == has
        return used

    def sessions(self) -> int:
        """Count the upload sessions that were begun since, and have not ended."""

        async def count(database: Database) -> int:
            async with database.reading() as transaction:
                return int((await transaction.execute(text("SELECT count(*) FROM upload"))).scalar_one())

        return self._do(count) - self._others

    def _do(self, work: Callable[[Database], Awaitable[T]]) -> T:
        async def run() -> T:
            database = Database(self._url)
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(run())


@pytest.fixture
def books(service: Service) -> Iterator[Books]:
    books = Books(service)
    yield books
    for name in ("lab", "secret"):
        books.limit(name, None)
        books.used(name)


def pushed(user: Registry, name: str, data: bytes, how: str) -> Answer:
    """Push a blob in one of the ways of the specification; give the first answer that is no invitation to go on."""
    digest = digest_of(data)
    if how == "post":
        return user.call("POST", closing(f"/v2/{name}/blobs/uploads/", digest), data)
    session = user.begin(name)
    pieces = [data[start : start + MiB // 4] for start in range(0, len(data), MiB // 4)]
    if how == "put":
        return user.call("PUT", closing(session, digest), data)
    if how == "chunked put":
        return user.call("PUT", closing(session, digest), iter(pieces))
    start, answer = 0, user.call("PATCH", session, iter(pieces if how == "chunked patch" else []))
    if how == "patches":
        for piece in pieces:
            headers = {"Content-Range": f"{start}-{start + len(piece) - 1}"}
            answer = user.call("PATCH", session, piece, headers)
            start += len(piece)
            if answer.status != 202:
                break
    if answer.status != 202:
        return answer
    return user.call("PUT", closing(location(answer), digest), b"")


@pytest.mark.parametrize("how", ["post", "put", "chunked put", "chunked patch", "patches"])
@pytest.mark.parametrize("size", [1000, 3 * MiB])
def test_over_and_within(books: Books, admin: Registry, name: str, how: str, size: int) -> None:
    books.limit("lab", size - 1)
    before = books.used("lab")
    words = refused(pushed(admin, name, fresh(size), how), 403, "DENIED")
    assert words.startswith("quota of lab: ")
    assert books.used("lab") == before
    assert books.sessions() == 0
    books.limit("lab", size)
    data = fresh(size)
    expect(pushed(admin, name, data, how), 201)
    assert books.used("lab") == before + size
    assert expect(admin.blob(name, digest_of(data)), 200).body == data


def test_it_is_told_before_the_body_is_sent(books: Books, service: Service, admin: Registry, name: str) -> None:
    books.limit("lab", 5 * MiB)
    session = admin.begin(name)
    headers = {
        "Authorization": basic(service.username, service.password),
        "Content-Length": str(10 * MiB),
        "Expect": "100-continue",
    }
    with Connection(service.host) as connection:
        connection.request("PUT", closing(session, digest_of(b"")), headers)
        words = refused(connection.answer(), 403, "DENIED")
    assert "this needs 10.0 MiB more" in words
    assert books.sessions() == 0


def test_a_blob_the_project_has_is_free_to_mount(books: Books, admin: Registry, name: str, secret: str) -> None:
    data = fresh(2 * MiB)
    admin.push_blob(name, data)
    for project in ("lab", "secret"):
        books.limit(project, 0)
    used = books.used("lab")
    query = f"?mount={digest_of(data)}&from={name}"
    other = f"lab/{uuid.uuid4().hex[:12]}"
    expect(admin.call("POST", f"/v2/{other}/blobs/uploads/{query}", b"", token=both(admin, other, name)), 201)
    assert books.used("lab") == used
    answer = admin.call("POST", f"/v2/{secret}/blobs/uploads/{query}", b"", token=both(admin, secret, name))
    assert refused(answer, 403, "DENIED").startswith("quota of secret: ")
    books.limit("secret", len(data))
    expect(admin.call("POST", f"/v2/{secret}/blobs/uploads/{query}", b"", token=both(admin, secret, name)), 201)


def both(user: Registry, name: str, source: str) -> str:
    return user.token(f"repository:{name}:pull,push", f"repository:{source}:pull")


def test_a_cancelled_upload_and_a_wrong_digest_give_back(books: Books, admin: Registry, name: str) -> None:
    books.limit("lab", 5 * MiB)
    before = books.used("lab")
    data = fresh(4 * MiB)
    session = location(expect(admin.call("PATCH", admin.begin(name), data), 202))
    assert books.used("lab") >= before + len(data)
    refused(admin.call("PATCH", admin.begin(name), data), 403, "DENIED")
    expect(admin.call("DELETE", session), 204)
    assert books.used("lab") == before
    answer = admin.call("POST", closing(f"/v2/{name}/blobs/uploads/", digest_of(b"else")), data)
    refused(answer, 400, "DIGEST_INVALID")
    assert books.used("lab") == before


def test_two_workers_at_once_never_exceed_it(
    books: Books, admin: Registry, first: Registry, second: Registry, name: str
) -> None:
    books.limit("lab", 10 * MiB)
    before = books.used("lab")
    contents = [fresh(3 * MiB) for _ in range(8)]

    def push(number: int) -> int:
        user = (first, second)[number % 2]
        return pushed(user, name, contents[number], ("put", "chunked patch")[number // 2 % 2]).status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(push, range(8)))
    assert set(statuses) <= {201, 403}
    assert statuses.count(201) >= 1
    # A refused push gives back what the same person has pushed there before.
    kept = [data for data in contents if admin.blob(name, digest_of(data)).status == 200]
    assert len(kept) <= 3
    assert books.used("lab") == before + 3 * MiB * len(kept)


def test_a_client_that_leaves_gives_the_rest_back(books: Books, service: Service, admin: Registry, name: str) -> None:
    books.limit("lab", 200 * MiB)
    before = books.used("lab")
    session = admin.begin(name)
    headers = {"Authorization": basic(service.username, service.password), "Content-Length": str(100 * MiB)}
    with Connection(service.host) as connection:
        connection.request("PATCH", session, headers, fresh(2 * MiB))
        wait_for(lambda: books.used("lab") >= before + 100 * MiB, what="the announced bytes to be charged")
    wait_for(lambda: books.used("lab") < before + 20 * MiB, what="the bytes that will not come to be given back")
    expect(admin.call("DELETE", session), 204)
    assert books.used("lab") == before


def test_a_warning_with_the_push(books: Books, admin: Registry, name: str) -> None:
    for data in (EMPTY, layer := fresh()):
        admin.push_blob(name, data)
    assert admin.put_manifest(name, "v1", image(layer), OCI_MANIFEST).get("Warning") is None
    books.limit("lab", 0)
    # What is here already costs nothing.
    answer = expect(admin.put_manifest(name, "v1", image(layer), OCI_MANIFEST), 201)
    assert answer["Warning"].startswith('299 - "quota of lab: ')


def test_manifests_and_tags_beyond_the_quota(books: Books, admin: Registry, name: str) -> None:
    for data in (EMPTY, layer := fresh()):
        admin.push_blob(name, data)
    books.limit("lab", 100_000)
    before = books.used("lab")
    answers = []
    for number in range(3):
        payload = json.dumps(json.loads(image(layer)) | {"annotations": {"x": f"{number}" + "a" * 40_000}}).encode()
        answers.append(admin.put_manifest(name, digest_of(payload), payload, OCI_MANIFEST))
    expect(answers[0], 201)
    for answer in answers[1:]:
        assert refused(answer, 403, "DENIED").startswith("quota of lab: "), "annotations are kept twice"
    books.limit("lab", 0)
    words = refused(admin.put_manifest(name, "v1", image(layer), OCI_MANIFEST), 403, "DENIED")
    assert "delete what is not needed" in words
    books.limit("lab", 50_000)
    expect(admin.put_manifest(name, "v1", image(layer), OCI_MANIFEST), 201)
    used = books.used("lab")
    assert used > before
    expect(admin.put_manifest(name, "v1", image(layer), OCI_MANIFEST), 201)
    assert books.used("lab") == used
    statuses = [admin.put_manifest(name, f"t{number}", image(layer), OCI_MANIFEST).status for number in range(120)]
    assert 1 <= statuses.count(201) < 120
    assert set(statuses) == {201, 403}


def test_kill_9_in_the_middle(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the dead worker's uploads held is known from their rows, and they can be gone on with or cancelled."""
    with Service(tmp_path_factory.mktemp("killed"), overrides={"projects": PROJECTS}) as service:
        admin, books = Registry(service.host, service.username, service.password), Books(service)
        books.limit("lab", 100 * MiB)
        session = location(expect(admin.call("PATCH", admin.begin("lab/app"), fresh(2 * MiB)), 202))
        headers = {"Authorization": basic(service.username, service.password), "Content-Length": str(50 * MiB)}
        with Connection(service.host) as connection:
            connection.request("PATCH", session, headers, fresh(MiB))
            wait_for(lambda: books.used("lab") >= 52 * MiB, what="the announced bytes to be charged")
            service.kill()
        assert books.used("lab") >= 52 * MiB
        service.start()
        refused(pushed(admin, "lab/app", fresh(60 * MiB), "put"), 403, "DENIED")
        expect(admin.call("DELETE", session), 204)
        assert books.used("lab") == 0
        expect(pushed(admin, "lab/app", fresh(60 * MiB), "put"), 201)
        assert service.faults() == []
