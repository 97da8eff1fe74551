"""A project is removed and another one made under its name, while tokens for the first are still good."""

from __future__ import annotations

import uuid

import pytest

from app.access.roles import DELETE_ARTIFACT, PULL, PUSH
from tests.api.client import Answer, Registry, basic, digest_of, expect, refused
from tests.api.documents import EMPTY, OCI_MANIFEST, image
from tests.api.people import People
from tests.api.workers import landing_on
from tests.parts.service import Service

OLD, NEW = b"a layer of the project before", b"a layer of the project now"


@pytest.fixture(scope="module")
def people(service: Service) -> People:
    return People(service)


@pytest.fixture
def project(people: People) -> str:
    """Make a private project that is about to be removed."""
    name = f"again-{uuid.uuid4().hex[:8]}"
    people.project(name)
    return name


def administrator(service: Service) -> Registry:
    """Give the admin as a client that holds no token yet."""
    return Registry(service.host, service.username, service.password)


def push(user: Registry, name: str, layer: bytes) -> str:
    for data in (EMPTY, layer):
        user.push_blob(name, data)
    return user.push_manifest(name, "latest", image(layer), OCI_MANIFEST)


def asks_again(answer: Answer, name: str) -> str:
    """Check that a client is told to get a new token, and for what; gives the actions."""
    refused(answer, 401, "UNAUTHORIZED")
    challenge = answer["WWW-Authenticate"]
    assert challenge.endswith('",error="invalid_token"')
    scope = challenge.partition(f'scope="repository:{name}:')[2]
    return scope.partition('"')[0]


@pytest.mark.parametrize("there_again", [True, False], ids=["made again", "gone"])
def test_a_former_robots_token_does_nothing_on_any_worker(
    service: Service, people: People, project: str, there_again: bool
) -> None:
    """Nor does it tell whether there is such a project again."""
    name = f"{project}/app"
    robot, password = people.robot("ci", {project: [PULL, PUSH, DELETE_ARTIFACT]}, project)
    held = Registry(service.host, robot.name, password).token(f"repository:{name}:pull,push,delete")
    workers = [Registry(service.host, token=held).through(landing_on(service.host, pid)) for pid in service.pids()]
    manifest = push(administrator(service), name, OLD)
    for worker in workers:
        expect(worker.manifest(name, "latest"), 200)
    people.remove_project(project)
    if there_again:
        people.project(project)
        manifest = push(administrator(service), name, NEW)
    for user in workers:
        for method, path, body, wanted in [
            ("GET", "manifests/latest", None, "pull"),
            ("HEAD", "manifests/latest", None, "pull"),
            ("GET", f"manifests/{manifest}", None, "pull"),
            ("GET", f"blobs/{digest_of(NEW)}", None, "pull"),
            ("GET", "tags/list", None, "pull"),
            ("GET", f"referrers/{manifest}", None, "pull"),
            ("POST", "blobs/uploads/", b"", "pull,push"),
            ("POST", f"blobs/uploads/?digest={digest_of(OLD)}", OLD, "pull,push"),
            ("GET", "blobs/uploads/0", None, "pull,push"),
            ("PATCH", "blobs/uploads/0", OLD, "pull,push"),
            ("PUT", f"blobs/uploads/0?digest={digest_of(OLD)}", OLD, "pull,push"),
            ("DELETE", "blobs/uploads/0", None, "pull,push"),
            ("PUT", "manifests/latest", image(NEW), "pull,push"),
            ("DELETE", "manifests/latest", None, "delete"),
            ("DELETE", f"blobs/{digest_of(NEW)}", None, "delete"),
        ]:
            if method == "HEAD":
                assert user.call(method, f"/v2/{name}/{path}").status == 401
            else:
                assert asks_again(user.call(method, f"/v2/{name}/{path}", body), name) == wanted, (method, path)
    if there_again:
        assert administrator(service).manifest(name, "latest").body == image(NEW)


def test_nor_an_anonymous_one_of_a_project_that_was_public(service: Service, people: People) -> None:
    project = f"again-{uuid.uuid4().hex[:8]}"
    people.project(project, public=True)
    push(administrator(service), f"{project}/app", OLD)
    nobody = Registry(service.host)
    expect(nobody.manifest(f"{project}/app", "latest"), 200)
    people.remove_project(project)
    people.project(project)
    push(administrator(service), f"{project}/app", NEW)
    asks_again(nobody.manifest(f"{project}/app", "latest"), f"{project}/app")


def test_whoever_may_use_the_new_one_asks_again_and_goes_on(service: Service, people: People, project: str) -> None:
    """As with every token that is no longer good: clients do so by themselves."""
    name, before = f"{project}/app", administrator(service)
    push(before, name, OLD)
    people.remove_project(project)
    people.project(project)
    asks_again(before.manifest(name, "latest"), name)
    after = administrator(service)
    push(after, name, NEW)
    expect(after.manifest(name, "latest"), 200)
    # Basic asks for its rights with every request.
    login = {"Authorization": basic(service.username, service.password)}
    expect(before.call("GET", f"/v2/{name}/manifests/latest", None, login, token=""), 200)


def test_a_token_for_a_project_that_was_not_there_yet(service: Service, people: People) -> None:
    """Only an administrator gets one, to be told that there is no such project."""
    name = f"again-{uuid.uuid4().hex[:8]}/app"
    admin = administrator(service)
    refused(admin.manifest(name, "latest"), 404, "NAME_UNKNOWN")
    people.project(name.partition("/")[0])
    asks_again(admin.manifest(name, "latest"), name)
    refused(administrator(service).manifest(name, "latest"), 404, "NAME_UNKNOWN")


def test_a_mount_from_it_is_not_one_from_the_new_project(
    service: Service, people: People, project: str, name: str
) -> None:
    source = f"{project}/app"
    both = administrator(service).token(f"repository:{name}:pull,push", f"repository:{source}:pull")
    people.remove_project(project)
    people.project(project)
    digest = administrator(service).push_blob(source, NEW)
    mounting = f"/v2/{name}/blobs/uploads/?mount={digest}&from={source}"
    expect(administrator(service).call("POST", mounting, b"", token=both), 202)
    again = administrator(service).token(f"repository:{name}:pull,push", f"repository:{source}:pull")
    expect(administrator(service).call("POST", mounting, b"", token=again), 201)
