"""The service that the guide is tried on, with somebody who has a project, a robot account and an access key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.images import multi, single
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.web.scene import PASSWORD, add_people
from tests.webapi.client import Api

from .console import Reader

USER, PROJECT = "mari.tamm", "lab"
_PULL_AND_PUSH = [{"resource": "repository", "action": action} for action in ("pull", "push")]


@pytest.fixture(scope="session")
def hub_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """An upstream of this suite's own: what its service was given there must outlive the tests of other suites."""
    with Hub(tmp_path_factory.mktemp("upstream")) as hub:
        yield hub


@pytest.fixture(scope="session")
def service(hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With a mirror whose upstream has the images that the guide pulls."""
    hub_process.reset()
    hub_process.limit(None)
    for name in ("library/redis", "library/alpine", "tiangolo/uwsgi-nginx-flask"):
        image = multi(name, style="docker") if name != "library/alpine" else single(name)
        hub_process.add(image, name, "latest")
    folder = tmp_path_factory.mktemp("service")
    with Service(folder, upstream=hub_process.url) as service:
        add_people(folder)
        yield service


@pytest.fixture(scope="session")
def reader(service: Service) -> Reader:
    """Somebody who has done in the browser what the guide tells, and has kept the secrets."""
    mari = Api(service.host, USER, PASSWORD)
    made = mari.do("createProject", {"project_name": PROJECT, "metadata": {"public": "false"}})
    assert made.status == 201, made
    robot = mari.do(
        "createRobot",
        {
            "name": "ci",
            "level": "project",
            "duration": 30,
            "permissions": [{"kind": "project", "namespace": PROJECT, "access": _PULL_AND_PUSH}],
        },
    ).json()
    key = mari.do(
        "createAccessKey",
        {"name": "laptop", "duration": 30, "permissions": [{"namespace": "*", "access": _PULL_AND_PUSH}]},
    ).json()
    assert robot["name"] == f"robot-{PROJECT}+ci"
    return Reader(service.url, PROJECT, USER, {robot["name"]: robot["secret"], USER: key["secret"]})
