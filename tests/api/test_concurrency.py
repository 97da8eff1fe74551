"""Many at once, on two workers: each ends well, none gets what is another's."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from tests.api.client import Answer, Registry, closing, digest_of, expect, location, refusal
from tests.api.documents import EMPTY, OCI_INDEX, OCI_MANIFEST, descriptor, fresh, image, index
from tests.api.workers import objects
from tests.parts.process import wait_for
from tests.parts.service import Service

T = TypeVar("T")
CLIENTS = 8


def together(work: Callable[[int], T], count: int = CLIENTS) -> list[T]:
    """Do ``work`` ``count`` times, begun at the same moment."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> T:
        barrier.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


@pytest.fixture
def users(first: Registry, second: Registry) -> list[Registry]:
    return [first, second] * (CLIENTS // 2)


def one_way(user: Registry, name: str, number: int, data: bytes) -> Answer:
    """Push a blob the way number so and so."""
    digest = digest_of(data)
    if number % 3 == 0:
        return user.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", data)
    session = user.begin(name)
    if number % 3 == 1:
        return user.call("PUT", closing(session, digest), data)
    expect(user.call("PATCH", session, data), 202)
    return user.call("PUT", closing(session, digest), b"")


@pytest.mark.parametrize("size", [0, pytest.param(1000, marks=pytest.mark.long), 1_200_000])
@pytest.mark.parametrize("apart", [False, True], ids=["one repository", "a repository each"])
def test_the_same_blob(users: list[Registry], name: str, size: int, apart: bool) -> None:
    data = fresh(size)
    names = [f"{name}-{number}" if apart else name for number in range(CLIENTS)]
    for answer in together(lambda number: one_way(users[number], names[number], number, data)):
        assert expect(answer, 201)["Docker-Content-Digest"] == digest_of(data)
    for repository in names:
        assert expect(users[0].blob(repository, digest_of(data)), 200).body == data


def test_the_same_blob_while_it_is_deleted(users: list[Registry], name: str) -> None:
    """Whatever the order, a push that was answered 201 after the last delete is there, whole."""
    data = fresh(50_000)
    digest = digest_of(data)
    path = f"/v2/{name}/blobs/{digest}"

    def push_or_delete(number: int) -> int:
        if number % 2:
            return users[number].call("DELETE", path).status
        return one_way(users[number], name, number, data).status

    for _ in range(4):
        statuses = together(push_or_delete)
        assert set(statuses[::2]) == {201}
        assert set(statuses[1::2]) <= {202, 404}
        answer = users[0].blob(name, digest)
        assert answer.status in (200, 404)
        assert answer.status == 404 or answer.body == data
    users[0].push_blob(name, data)
    assert expect(users[1].blob(name, digest), 200).body == data


def test_a_blob_pulled_while_it_is_deleted_and_pushed(users: list[Registry], name: str) -> None:
    data = fresh(2_000_000)
    digest = users[0].push_blob(name, data)

    def work(number: int) -> list[int]:
        if number == 0:
            return [users[0].call("DELETE", f"/v2/{name}/blobs/{digest}").status for _ in range(3)]
        if number == 1:
            return [one_way(users[1], name, turn, data).status for turn in range(3)]
        # The client verifies every body against its digest.
        return [users[number].blob(name, digest).status for _ in range(3)]

    deleted, pushed, *pulled = together(work)
    assert set(deleted) <= {202, 404}
    assert set(pushed) == {201}
    assert {status for statuses in pulled for status in statuses} <= {200, 404}


class TestOneSession:
    @pytest.mark.parametrize("size", [1000, 1_200_000])
    def test_patches_at_once(self, users: list[Registry], name: str, size: int) -> None:
        """One goes through, the others are told so, and what is committed is what the one sent."""
        session = users[0].begin(name)
        bodies = [bytes([number]) * size for number in range(CLIENTS)]
        headers = {"Content-Range": f"0-{size - 1}"}
        answers = together(lambda number: users[number].call("PATCH", session, bodies[number], headers))
        statuses = Counter(answer.status for answer in answers)
        assert statuses[202] == 1, [str(answer) for answer in answers]
        assert set(statuses) <= {202, 400, 404, 416}
        for answer in answers:
            if answer.status != 202:
                assert refusal(answer)["code"].startswith("BLOB_UPLOAD")
        won = bodies[[answer.status for answer in answers].index(202)]
        assert users[0].call("GET", session)["Range"] == f"0-{size - 1}"
        expect(users[1].call("PUT", closing(session, digest_of(won)), b""), 201)
        assert users[0].blob(name, digest_of(won)).body == won

    def test_patches_without_a_range_at_once(self, users: list[Registry], name: str) -> None:
        """Those that come one after the other append; the status tells how many bytes there are."""
        session = users[0].begin(name)
        answers = together(lambda number: users[number].call("PATCH", session, bytes([number]) * 1000))
        won = [number for number, answer in enumerate(answers) if answer.status == 202]
        assert won
        assert users[0].call("GET", session)["Range"] == f"0-{len(won) * 1000 - 1}"
        ends = {int(answers[number]["Range"].removeprefix("0-")): number for number in won}
        data = b"".join(bytes([ends[end]]) * 1000 for end in sorted(ends))
        expect(users[0].call("PUT", closing(session, digest_of(data)), b""), 201)
        assert users[1].blob(name, digest_of(data)).body == data

    def test_puts_at_once(self, users: list[Registry], name: str) -> None:
        data = fresh(100_000)
        session = users[0].begin(name)
        answers = together(lambda number: users[number].call("PUT", closing(session, digest_of(data)), data))
        statuses = Counter(answer.status for answer in answers)
        assert statuses[201] == 1, [str(answer) for answer in answers]
        assert set(statuses) <= {201, 400, 404}
        assert users[1].blob(name, digest_of(data)).body == data

    def test_a_put_while_another_worker_has_a_patch(
        self, service: Service, first: Registry, second: Registry, name: str
    ) -> None:
        """The PATCH has the upload until it ends; the PUT is told so, and comes again."""
        data = fresh(400_000)
        session, before = first.begin(name), objects(service)
        going, more = threading.Event(), threading.Event()

        def body() -> Iterator[bytes]:
            yield data[:200_000]
            going.set()
            more.wait(30)
            yield data[200_000:]

        with ThreadPoolExecutor(1) as pool:
            patch = pool.submit(first.call, "PATCH", session, body())
            assert going.wait(30)
            wait_for(lambda: objects(service) - before, what="the PATCH to have the upload")
            for user in (first, second):
                for method, path in (("PUT", closing(session, digest_of(data))), ("PATCH", session)):
                    answer = user.call(method, path, b"")
                    assert answer.status == 400, answer
                    assert "another request is writing to this upload" in refusal(answer)["message"]
            more.set()
            expect(patch.result(30), 202)
        expect(second.call("PUT", closing(session, digest_of(data)), b""), 201)
        assert first.blob(name, digest_of(data)).body == data

    def test_cancelled_while_a_patch_is_under_way(
        self, service: Service, first: Registry, second: Registry, name: str
    ) -> None:
        data = fresh(400_000)
        session, before = first.begin(name), objects(service)
        going, more = threading.Event(), threading.Event()

        def body() -> Iterator[bytes]:
            yield data[:200_000]
            going.set()
            more.wait(30)
            yield data[200_000:]

        with ThreadPoolExecutor(1) as pool:
            patch = pool.submit(first.call, "PATCH", session, body())
            assert going.wait(30)
            wait_for(lambda: objects(service) - before, what="the PATCH to have the upload")
            expect(second.call("DELETE", session), 204)
            more.set()
            answer = patch.result(30)
        assert answer.status in (400, 404), answer
        assert refusal(answer)["code"].startswith("BLOB_UPLOAD")
        for user in (first, second):
            assert user.call("GET", session).status == 404
            assert user.call("PUT", closing(session, digest_of(data)), data).status == 404


def test_one_tag(users: list[Registry], name: str) -> None:
    """Ends at one of them, whole, and every one of them stays by digest."""
    users[0].push_blob(name, EMPTY)
    payloads = [image(annotations={"number": str(number)}) for number in range(CLIENTS)]

    def work(number: int) -> list[int]:
        return [users[number].put_manifest(name, "latest", payloads[number], OCI_MANIFEST).status for _ in range(2)]

    assert {status for statuses in together(work) for status in statuses} == {201}
    assert {user.manifest(name, "latest").body for user in users} <= set(payloads)
    assert len({user.manifest(name, "latest").body for user in users}) == 1
    for payload in payloads:
        assert users[1].manifest(name, digest_of(payload)).body == payload


def test_tags_pushed_and_deleted(users: list[Registry], name: str) -> None:
    payload = index()

    def work(number: int) -> None:
        for turn in range(3):
            tag = f"t{number}-{turn}"
            users[number].push_manifest(name, tag, payload, OCI_INDEX)
            assert users[number - 1].manifest(name, tag).body == payload
            if turn % 2:
                expect(users[number].call("DELETE", f"/v2/{name}/manifests/{tag}"), 202)

    together(work)
    assert users[0].tags(name) == sorted(f"t{number}-{turn}" for number in range(CLIENTS) for turn in (0, 2))


def test_a_new_repository(users: list[Registry], name: str) -> None:
    """The first push of eight: one repository, with all they pushed."""
    data = [fresh(100) for _ in range(CLIENTS)]
    for answer in together(lambda number: one_way(users[number], name, number, data[number])):
        expect(answer, 201)
    for content in data:
        assert users[0].blob(name, digest_of(content)).body == content


def test_manifests_while_their_layer_is_deleted(users: list[Registry], name: str) -> None:
    """A manifest that was taken had its parts; one whose layer was gone first was refused."""
    users[0].push_blob(name, EMPTY)
    for turn in range(4):
        layer = fresh(100)
        digest = users[0].push_blob(name, layer)
        payloads = [image(layer, annotations={"by": f"{turn} {number}"}) for number in range(CLIENTS)]

        def work(number: int, payloads: list[bytes] = payloads, digest: str = digest) -> int:
            if number == 3:
                return users[3].call("DELETE", f"/v2/{name}/blobs/{digest}").status
            return users[number].put_manifest(name, f"t{number}", payloads[number], OCI_MANIFEST).status

        statuses = together(work)
        assert statuses.pop(3) == 202
        assert set(statuses) <= {201, 404}


def test_referrers(users: list[Registry], name: str) -> None:
    users[0].push_blob(name, EMPTY)
    subject = image()
    payloads = [
        image(subject=descriptor(subject, OCI_MANIFEST), annotations={"number": str(number)})
        for number in range(CLIENTS)
    ]
    together(
        lambda number: users[number].push_manifest(name, digest_of(payloads[number]), payloads[number], OCI_MANIFEST)
    )
    found = users[0].pages(f"/v2/{name}/referrers/{digest_of(subject)}?n=3", "manifests")
    assert [entry["digest"] for entry in found] == sorted(map(digest_of, payloads))


def test_sessions_side_by_side(users: list[Registry], name: str) -> None:
    """Chunks of many uploads, each request on the worker it happens to meet."""

    def work(number: int) -> None:
        data = fresh(600_000)
        session = users[number].begin(name)
        for start in range(0, len(data), 200_000):
            user = users[(number + start // 200_000) % CLIENTS]
            session = location(expect(user.call("PATCH", session, data[start : start + 200_000]), 202))
        expect(users[number - 1].call("PUT", closing(session, digest_of(data)), b""), 201)
        assert users[number].blob(name, digest_of(data)).body == data

    together(work)
