"""A client is never at fault for the time in which the registry waits for an upstream."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.images import single
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client

# Of an impatient service (`tests.parts.hurried`).
PATIENCE_SECONDS = 3


async def test_an_upstream_that_stalls_costs_no_client_its_answer(hub: Hub, tmp_path: Path) -> None:
    image = hub.add(single("patience", sizes=(4_000_000,)), "library/app", "1")
    (layer,) = image.layers
    hub.fault("cdn", "stall", path=f"/data/{layer}", after=1_000_000)
    with Service(tmp_path, upstream=hub.url, impatient=True) as service:
        async with Client(service.url) as client:
            await client.pull_manifest("mirror/library/app", "1", image.digest, image)
            pull = asyncio.create_task(client.pull_blob("mirror/library/app", layer, image))
            await asyncio.sleep(3 * PATIENCE_SECONDS)
            assert not pull.done()
            hub.clear_faults()
            await pull
        assert service.faults() == []
