"""Two hosts share PostgreSQL and Redis: one writes, the other one reads, and Redis has every kind of trouble.

No answer may be older than the last write that was answered before its question. Each subject, such as a tag, has one
writer and goes through numbered states. A reader notes the last state that was answered before it asks, and the last
one that was begun when it has its answer. The answer must be one of these.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.api.client import Registry, basic, digest_of
from tests.images import OCI_MANIFEST
from tests.parts.postgres import Postgres
from tests.parts.relay import Relay, relayed
from tests.parts.service import Service
from tests.parts.valkey import Valkey

CONFIG = b"{}"
TYPE = "application/vnd.oci.image.config.v1+json"
# So many that each has time to wait for its answer, also while Redis does not answer.
TAGS, DIGESTS, PROJECTS = 150, 20, 20
# Seconds between two writes of a writer: all together write 50 times a second.
WRITE_PAUSE = (TAGS + DIGESTS + PROJECTS) / 50
READERS = 6
# The short form has one of so many subjects, its writers pause so many times longer, and its readers so many seconds
# between two reads. So it leaves the processor to the tests beside it.
ONE_OF, SLOWER, READ_PAUSE = 3, 1.5, 0.2
# A busy machine takes up to so many seconds more, until each subject was written and read a few times.
MOST_MORE = 60
GONE, PRIVATE = "gone", "private"


@dataclass
class Subject:
    """Something with one writer, who puts it from one state into the next; ``states`` are what a reader may see."""

    name: str
    step: Callable[[int], Awaitable[str]]
    read: Callable[[], Awaitable[str]]
    states: list[str] = field(default_factory=list)
    # The states' numbers: the last that was answered, and the last that was begun.
    answered: int = -1
    begun: int = -1
    written: int = 0
    seen: int = 0

    async def write(self) -> None:
        """Put it into the next state."""
        self.begun += 1
        self.states.append("")
        self.states[self.begun] = expected = state_of(self.name, self.begun)
        found = await self.step(self.begun)
        assert found == expected
        self.answered = self.begun
        self.written += 1

    async def check(self) -> None:
        """Read it once; AssertionError if that shows a state that was over before."""
        least = self.answered
        if least < 0:
            await asyncio.sleep(0.1)
            return
        asked = time.monotonic()
        found = await self.read()
        possible = self.states[least : self.begun + 1]
        took = time.monotonic() - asked
        assert found in possible, f"{self.name}: {found}, not one of {possible} (state {least}; took {took:.2f} s)"
        self.seen += 1


def state_of(name: str, number: int) -> str:
    """Name the state that a subject has after so many steps."""
    if name.startswith("project"):
        return PRIVATE if number % 2 else "public"
    if name.startswith("digest"):
        return GONE if number % 2 else "here"
    return GONE if number % 3 == 2 else str(number)


def payload(subject: str, number: int) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": TYPE, "digest": digest_of(CONFIG), "size": len(CONFIG)},
        "layers": [],
        "annotations": {"subject": subject, "state": str(number)},
    }
    return json.dumps(document).encode()


class Scene:
    """The subjects, as both hosts show them."""

    def __init__(self, writer: Service, reader: Service, session: aiohttp.ClientSession, attempts: int) -> None:
        """``attempts``: how often a write is sent while it is answered 503, after which it may have been done."""
        self._writer, self._reader, self._session, self._attempts = writer, reader, session, attempts
        self._users = {
            service: Registry(service.host, service.username, service.password) for service in (writer, reader)
        }
        self._login = {"Authorization": basic(writer.username, writer.password)}
        self.subjects = [
            *(self._tag(f"tag{number}") for number in range(TAGS)),
            *(self._digest(f"digest{number}") for number in range(DIGESTS)),
            *(self._project(f"project{number}") for number in range(PROJECTS)),
        ]

    async def _call(self, service: Service, method: str, path: str, **more: Any) -> tuple[int, bytes]:
        token = self._users[service].token("repository:lab/app:pull,push,delete")
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        async with self._session.request(method, f"{service.url}{path}", headers=headers, **more) as answer:
            return answer.status, await answer.read()

    async def _write(self, method: str, path: str, done: int, **more: Any) -> None:
        status, attempts = 503, 0
        while status == 503 and attempts < self._attempts:
            status, _ = await self._call(self._writer, method, path, **more)
            attempts += 1
        # An earlier attempt may have removed it.
        assert status == done or (status == 404 and attempts > 1), status

    def _tag(self, name: str) -> Subject:
        path = f"/v2/lab/app/manifests/{name}"

        async def step(number: int) -> str:
            if number % 3 == 2:
                await self._write("DELETE", path, 202)
                return GONE
            await self._write("PUT", path, 201, data=payload(name, number), headers={"Content-Type": OCI_MANIFEST})
            return str(number)

        async def read() -> str:
            status, body = await self._call(self._reader, "GET", path)
            assert status in (200, 404), (status, body)
            return str(json.loads(body)["annotations"]["state"]) if status == 200 else GONE

        return Subject(name, step, read)

    def _digest(self, name: str) -> Subject:
        body = payload(name, 0)
        path = f"/v2/lab/app/manifests/{digest_of(body)}"

        async def step(number: int) -> str:
            if number % 2:
                await self._write("DELETE", path, 202)
                return GONE
            await self._write("PUT", path, 201, data=body, headers={"Content-Type": OCI_MANIFEST})
            return "here"

        async def read() -> str:
            status, found = await self._call(self._reader, "GET", path)
            assert status in (200, 404), (status, found)
            return "here" if status == 200 else GONE

        return Subject(name, step, read)

    def _project(self, name: str) -> Subject:
        async def step(number: int) -> str:
            change = {"metadata": {"public": "false" if number % 2 else "true"}}
            url = f"{self._writer.url}/api/v2.0/projects/{name}"
            for attempt in range(1, self._attempts + 1):
                async with self._session.put(url, json=change, headers=self._login) as answer:
                    if answer.status != 503 or attempt == self._attempts:
                        assert answer.status == 200, await answer.text()
                        break
            return PRIVATE if number % 2 else "public"

        async def read() -> str:
            query = {"service": self._reader.host, "scope": f"repository:{name}/app:pull"}
            async with self._session.get(f"{self._reader.url}/service/token", params=query) as answer:
                assert answer.status == 200, await answer.text()
                token = (await answer.json())["token"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            return "public" if claims["access"] else PRIVATE

        return Subject(name, step, read)


@contextmanager
def services(folder: Path, database: str, writer: int, reader: int) -> Iterator[tuple[Service, Service]]:
    """Start both hosts, each with its own way to Redis; they share the folder of blobs and the secret key."""
    projects = {"lab": {"public": True}} | {f"project{number}": {"public": True} for number in range(PROJECTS)}
    overrides = {"projects": projects, "data_dir": str(folder / "data")}
    started = [
        Service(folder / name, processes=2, database=database, redis=f"redis://127.0.0.1:{port}/0", overrides=overrides)
        for name, port in (("writer", writer), ("reader", reader))
    ]
    try:
        yield started[0], started[1]
    finally:
        for service in started:
            service.stop(timeout=20)


async def troubles(valkey: Valkey, writer: Relay, reader: Relay, until: float) -> None:
    """Give Redis every kind of trouble, one after the other, until a time is over."""
    while True:
        for trouble in (_flush, _freeze, _stop, _restart, _cut(writer), _cut(reader)):
            if time.monotonic() > until:
                return
            await trouble(valkey)
            await asyncio.sleep(1.5)


async def _flush(valkey: Valkey) -> None:
    for _ in range(5):
        await asyncio.to_thread(valkey.flush)
        await asyncio.sleep(0.2)


async def _freeze(valkey: Valkey) -> None:
    valkey.pause()
    await asyncio.sleep(3)
    valkey.resume()


async def _stop(valkey: Valkey) -> None:
    await asyncio.to_thread(valkey.stop)
    await asyncio.sleep(3)
    await asyncio.to_thread(valkey.start)


async def _restart(valkey: Valkey) -> None:
    await asyncio.to_thread(valkey.stop)
    await asyncio.to_thread(valkey.start)


def _cut(relay: Relay) -> Callable[[Valkey], Awaitable[None]]:
    async def cut(_: Valkey) -> None:
        relay.cut()
        await asyncio.sleep(4)
        relay.heal()

    return cut


async def _writes(subject: Subject, is_over: Callable[[], bool], pause: float) -> None:
    while not is_over():
        began = time.monotonic()
        await subject.write()
        await asyncio.sleep(max(0.0, began + pause - time.monotonic()))


async def _reads(subjects: list[Subject], is_over: Callable[[], bool], pause: float) -> None:
    while not is_over():
        for subject in subjects:
            await subject.check()
            await asyncio.sleep(pause)


async def go_through(
    seconds: float,
    folder: Path,
    database: str,
    valkey: Valkey,
    one_of: int = 1,
    slower: float = 1,
    pause: float = 0.0,
    attempts: int = 1,
) -> list[Subject]:
    """Write, read and trouble Redis for so long; give the subjects, with how often each was written and read.

    ``one_of``: take one of so many subjects. ``slower``: how many times longer the writers pause. ``pause`` is between
    two reads of each reader, in seconds. ``attempts``: how often a write is sent that the service answers with 503.
    """
    port = urlsplit(valkey.url).port or 0
    async with relayed(port) as first, relayed(port) as second:
        with services(folder, database, first.port, second.port) as (writer, reader):
            await asyncio.to_thread(
                Registry(writer.host, writer.username, writer.password).push_blob, "lab/app", CONFIG
            )
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
                subjects = Scene(writer, reader, session, attempts).subjects[::one_of]
                until = time.monotonic() + seconds

                def is_over() -> bool:
                    late = time.monotonic() - until
                    tried = all(subject.written > 1 and subject.seen > 2 for subject in subjects)
                    return late > (0 if tried else MOST_MORE)

                async with asyncio.TaskGroup() as group:
                    group.create_task(troubles(valkey, first, second, until - 6))
                    for subject in subjects:
                        group.create_task(_writes(subject, is_over, WRITE_PAUSE * slower))
                    for number in range(READERS):
                        first_read = len(subjects) // READERS * number
                        turned = subjects[first_read:] + subjects[:first_read]
                        group.create_task(_reads(turned, is_over, pause))
            foreseen = (503,) if attempts > 1 else ()
            assert writer.faults(foreseen=foreseen) == []
            assert reader.faults() == []
    return subjects


@pytest.mark.timeout(180)
async def test_nothing_is_older_than_the_last_answer(tmp_path: Path, postgres: Postgres, valkey: Valkey) -> None:
    # PostgreSQL may answer too late while other tests have the processor.
    subjects = await go_through(18, tmp_path, postgres.database(), valkey, ONE_OF, SLOWER, READ_PAUSE, attempts=3)
    assert min(subject.written for subject in subjects) > 1
    assert min(subject.seen for subject in subjects) > 2
    print(sum(subject.written for subject in subjects), sum(subject.seen for subject in subjects))


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_nothing_is_older_for_ten_minutes(tmp_path: Path, postgres: Postgres, valkey: Valkey) -> None:
    subjects = await go_through(600, tmp_path, postgres.database(), valkey)
    print(sum(subject.written for subject in subjects), sum(subject.seen for subject in subjects))
