"""kill -9 in the middle of pushes: what was answered is whole, what was not does not show half."""

from __future__ import annotations

import http.client
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.api.client import Registry, closing, digest_of, expect, location, refused
from tests.api.conftest import PROJECTS
from tests.api.documents import EMPTY, OCI_MANIFEST, fresh, image
from tests.api.workers import landing_on
from tests.parts.process import wait_for
from tests.parts.service import Service

PUSHERS = 10
# Answers to wait for before the blow: some pushes are over by then, each of the ten is somewhere else.
ENOUGH = 40

Lost = (OSError, http.client.HTTPException)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that dies, and is started again, in every one of these tests."""
    with Service(tmp_path_factory.mktemp("victim"), processes=2, overrides={"projects": PROJECTS}) as victim:
        yield victim


@pytest.fixture(autouse=True)
def expected_faults(victim: Service) -> Iterator[list[str]]:
    """What is no error in the log of a service whose worker was killed: that it was. Nothing else may be there."""
    before, known = len(victim.log()), list[str]()
    yield known
    faults = victim.faults(before)
    assert len(faults) == len(known), faults
    assert all(words in line for words, line in zip(known, faults, strict=True)), faults


@dataclass
class Pusher:
    """Pushes images, one after the other, and keeps what was answered and what was only begun."""

    user: Registry
    name: str
    blobs: dict[str, bytes] = field(default_factory=dict)
    begun: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    tried: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, bytes] = field(default_factory=dict)

    def run(self, answered: threading.Semaphore) -> None:
        """Push until the service is gone."""
        for number in range(10_000):
            try:
                self.push(number, answered)
            except Lost:
                return

    def push(self, number: int, answered: threading.Semaphore) -> None:
        layer = fresh(100_000 + 40_000 * (number % 5))
        for data in (EMPTY, layer):
            digest = digest_of(data)
            self.begun[digest] = data
            session = self.user.begin(self.name)
            if number % 2:
                expect(self.user.call("PATCH", session, data[: len(data) // 2]), 202)
                self.sessions[session] = data
                expect(self.user.call("PATCH", session, data[len(data) // 2 :]), 202)
                expect(self.user.call("PUT", closing(session, digest), b""), 201)
                del self.sessions[session]
            else:
                expect(self.user.call("PUT", closing(session, digest), data), 201)
            self.blobs[digest] = data
        payload = image(layer, annotations={"number": str(number)})
        self.tried[f"t{number}"] = payload
        expect(self.user.put_manifest(self.name, f"t{number}", payload, OCI_MANIFEST), 201)
        self.manifests[f"t{number}"] = payload
        answered.release()


def test_every_push_that_was_answered_is_whole_and_nothing_else_shows(victim: Service) -> None:
    admin = Registry(victim.host, victim.username, victim.password)
    pushers = [Pusher(admin, f"lab/{uuid.uuid4().hex[:12]}") for _ in range(PUSHERS)]
    for pusher in pushers:
        admin.token(f"repository:{pusher.name}:pull,push,delete")
    answered = threading.Semaphore(0)
    with ThreadPoolExecutor(PUSHERS) as pool:
        running = [pool.submit(pusher.run, answered) for pusher in pushers]
        for _ in range(ENOUGH):
            assert answered.acquire(timeout=60)
        victim.kill()
        for run in running:
            run.result(60)
    victim.start()
    for pusher in pushers:
        whole(admin, pusher)
        go_on(admin, pusher)
    assert sum(len(pusher.manifests) for pusher in pushers) >= ENOUGH
    assert [pusher for pusher in pushers if len(pusher.begun) > len(pusher.blobs) or pusher.sessions], "too early"
    named = {f"{pusher.name}" for pusher in pushers if pusher.tried}
    assert set(admin.pages("/v2/_catalog", "repositories")) <= named


def whole(user: Registry, pusher: Pusher) -> None:
    """See that what was answered is there, and that of the rest nothing is there in half."""
    for digest, data in pusher.blobs.items():
        assert expect(user.blob(pusher.name, digest), 200).body == data
    for digest in pusher.begun.keys() - pusher.blobs.keys():
        answer = user.blob(pusher.name, digest)
        assert answer.status in (200, 404)
        assert answer.status == 404 or answer.body == pusher.begun[digest]
    if not pusher.blobs and user.call("GET", f"/v2/{pusher.name}/tags/list").status == 404:
        # Killed before the first answer to this one: there need be no repository.
        assert not pusher.manifests
        return
    tags = user.tags(pusher.name)
    assert set(pusher.manifests) <= set(tags) <= set(pusher.tried)
    for tag in tags:
        assert expect(user.manifest(pusher.name, tag), 200).body == pusher.tried[tag]
    if tags:
        user.pull_image(pusher.name, tags[-1])


def go_on(user: Registry, pusher: Pusher) -> None:
    """Take up every session that was left, from where its status says; a lost answer may have ended it."""
    for session, data in pusher.sessions.items():
        status = user.call("GET", session)
        if status.status == 404:
            assert user.blob(pusher.name, digest_of(data)).body == data
            continue
        kept = int(expect(status, 204)["Range"].removeprefix("0-")) + 1
        assert kept in (len(data) // 2, len(data))
        answer = user.call("PUT", closing(session, digest_of(data)), data[kept:])
        if answer.status == 404:
            # Killed between the object's end and its row: the closing PUT was under way, and everything is sent anew.
            assert kept == len(data)
            assert "start the upload again" in refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")
            user.push_blob(pusher.name, data)
        else:
            expect(answer, 201)
        assert user.blob(pusher.name, digest_of(data)).body == data


def test_an_upload_goes_on_after_a_restart(victim: Service) -> None:
    """In order or not: what a request was answered for is there, what was on its way is not counted."""
    admin = Registry(victim.host, victim.username, victim.password)
    data, name = fresh(3_000_000), "lab/restarted"
    session = location(expect(admin.call("PATCH", admin.begin(name), data[:1_200_000]), 202))
    for end, sent in ((victim.stop, 2_000_000), (victim.kill, 2_500_000)):
        end()
        victim.start()
        kept = int(expect(admin.call("GET", session), 204)["Range"].removeprefix("0-")) + 1
        expect(admin.call("PATCH", session, data[kept:sent], {"Content-Range": f"{kept}-{sent - 1}"}), 202)
    victim.restart()
    expect(admin.call("PUT", closing(session, digest_of(data)), data[2_500_000:]), 201)
    assert admin.blob(name, digest_of(data)).body == data


def test_a_worker_dies_and_the_service_stays(victim: Service, expected_faults: list[str]) -> None:
    """Its clients lose their connection and come again; an upload it had is gone on with by another."""
    admin = Registry(victim.host, victim.username, victim.password)
    data, name = fresh(2_000_000), "lab/orphaned"
    doomed_pid = victim.pids()[0]
    doomed = admin.through(landing_on(victim.host, doomed_pid))
    session = location(expect(doomed.call("PATCH", doomed.begin(name), data[:900_000]), 202))
    going, more = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield data[900_000:1_500_000]
        going.set()
        more.wait(30)
        yield data[1_500_000:]

    with ThreadPoolExecutor(1) as pool:
        patch = pool.submit(doomed.call, "PATCH", session, body())
        assert going.wait(30)
        victim.kill_worker(doomed_pid)
        more.set()
        with pytest.raises(Lost):
            patch.result(60)
    wait_for(lambda: doomed_pid not in victim.pids() and len(victim.pids()) == 2, what="another worker in its place")
    survivors = [admin.through(landing_on(victim.host, pid)) for pid in victim.pids()]
    for survivor in survivors:
        assert expect(survivor.call("GET", session), 204)["Range"] == "0-899999"
    expect(survivors[0].call("PATCH", session, data[900_000:], {"Content-Range": "900000-1999999"}), 202)
    expect(survivors[1].call("PUT", closing(session, digest_of(data)), b""), 201)
    assert survivors[0].blob(name, digest_of(data)).body == data
    expected_faults.append(f"worker {doomed_pid} ended")
