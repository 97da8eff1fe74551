"""One service for all of these tests, and clients of its REST API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.webapi.client import Api
from tests.webapi.house import ADMIN, PASSWORD, House


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The service with its API."""
    house = House(tmp_path_factory.mktemp("house"))
    yield house
    house.close()


@pytest.fixture(autouse=True)
def _no_fault_of_ours(house: House) -> Iterator[None]:
    """Fail a test in which the service met something unforeseen."""
    before = len(house.service.log())
    yield
    assert house.service.faults(before) == []


@pytest.fixture(scope="session")
def admin(house: House) -> Api:
    """The administrator, by password."""
    return Api(house.host, ADMIN, PASSWORD)


@pytest.fixture(scope="session")
def nobody(house: House) -> Api:
    """Nobody in particular."""
    return Api(house.host)


@pytest.fixture(scope="session")
def ann(house: House) -> Api:
    """Somebody with an account and nothing else, by password."""
    house.add_person("ann")
    return Api(house.host, "ann", PASSWORD)
