"""Robot accounts and access keys through the running service: what they may, and how soon they may no longer."""

from __future__ import annotations

import sqlite3
import uuid

import pytest

from app.access.roles import DELETE_ARTIFACT, PULL, PUSH
from app.database.robots import Robot
from tests.api.client import Answer, Registry, basic, digest_of, expect, refused, send
from tests.api.documents import EMPTY, OCI_MANIFEST, image
from tests.api.people import People
from tests.api.workers import landing_on
from tests.parts.process import wait_for
from tests.parts.service import Service

LAYER = b"a layer"


@pytest.fixture(scope="module")
def people(service: Service) -> People:
    return People(service)


@pytest.fixture
def ci() -> str:
    """Make up a robot's name that nobody has used."""
    return f"ci-{uuid.uuid4().hex[:8]}"


def push(registry: Registry, name: str) -> Answer:
    """Push an image as far as it goes: the first refusal, or the manifest's answer."""
    for data in (EMPTY, LAYER):
        answer = registry.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(data)}", data)
        if answer.status != 201:
            return answer
    return registry.put_manifest(name, "latest", image(LAYER), OCI_MANIFEST)


def login(service: Service, username: str, password: str, pid: int | None = None) -> Answer:
    """Do as docker login does; ``pid``: at this worker."""
    connect = landing_on(service.host, pid) if pid is not None else Registry(service.host).connect
    return send(connect(), "GET", "/service/token", None, {"Authorization": basic(username, password)})


def told(answer: Answer) -> str:
    return refused(answer, 401, "UNAUTHORIZED")


def test_a_robot_pushes_and_pulls_what_an_outsider_cannot(
    service: Service, people: People, outsider: Registry, secret: str, ci: str
) -> None:
    robot, password = people.robot(ci, {"secret": [PULL, PUSH]}, "secret")
    assert robot.name == f"robot-secret+{ci}"
    assert login(service, robot.name, password).status == 200
    registry = Registry(service.host, robot.name, password)
    expect(push(registry, secret), 201)
    assert registry.pull_image(secret, "latest")
    told(outsider.manifest(secret, "latest"))


@pytest.mark.parametrize(
    ("rights", "pushes", "pulls", "deletes"),
    [
        ([PULL], False, True, False),
        ([PULL, PUSH], True, True, False),
        ([PULL, PUSH, DELETE_ARTIFACT], True, True, True),
        ([DELETE_ARTIFACT], False, False, True),
    ],
)
def test_a_robot_may_what_it_was_given(
    service: Service, people: People, admin: Registry, secret: str, ci: str,
    rights: list[str], pushes: bool, pulls: bool, deletes: bool,
) -> None:  # fmt: skip
    expect(push(admin, secret), 201)
    registry = Registry(service.host, *_login(people.robot(ci, {"secret": rights}, "secret")))
    assert push(registry, secret).status == (201 if pushes else 401)
    assert registry.manifest(secret, "latest").status == (200 if pulls else 401)
    assert registry.call("DELETE", f"/v2/{secret}/manifests/latest").status == (202 if deletes else 401)


def test_another_project_is_not_told_apart_from_a_missing_one(
    service: Service, people: People, admin: Registry, secret: str, ci: str
) -> None:
    expect(push(admin, secret), 201)
    registry = Registry(service.host, *_login(people.robot(ci, {"lab": [PULL, PUSH]}, "lab")))
    missing = secret.replace("secret/", "absent/")
    for method, rest in [("GET", "manifests/latest"), ("PUT", "manifests/latest"), ("POST", "blobs/uploads/")]:
        body = None if method == "GET" else b""
        seen = [registry.call(method, f"/v2/{name}/{rest}", body) for name in (secret, missing)]
        assert told(seen[0]).replace(secret, missing) == told(seen[1])
        assert seen[0]["WWW-Authenticate"].replace(secret, missing) == seen[1]["WWW-Authenticate"]
    expect(push(registry, f"lab/{ci}"), 201)


def test_a_mount_needs_pull_on_where_it_is_from(
    service: Service, people: People, admin: Registry, secret: str, ci: str
) -> None:
    expect(push(admin, secret), 201)
    registry = Registry(service.host, *_login(people.robot(ci, {"lab": [PULL, PUSH]}, "lab")))
    token = registry.token(f"repository:lab/{ci}:pull,push", f"repository:{secret}:pull")
    query = f"?mount={digest_of(LAYER)}&from={secret}"
    answer = registry.call("POST", f"/v2/lab/{ci}/blobs/uploads/{query}", b"", token=token)
    assert answer.status == 202


def test_a_robot_of_the_system_works_where_it_was_told(service: Service, people: People, secret: str, ci: str) -> None:
    registry = Registry(service.host, *_login(people.robot(ci, {"*": [PULL], "secret": [PUSH]})))
    expect(push(registry, secret), 201)
    told(push(registry, f"lab/{ci}"))
    assert registry.call("GET", "/v2/_catalog").json()["repositories"] is not None
    told(Registry(service.host, *_login(people.robot(f"{ci}-none", {"lab": [PULL]}))).manifest(secret, "latest"))


def test_basic_works_on_every_request(service: Service, people: People, admin: Registry, secret: str, ci: str) -> None:
    expect(push(admin, secret), 201)
    robot, password = people.robot(ci, {"secret": [PULL]}, "secret")
    headers = {"Authorization": basic(robot.name, password)}
    registry = Registry(service.host)
    assert registry.call("GET", "/v2/", None, headers, token="").status == 200
    assert registry.manifest(secret, "latest", headers).status == 200
    told(registry.call("POST", f"/v2/{secret}/blobs/uploads/", b"", headers))
    people.remove(robot)
    told(registry.manifest(secret, "latest", headers))


def test_what_is_done_to_a_robot_counts_with_the_next_token_on_every_worker(
    service: Service, people: People, ci: str
) -> None:
    robot, password = people.robot(ci, {"secret": [PULL, PUSH]}, "secret")

    def refusals(password: str) -> set[str]:
        return {told(login(service, robot.name, password, pid)) for pid in service.pids()}

    for pid in service.pids():
        assert login(service, robot.name, password, pid).status == 200
    people.update(robot, disabled=True)
    (words,) = refusals(password)
    assert "is disabled" in words
    people.update(robot, disabled=False)
    assert login(service, robot.name, password).status == 200
    fresh = people.refresh(robot)
    (words,) = refusals(password)
    assert "wrong user name or password" in words
    assert login(service, robot.name, fresh).status == 200
    people.expire(robot)
    (words,) = refusals(fresh)
    assert "has expired" in words
    people.remove(robot)
    (words,) = refusals(fresh)
    assert "wrong user name or password" in words


def test_rights_that_were_taken_away_are_not_in_the_next_token(
    service: Service, people: People, secret: str, ci: str
) -> None:
    robot, password = people.robot(ci, {"secret": [PULL, PUSH]}, "secret")
    expect(push(Registry(service.host, robot.name, password), secret), 201)
    assert robot.project_id is not None
    people.update(robot, permissions={str(robot.project_id): [PULL]})
    registry = Registry(service.host, robot.name, password)
    told(push(registry, secret))
    assert registry.manifest(secret, "latest").status == 200


def test_a_name_with_a_shells_signs_is_just_a_wrong_one(service: Service) -> None:
    for name in ("robot$secret+ci", "robot-secret+`id`", "robot-secret+' OR 1=1 --"):
        assert "wrong user name or password" in told(login(service, name, "hpcr_" + "a" * 40))


def test_when_and_from_where_a_robot_logged_in_is_known_soon(service: Service, people: People, ci: str) -> None:
    robot, password = people.robot(ci, {"lab": [PULL]}, "lab")
    assert login(service, robot.name, password).status == 200
    wait_for(lambda: people.find(robot).last_used_at is not None, what="the login to be written down")
    assert people.find(robot).last_used_from == "127.0.0.1"


def test_an_access_key_does_what_it_was_given_and_its_person_may(
    service: Service, people: People, admin: Registry, secret: str, ci: str
) -> None:
    people.person(ci, "developer", "secret")
    expect(push(admin, secret), 201)
    pulls, pushes, elsewhere = (
        Registry(service.host, ci, people.access_key(ci, given, name))
        for name, given in [("pulls", {"*": [PULL]}), ("pushes", {"*": [PULL, PUSH]}), ("lab", {"lab": [PULL, PUSH]})]
    )
    assert pulls.manifest(secret, "latest").status == 200
    told(push(pulls, secret))
    expect(push(pushes, secret), 201)
    told(push(pushes, f"lab/{ci}"))
    told(pushes.call("DELETE", f"/v2/{secret}/manifests/latest"))
    told(elsewhere.manifest(secret, "latest"))
    told(push(elsewhere, f"lab/{ci}"))


def test_an_access_key_is_good_with_its_persons_name_and_ends_with_the_account(
    service: Service, people: People, ci: str
) -> None:
    people.person(ci, "developer", "secret")
    password = people.access_key(ci, {"*": [PULL]})
    # Names of people are folded.
    for spelled in (ci, ci.upper()):
        assert login(service, spelled, password).status == 200
    for other in (service.username, f"robot-secret+{ci}"):
        assert "wrong user name or password" in told(login(service, other, password))
    people.disable(ci)
    assert "is disabled" in told(login(service, ci, password))


def test_pushes_and_deletions_are_in_the_audit_log(
    service: Service, people: People, outsider: Registry, secret: str, ci: str
) -> None:
    robot, password = people.robot(ci, {"secret": [PULL, PUSH, DELETE_ARTIFACT]}, "secret")
    registry = Registry(service.host, robot.name, password)
    expect(push(registry, secret), 201)
    digest = digest_of(image(LAYER))
    for path in ("manifests/latest", f"manifests/{digest}", f"blobs/{digest_of(LAYER)}"):
        expect(registry.call("DELETE", f"/v2/{secret}/{path}"), 202)
    told(push(outsider, secret))
    assert registry.call("DELETE", f"/v2/{secret}/manifests/missing").status == 404

    def entries() -> list[tuple[object, ...]]:
        with sqlite3.connect(f"file:{service.folder}/data/registry.sqlite?mode=ro", uri=True) as database:
            return database.execute(
                "SELECT operation, resource_type, resource, actor, address, project_id FROM audit"
                " WHERE resource LIKE ? ORDER BY operation DESC, resource_type, id",
                (f"{secret}%",),
            ).fetchall()

    wait_for(lambda: len(entries()) >= 4, what="the audit log to be written")
    who = (f"robot:{robot.name}", "127.0.0.1", robot.project_id)
    assert entries() == [
        ("push", "artifact", f"{secret}:latest", *who),
        ("delete", "artifact", f"{secret}@{digest}", *who),
        ("delete", "blob", f"{secret}@{digest_of(LAYER)}", *who),
        ("delete", "tag", f"{secret}:latest", *who),
    ]


def test_no_secret_is_in_the_services_log(service: Service, people: People, ci: str) -> None:
    robot, password = people.robot(ci, {"lab": [PULL]}, "lab")
    assert login(service, robot.name, password).status == 200
    told(login(service, robot.name + "x", password))
    assert password not in service.log()


def _login(made: tuple[Robot, str]) -> tuple[str, str]:
    robot, password = made
    return robot.name, password
