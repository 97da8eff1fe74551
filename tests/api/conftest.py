"""One service of two workers for all of these tests, seen by an outsider and by the admin."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.api.client import Registry
from tests.api.workers import landing_on
from tests.parts.service import Service

PROJECTS = {"lab": {"public": True}, "secret": {"public": False}, "mirror": {"upstream": "docker.io"}}


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers; ``lab`` is public, ``secret`` private, ``mirror`` the cache of an upstream that is not there."""
    with Service(tmp_path_factory.mktemp("service"), processes=2, overrides={"projects": PROJECTS}) as service:
        yield service


@pytest.fixture(scope="module", autouse=True)
def _no_errors_logged(service: Service) -> Iterator[None]:
    """Fail a module at whose end the log has an error: whatever a client sends, none of it is ours."""
    before = len(service.log())
    yield
    assert service.faults(before) == []


@pytest.fixture(scope="session")
def admin(service: Service) -> Registry:
    """Somebody who may do everything."""
    return Registry(service.host, service.username, service.password)


@pytest.fixture(scope="session")
def outsider(service: Service) -> Registry:
    """Somebody without an account."""
    return Registry(service.host)


@pytest.fixture(scope="session")
def first(service: Service, admin: Registry) -> Registry:
    """The admin, answered by one of the two workers."""
    return admin.through(landing_on(service.host, min(service.pids())))


@pytest.fixture(scope="session")
def second(service: Service, admin: Registry) -> Registry:
    """The admin, answered by the other one."""
    return admin.through(landing_on(service.host, max(service.pids())))


@pytest.fixture
def name() -> str:
    """Make up a repository of the public project that nobody has used."""
    return f"lab/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def secret() -> str:
    """Make up a repository of the private project that nobody has used."""
    return f"secret/{uuid.uuid4().hex[:12]}"
