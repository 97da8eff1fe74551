from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.upstream.client import Hub

from .raw import Raw


@pytest.fixture
async def raw(hub: Hub) -> AsyncIterator[Raw]:
    """A bare client of the upstream that follows nothing and repairs nothing."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield Raw(hub, session)
