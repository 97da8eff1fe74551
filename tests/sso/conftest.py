"""The service that logs people in, the identity provider it knows, and browsers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conftest import require
from tests.parts import idp as idp_part
from tests.parts import valkey as valkey_part
from tests.parts.service import Service

from .browser import Browser
from .forge import Forger


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_part.Valkey]:
    """A Redis of this file's own: its tests may stop it and bring it back."""
    require(valkey_part)
    with valkey_part.valkey(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def university(tmp_path_factory: pytest.TempPathFactory) -> Iterator[idp_part.IdentityProvider]:
    """A real identity provider."""
    require(idp_part)
    with idp_part.idp(tmp_path_factory.mktemp("idp")) as provider:
        yield provider


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, redis: valkey_part.Valkey, university: idp_part.IdentityProvider
) -> Iterator[Service]:
    """A service that the identity provider knows; whoever is in registry-admins is an admin."""
    saml = {
        "enabled": True,
        "idp_metadata_url": university.metadata_url,
        "admins": [{"attribute": "groups", "values": ["registry-admins"]}],
    }
    with Service(tmp_path_factory.mktemp("site"), redis=redis.url, overrides={"saml": saml}) as service:
        university.trust(service.url)
        yield service


@pytest.fixture
async def browser(site: Service) -> AsyncIterator[Browser]:
    async with Browser(site.url) as browser:
        yield browser


@pytest.fixture
async def other_browser(site: Service) -> AsyncIterator[Browser]:
    async with Browser(site.url) as browser:
        yield browser


@pytest.fixture(scope="module")
def forger(tmp_path_factory: pytest.TempPathFactory) -> Forger:
    """Somebody who has an identity provider's keys, and makes what answers they like."""
    return Forger(tmp_path_factory.mktemp("forger"))


@pytest.fixture(scope="module")
def forged_site(
    tmp_path_factory: pytest.TempPathFactory, redis: valkey_part.Valkey, forger: Forger
) -> Iterator[Service]:
    """A service whose identity provider is the forger."""
    saml = {"enabled": True, "idp_metadata_url": forger.metadata_url}
    with Service(tmp_path_factory.mktemp("forged"), redis=redis.url, overrides={"saml": saml}) as service:
        forger.serve(service.url)
        yield service
