"""``POST …/blobs/uploads/?mount=…``: with and without ``from``, and never a word on what others have."""

from __future__ import annotations

import re
import uuid

import pytest

from tests.api.client import Answer, Registry, basic, closing, digest_of, expect, location, refused
from tests.api.documents import fresh
from tests.parts.service import Service


@pytest.fixture
def source() -> str:
    return f"lab/{uuid.uuid4().hex[:12]}"


def mount(user: Registry, name: str, digest: str, source: str | None = None, token: str | None = None) -> Answer:
    query = f"mount={digest}" + (f"&from={source}" if source is not None else "")
    return user.call("POST", f"/v2/{name}/blobs/uploads/?{query}", b"", token=token)


def both(user: Registry, name: str, source: str) -> str:
    return user.token(f"repository:{name}:pull,push", f"repository:{source}:pull")


def sent_instead(user: Registry, answer: Answer, name: str, data: bytes) -> None:
    """The answer was "send the bytes", and sending them works."""
    expect(answer, 202)
    assert answer["Range"] == "0-0"
    expect(user.call("PUT", closing(location(answer), digest_of(data)), data), 201)
    assert expect(user.blob(name, digest_of(data)), 200).body == data


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("origin", ["lab", "secret"])
def test_from_a_repository_the_token_may_pull(
    admin: Registry, name: str, source: str, origin: str, algorithm: str
) -> None:
    source = source.replace("lab", origin)
    data = fresh()
    digest = admin.push_blob(source, data, algorithm)
    answer = expect(mount(admin, name, digest, source, both(admin, name, source)), 201)
    assert location(answer) == f"/v2/{name}/blobs/{digest}"
    assert answer["Docker-Content-Digest"] == digest
    assert expect(admin.blob(name, digest), 200).body == data
    expect(admin.call("DELETE", f"/v2/{source}/blobs/{digest}"), 202)
    assert expect(admin.blob(name, digest), 200).body == data


def test_with_basic_credentials(service: Service, admin: Registry, name: str, source: str) -> None:
    digest = admin.push_blob(source, fresh())
    login = {"Authorization": basic(service.username, service.password)}
    path = f"/v2/{name}/blobs/uploads/?mount={digest}&from={source}"
    expect(admin.call("POST", path, b"", login, token=""), 201)


def test_into_the_same_repository(admin: Registry, name: str) -> None:
    digest = admin.push_blob(name, fresh())
    expect(mount(admin, name, digest, name), 201)
    expect(mount(admin, name, digest), 201)


def test_without_from_within_the_project(admin: Registry, name: str, source: str) -> None:
    data = fresh()
    digest = admin.push_blob(source, data)
    expect(mount(admin, name, digest), 201)
    assert expect(admin.blob(name, digest), 200).body == data


def test_without_from_in_another_project_only(admin: Registry, name: str, secret: str) -> None:
    data = fresh()
    digest = admin.push_blob(secret, data)
    sent_instead(admin, mount(admin, name, digest), name, data)


def test_from_a_repository_the_token_does_not_name(admin: Registry, name: str, secret: str) -> None:
    data = fresh()
    digest = admin.push_blob(secret, data)
    only_name = admin.token(f"repository:{name}:pull,push")
    answer = mount(admin, name, digest, secret, only_name)
    assert answer.status == 202
    assert admin.blob(name, digest).status == 404
    sent_instead(admin, answer, name, data)


def test_an_outsiders_answer_is_the_same_for_what_is_there_and_what_is_not(
    admin: Registry, name: str, secret: str
) -> None:
    """Whoever may push to one repository learns nothing of another by mounting from it."""
    digest = admin.push_blob(secret, fresh())
    only_name = admin.token(f"repository:{name}:pull,push")
    answers = [
        mount(admin, name, digest, secret, only_name),
        mount(admin, name, digest_of(fresh()), secret, only_name),
        mount(admin, name, digest, "secret/nothing-here", only_name),
        mount(admin, name, digest, "nowhere/app", only_name),
        mount(admin, name, digest, None, only_name),
        mount(admin, name, digest_of(fresh()), None, only_name),
    ]
    seen = {(answer.status, answer.body, tuple(sorted(unnamed(answer)))) for answer in answers}
    assert len(seen) == 1, seen
    assert answers[0].status == 202


def unnamed(answer: Answer) -> list[str]:
    """List the headers without what differs in any two answers."""
    return [
        f"{name}: {re.sub('[0-9a-f]{32}', 'ID', value)}"
        for name, value in answer.headers.items()
        if name not in ("Date", "X-Request-Id")
    ]


@pytest.mark.parametrize(
    ("digest", "source"),
    [
        ("", "lab/x"),
        ("latest", "lab/x"),
        (f"sha256:{'0' * 64}", ""),
        (f"sha256:{'0' * 64}", "lab"),
        (f"sha256:{'0' * 64}", "UPPER/case"),
        (f"sha256:{'0' * 64}", "../../etc"),
        (f"sha256:{'0' * 64}", "%2e%2e%2f%2e%2e"),
        (f"sha256:{'0' * 64}", "lab/" + "x" * 300),
        (f"sha256:{'0' * 64}", "%00"),
        (f"sha256:{'0' * 64}", "mirror/library/redis"),
        (f"md5:{'0' * 32}", "lab/x"),
        (f"sha256:{'0' * 64}%00", "lab/x"),
        (f"sha256:{'0' * 64}", None),
    ],
)
def test_whatever_is_wrong_the_bytes_can_be_sent(admin: Registry, name: str, digest: str, source: str | None) -> None:
    sent_instead(admin, mount(admin, name, digest, source), name, fresh())


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [("mirror/library/redis", 403, "DENIED"), ("nowhere/app", 404, "NAME_UNKNOWN"), ("lab", 404, "NAME_UNKNOWN")],
)
def test_where_nothing_can_be_pushed(admin: Registry, source: str, target: str, status: int, code: str) -> None:
    digest = admin.push_blob(source, fresh())
    refused(mount(admin, target, digest, source, both(admin, target, source)), status, code)


def test_without_push(admin: Registry, outsider: Registry, name: str, source: str) -> None:
    digest = admin.push_blob(source, fresh())
    refused(mount(outsider, name, digest, source), 401, "UNAUTHORIZED")
    only_pull = admin.token(f"repository:{name}:pull", f"repository:{source}:pull")
    refused(mount(admin, name, digest, source, only_pull), 401, "UNAUTHORIZED")
