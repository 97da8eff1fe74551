"""One service of two workers in front of the strict upstream, for all of these tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.parts.dockerd import Docker
from tests.parts.service import Service
from tests.upstream.client import Hub

from .plain import Plain
from .table import Place

PROJECTS = {"lab": {"public": True}, "secret": {"public": False}, "mirror": {"upstream": "docker.io"}}
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def hub_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """An upstream of this suite's own: what its service was given there must outlive the tests of other suites."""
    with Hub(tmp_path_factory.mktemp("upstream")) as hub:
        yield hub


@pytest.fixture(scope="session")
def service(hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """``lab`` is public, ``secret`` private, ``mirror`` the upstream's; http://localhost:PORT is ``mirror`` alone."""
    overrides = {"projects": PROJECTS, "hosts": {"localhost": "mirror"}}
    folder = tmp_path_factory.mktemp("service")
    with Service(folder, upstream=hub_process.url, processes=2, overrides=overrides) as service:
        yield service


@pytest.fixture(autouse=True)
def _no_errors_logged(service: Service) -> Iterator[None]:
    """Fail a test during which the service logged an error: whatever a client does, none of it is ours."""
    before = len(service.log())
    yield
    assert service.faults(before) == []


@pytest.fixture
def hub(hub: Hub) -> Hub:
    """The upstream as new, and without a limit: a service remembers what it has spent for longer than a test lasts."""
    hub.limit(None)
    return hub


@pytest.fixture
def member(docker: Docker, service: Service) -> Iterator[Docker]:
    """The engine, logged in as somebody who may push."""
    docker.run("login", f"--username={service.username}", f"--password={service.password}", service.host)
    yield docker
    docker.run("logout", service.host)


@pytest.fixture
def name() -> str:
    """Make up the last part of a repository's name; what the service has cached outlives a test."""
    return f"app{next(_numbers)}"


@pytest.fixture
def place(service: Service, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Place:
    """Give each client a folder of its own, whose name is short: podman takes 50 characters at most."""

    def docker() -> Docker:
        found: Docker = request.getfixturevalue("docker")
        return found

    return Place(service.host, tmp_path_factory.mktemp("c"), docker)


@pytest.fixture
def admin(service: Service) -> Plain:
    """Look at, and change, what the registry has, as somebody who may do everything."""
    return Plain(service.host, service.username, service.password)
