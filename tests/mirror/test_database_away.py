"""PostgreSQL frozen, stopped, restarted and out of connections, while a class pulls warm images.

Each client takes a token for each pull, as Docker does. The short form runs in `make test`. The form that is marked
`long` keeps the faults for as long as the issue asks.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urljoin

import aiohttp
import psycopg
import pytest

from tests.api.client import Registry, basic, exchange, expect
from tests.images import single
from tests.parts.postgres import Postgres
from tests.parts.process import eventually
from tests.parts.service import Service
from tests.parts.valkey import Valkey
from tests.upstream.client import Hub

from .client import Client

CLIENTS = 20
# How many of the clients are robot accounts.
ROBOTS = 10
IMAGE = single("away", sizes=(30_000, 2_000))
NAME, TAG = "mirror/library/app", "1"
# What docs/operations.md promises; a busy machine may take longer.
PROMISED_SECONDS = 5.0
MARGIN = 3
HOSTED = "lab/away"
# What workers have kept is used a few seconds after their start, or after the end of a fault.
WARM_UP_SECONDS = 7
_FRESH_SECONDS = 1
_MOST_LINES = 200
# Between two pulls of a client, in seconds, in the short and in the long form. The short one leaves most of the
# processor to the tests beside it.
_PAUSES = (0.5, 0.05)
_numbers = itertools.count()

# Projects that are charged for other than what they have: blobs, and the rows that are charged for.
UNPAID = """
SELECT name, used_bytes, coalesce(paid, 0) FROM project LEFT JOIN (
    SELECT project_id, sum(size) AS paid FROM (
        SELECT linked.project_id, size FROM (SELECT DISTINCT project_id, digest FROM link) AS linked
        JOIN blob ON blob.digest = linked.digest
        UNION ALL SELECT project_id, charged_bytes FROM manifest JOIN repository ON repository.id = repository_id
        UNION ALL SELECT project_id, charged_bytes FROM tag JOIN repository ON repository.id = repository_id
        UNION ALL SELECT project_id, charged_bytes FROM tag_history JOIN repository ON repository.id = repository_id
        UNION ALL SELECT project_id, charged_bytes FROM manifest_label JOIN repository ON repository.id = repository_id
        UNION ALL SELECT project_id, charged_bytes FROM upload JOIN repository ON repository.id = repository_id
    ) AS charged GROUP BY project_id
) AS sums ON sums.project_id = project.id WHERE used_bytes <> coalesce(paid, 0)
"""


@contextmanager
def frozen(postgres: Postgres) -> Iterator[None]:
    postgres.pause()
    try:
        yield
    finally:
        postgres.resume()


@contextmanager
def stopped(postgres: Postgres) -> Iterator[None]:
    postgres.stop()
    try:
        yield
    finally:
        postgres.start()


@contextmanager
def without_connections(postgres: Postgres) -> Iterator[None]:
    """Take every connection, those of the service too, again and again as it gives them back."""
    taken: list[psycopg.Connection] = []
    end = b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '' AND pid <> ALL(%s)"
    ours = psycopg.connect(postgres.url, autocommit=True, application_name="the fault")
    try:
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(postgres.url, application_name="the fault"))
        ours.execute(end, [[ours.info.backend_pid]])
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(postgres.url, application_name="the fault"))
        yield
    finally:
        for connection in (*taken, ours):
            connection.close()


Fault = Callable[[Postgres], AbstractContextManager[None]]
FAULTS: dict[str, tuple[Fault, float, float]] = {
    # the fault, and for how many seconds in the short and in the long form
    "frozen": (frozen, 6, 45),
    "stopped": (stopped, 6, 60),
    "restarted": (stopped, 0, 0),
    "out of connections": (without_connections, 6, 45),
}
# Those whose short form is part of `make test`: a server that says nothing, and one that comes back.
SHORT = ("frozen",)


class House:
    """A service of two workers on PostgreSQL, which believes a tag for one second, and what is in its database."""

    def __init__(self, service: Service, url: str) -> None:
        self.service, self._url = service, url
        self.admin = Registry(service.host, service.username, service.password)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def do(self, statements: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statements.encode())

    def pulls(self) -> int:
        """Give how many pulls of the image the database has counted."""
        return sum(count for (count,) in self.ask("SELECT pull_count FROM repository WHERE name = 'library/app'"))

    async def works(self) -> bool:
        """Say whether the workers are ready, each of which finds out for itself."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            for _ in range(16):
                async with session.get(f"{self.service.url}/readyz") as answer:
                    if answer.status != 200:
                        return False
        return True

    def make_robot(self) -> tuple[str, str]:
        rights = [{"resource": "repository", "action": "pull"}]
        body = {
            "name": f"away{next(_numbers)}",
            "level": "system",
            "duration": 30,
            "permissions": [{"kind": "project", "namespace": "mirror", "access": rights}],
        }
        headers = {
            "Authorization": basic(self.service.username, self.service.password),
            "Content-Type": "application/json",
        }
        answer = exchange(self.service.host, "POST", "/api/v2.0/robots", json.dumps(body).encode(), headers)
        made = expect(answer, 201).json()
        return made["name"], made["secret"]


@pytest.fixture(scope="module")
def house(
    hub_process: Hub, postgres: Postgres, valkey_process: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    url = postgres.database()
    with Service(
        tmp_path_factory.mktemp("away"),
        upstream=hub_process.url,
        processes=2,
        database=url,
        redis=valkey_process.url,
        overrides={
            "upstreams": {"docker.io": {"fresh_for": _FRESH_SECONDS}},
            "projects": {"mirror": {"upstream": "docker.io"}, "lab": {"public": True}},
        },
    ) as service:
        yield House(service, url)


@dataclass
class Seen:
    """What clients have seen: seconds of pulls, failures, refusals with their seconds, and pushes answered 201."""

    pulls: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    pushed: dict[str, bytes] = field(default_factory=dict)

    def report(self, what: str, warm: int, away: int) -> None:
        """Print what a run measured."""
        took = sorted(self.pulls)
        print(
            f"{what}: {len(took)} pulls, {warm} of them before and {away - warm} during it, {len(self.failed)} failed, "
            f"median {took[len(took) // 2]:.2f} s, p99 {took[len(took) * 99 // 100]:.2f} s, longest {took[-1]:.2f} s; "
            f"{len(self.refused)} refusals, the longest {max(self.refused, default=(0.0, '-'))}"
        )


async def pull_on(connect: Callable[[], Client], seen: Seen, until: asyncio.Event, pause: float = 0.05) -> None:
    """Pull the image again and again, each time as a new client, with a ``pause`` of so many seconds in between."""
    while not until.is_set():
        began = time.monotonic()
        try:
            async with connect() as client:
                await client.pull(NAME, TAG, IMAGE)
            seen.pulls.append(time.monotonic() - began)
        except (AssertionError, aiohttp.ClientError) as error:
            seen.failed.append(f"{time.monotonic() - began:.2f} s: {error}"[:300])
        await asyncio.sleep(pause)


async def push_on(service: Service, seen: Seen, until: asyncio.Event) -> None:
    """Push blobs; one that was answered 201 must be there afterwards."""

    def push() -> tuple[str, bytes]:
        data = f"blob {next(_numbers)}".encode()
        return Registry(service.host, service.username, service.password).push_blob(HOSTED, data), data

    while not until.is_set():
        with suppress(AssertionError, OSError):
            digest, data = await asyncio.to_thread(push)
            seen.pushed[digest] = data
        await asyncio.sleep(0.1)


# What is answered from SQL alone. A hosted tag is no copy's business either.
ASKED = [
    ("GET", "/readyz"),
    ("GET", "/api/v2.0/projects"),
    ("GET", "/api/v2.0/statistics"),
    ("GET", f"/v2/{HOSTED}/tags/list"),
    ("GET", "/projects"),
    ("POST", f"/v2/{HOSTED}/blobs/uploads/"),
    ("PUT", f"/v2/{HOSTED}/manifests/{TAG}"),
]


async def ask_on(
    url: str,
    token: str,
    seen: Seen,
    until: asyncio.Event,
    connector: aiohttp.BaseConnector | None = None,
    pause: float = 0.2,
) -> None:
    """Ask what needs SQL, and hold each refusal to what is promised; `/healthz` is always answered."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}, connector=connector) as session:

        async def ask(method: str, path: str) -> None:
            began = time.monotonic()
            headers = {"Authorization": ""} if path.startswith(("/api", "/projects")) else {}
            async with session.request(
                method, url + path, data=b"{}" if method != "GET" else None, headers=headers
            ) as answer:
                await answer.read()
            took = time.monotonic() - began
            if answer.status == 202:
                # A person may have 200 open uploads in a project, and this one pushes as well.
                async with session.delete(urljoin(url, answer.headers["Location"])) as ended:
                    await ended.read()
            if answer.status >= 500:
                seen.refused.append((took, path))
                # 507: the database's disk is full.
                if answer.status not in (503, 507) or "Retry-After" not in answer.headers:
                    seen.wrong.append(f"{method} {path}: {answer.status} {dict(answer.headers)}")
            elif took > PROMISED_SECONDS * MARGIN:
                seen.wrong.append(f"{method} {path}: {answer.status} after {took:.1f} s")

        while not until.is_set():
            await asyncio.gather(*(ask(*each) for each in ASKED))
            async with session.get(f"{url}/healthz") as answer:
                assert answer.status == 200
            await asyncio.sleep(pause)


@asynccontextmanager
async def everybody(
    service: Service, robots: Sequence[tuple[str, str]], token: str, pause: float
) -> AsyncIterator[Seen]:
    seen, until = Seen(), asyncio.Event()
    logins = [*robots, *[None] * (CLIENTS - len(robots))]
    clients = [
        partial(Client, service.url, source=f"127.1.0.{number + 1}", login=login) for number, login in enumerate(logins)
    ]
    tasks = [
        *(asyncio.create_task(pull_on(client, seen, until, pause)) for client in clients),
        asyncio.create_task(push_on(service, seen, until)),
        asyncio.create_task(ask_on(service.url, token, seen, until, pause=2 * pause)),
    ]
    try:
        yield seen
    finally:
        until.set()
        await asyncio.gather(*tasks)


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger AS 'BEGIN RAISE EXCEPTION ''no space'' USING ERRCODE = ''53100''; END'
    LANGUAGE plpgsql;
CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON tag FOR EACH ROW EXECUTE FUNCTION full_disk();
CREATE TRIGGER full_disk BEFORE INSERT ON manifest FOR EACH ROW EXECUTE FUNCTION full_disk();
"""
ROOM = "DROP FUNCTION full_disk CASCADE"


async def test_what_cannot_be_noted_is_served_with_a_warning(hub: Hub, house: House) -> None:
    """The database is read and cannot be written: PostgreSQL's disk is full.

    This test comes first, because workers that have met a fault ask for no tag for a while.
    """
    old, new, cold = single("noted, old"), single("noted, new"), single("noted, cold")
    name = "mirror/library/noted"
    house.admin.push_image(HOSTED, TAG, IMAGE)
    hub.add(old, "library/noted", "moves", "stays")
    hub.add(new, "library/noted", "new")
    async with Client(house.service.url) as client:
        for tag, image in (("moves", old), ("stays", old), ("new", new)):
            await client.pull(name, tag, image)
        hub.add(new, "library/noted", "moves")
        hub.add(cold, "library/noted", "cold")
        await asyncio.sleep(_FRESH_SECONDS)
        house.do(FULL)
        try:
            # The last one keeps the worker from asking for a while.
            for tag, image in (("moves", new), ("cold", cold), ("stays", old)):
                answer = await client.manifest(name, tag)
                assert (answer.status, answer.body) == (200, image.payload)
                assert answer.headers["Warning"].startswith('299 - "')
            refused = house.admin.put_manifest(HOSTED, "full", IMAGE.payload, IMAGE.media_type)
            assert (refused.status, refused["Retry-After"]) == (507, "60")
        finally:
            house.do(ROOM)

        async def noted() -> bool:
            answers = [await client.manifest(name, tag) for tag in ("moves", "cold", "stays")]
            if any("Warning" in answer.headers for answer in answers):
                return False
            return [answer.body for answer in answers] == [new.payload, cold.payload, old.payload]

        await eventually(noted, what="the tags to be noted", interval=0.5)


@pytest.mark.parametrize(
    "long", [False, pytest.param(True, marks=pytest.mark.long)], ids=["seconds", "as long as the issue asks"]
)
@pytest.mark.parametrize(
    "what", [what if what in SHORT else pytest.param(what, marks=pytest.mark.long) for what in FAULTS]
)
async def test_warm_pulls_go_on(hub: Hub, house: House, postgres: Postgres, what: str, *, long: bool) -> None:
    """Nothing fails that is warm, everything else is refused in time, and after it nothing is lost."""
    hub.add(IMAGE, "library/app", TAG)
    fault, *seconds = FAULTS[what]
    service, admin = house.service, house.admin
    admin.push_image(HOSTED, TAG, IMAGE)
    robots = [house.make_robot() for _ in range(ROBOTS)]
    workers, counted, logged = service.pids(), house.pulls(), len(service.log())
    token = admin.token(f"repository:{HOSTED}:pull,push")
    async with everybody(service, robots, token, _PAUSES[long]) as seen:
        await asyncio.sleep(WARM_UP_SECONDS)
        warm, quiet = len(seen.pulls), not seen.refused
        context = fault(postgres)
        await asyncio.to_thread(context.__enter__)
        try:
            await asyncio.sleep(seconds[long])
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)
        away, pushed = len(seen.pulls), len(seen.pushed)
        await eventually(house.works, what="both workers to answer again")

        async def pushes() -> bool:
            return len(seen.pushed) > pushed

        await eventually(pushes, what="pushes to go on")
    seen.report(what, warm, away)
    assert quiet
    assert seen.failed == []
    assert seen.wrong == []
    assert away > warm or what == "restarted"
    assert max(seen.pulls) < MARGIN * PROMISED_SECONDS
    assert max((took for took, _ in seen.refused), default=0) < MARGIN * PROMISED_SECONDS
    # Nothing is lost.
    assert service.pids() == workers
    assert all(admin.blob(HOSTED, digest).body == data for digest, data in seen.pushed.items())

    async def noted() -> bool:
        # More, if a COMMIT was carried out whose answer did not come: its notes are written again.
        return house.pulls() >= counted + len(seen.pulls)

    await eventually(noted, what="all pulls to be counted")
    assert house.ask(UNPAID) == []
    lines = [line for line in service.log()[logged:].splitlines() if '"status"' not in line]
    assert not [line for line in lines if "Traceback" in line]
    print(len(lines), "lines in the log beside those of requests")
    assert len(lines) < _MOST_LINES, lines
