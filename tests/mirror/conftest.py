"""One service of two workers for most of these tests, in front of the strict upstream.

What it has cached outlives a test: take repositories by `repository` and images by `make`, so that nothing of them is
known from another test. The upstream has no limit unless a test sets one.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.images import Image, multi, single
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client

ACCOUNT, PASSWORD = "university", "its-password"
MIRROR_HOST = "mirror.localhost"

Make = Callable[..., Image]

_numbers = itertools.count(1)
_SPARE = [f"spare{number}" for number in range(48)]
_spare = iter(_SPARE)


@pytest.fixture(scope="session")
def two_workers(hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Mirrors with and without an account, public and private, beside hosted projects; take `service`."""
    account = {"username": ACCOUNT, "password": PASSWORD}
    upstreams: dict[str, Any] = {f"{name}.example": {"url": hub_process.url} for name in _SPARE}
    overrides = {
        "upstreams": upstreams | {"paid.example": {"url": hub_process.url, "credentials": [account]}},
        "projects": {
            **{name: {"upstream": f"{name}.example"} for name in _SPARE},
            "mirror": {"upstream": "docker.io"},
            "official": {"upstream": "docker.io", "official_images": "alias"},
            "ruled": {
                "upstream": "docker.io",
                "official_images": "alias",
                "allowed_names": ["library/*", "{good,better}/**"],
                "denied_names": ["**/miner*"],
            },
            "team": {"upstream": "docker.io", "public": False},
            "paid": {"upstream": "paid.example"},
            "vault": {"upstream": "paid.example", "public": False},
            "lab": {"public": True},
            "secret": {"public": False},
        },
        "hosts": {MIRROR_HOST: "mirror"},
        "fill_networks": ["127.0.0.1/32", "127.1.0.0/16"],
    }
    folder = tmp_path_factory.mktemp("mirror")
    with Service(folder, upstream=hub_process.url, processes=2, overrides=overrides, hurried=True) as service:
        yield service


@pytest.fixture
def service(two_workers: Service) -> Iterator[Service]:
    """The service of two workers; whatever a test does to it, its log tells of no fault of its own."""
    with clean_log(two_workers):
        yield two_workers


@pytest.fixture
def hub(hub: Hub) -> Hub:
    """The strict upstream as new, but without a limit, and with the account."""
    hub.limit(None)
    hub.account(ACCOUNT, PASSWORD)
    return hub


@pytest.fixture
async def client(service: Service) -> AsyncIterator[Client]:
    """Somebody without an account."""
    async with Client(service.url) as client:
        yield client


@pytest.fixture
async def admin(service: Service) -> AsyncIterator[Client]:
    """Somebody who may do everything."""
    async with Client(service.url, login=(service.username, service.password)) as client:
        yield client


@pytest.fixture
def repository() -> str:
    """Make up a repository of the upstream that nobody has asked for."""
    return f"library/app{next(_numbers)}"


@pytest.fixture
def project() -> str:
    """Give a mirror project with an upstream of its own, for a test after which it is spared or blocked for a while."""
    return next(_spare)


@pytest.fixture
def make() -> Make:
    """Make images that nobody has seen: ``make()`` is an index, ``make(sizes=…)`` one image of such layers."""

    def make(*, sizes: tuple[int, ...] | None = None, **more: Any) -> Image:
        seed = f"mirror {next(_numbers)}"
        return multi(seed, **more) if sizes is None else single(seed, sizes=sizes, **more)

    return make


@contextmanager
def clean_log(service: Service) -> Iterator[None]:
    """Fail where the service logs an error or a traceback meanwhile, or fails a request without saying why."""
    before = len(service.log())
    yield
    assert service.faults(before, foreseen=range(501, 600)) == []
