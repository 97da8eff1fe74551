"""Fixtures that every suite may use, the order of a run, and `require` for parts that a machine may lack.

Every worker of a run (pytest-xdist) has session fixtures of its own, and takes whole files.
"""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import botocore.session
import pytest

from tests.parts import dockerd as dockerd_part
from tests.parts import postgres as postgres_part
from tests.parts import valkey as valkey_part
from tests.parts import weed as weed_part
from tests.upstream.client import Hub

# Each S3 client reads the same descriptions of Amazon's API, which takes longer than most tests. One copy is enough.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

# The files that take longest come first, then the suites in this order: no worker ends long after the others.
LONGEST_FIRST = (
    "mirror/test_database_away.py",
    "contract/test_two_hosts.py",
)
SUITES = ("contract", "mirror", "web", "clients", "guide", "story", "sso", "webapi", "crowd", "api")


def pytest_configure() -> None:
    """Collect no garbage while the tests are collected: nothing of them is."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what was collected out of every later collection of garbage; it is most of the heap."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files in the order in which the workers take them; the tests of a file stay in theirs."""
    items.sort(key=lambda item: _turn(item.path.relative_to(Path(__file__).parent)))


def _turn(file: Path) -> tuple[int, int, str]:
    suite, name = file.parts[0], str(file)
    place = LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)
    return place, SUITES.index(suite) if suite in SUITES else len(SUITES), name


def require(part: ModuleType) -> None:
    """Skip the test with the reason where ``part`` (a module of tests.parts) cannot be had; with CI=true, fail."""
    reason = part.missing()
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"not run: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def hub_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The strict upstream, one for all tests; take `hub` unless you start something against it for many tests."""
    with Hub(tmp_path_factory.mktemp("upstream")) as hub:
        yield hub


@pytest.fixture
def hub(hub_process: Hub) -> Hub:
    """The strict upstream as new: empty, nothing spent, no faults, its CDN at another address than itself."""
    hub_process.reset()
    return hub_process


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dockerd_part.Docker]:
    """A Docker engine without a registry mirror."""
    require(dockerd_part)
    with dockerd_part.dockerd(tmp_path_factory.mktemp("docker")) as docker:
        yield docker


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[weed_part.ObjectStore]:
    """An S3 endpoint; take a bucket of your own."""
    require(weed_part)
    with weed_part.weed(tmp_path_factory.mktemp("weed")) as store:
        yield store


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_part.Postgres]:
    """A PostgreSQL cluster; take a database of your own."""
    require(postgres_part)
    with postgres_part.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_part.Valkey]:
    require(valkey_part)
    with valkey_part.valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def valkey(valkey_process: valkey_part.Valkey) -> valkey_part.Valkey:
    """An empty Valkey server; a test that stops or pauses it brings it back itself."""
    valkey_process.flush()
    return valkey_process
