"""Show the pins of a mirror's repository, and let a pinned tag follow the upstream once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial

from app.database import Database, pins
from app.database.pins import Pin
from app.mirror.preparation import Preparation
from app.oci.reference import Tag
from app.registry.content import Client


class Pins:
    """The pins of mirrors; ``preparations`` are those of the mirrors, by their upstreams' names."""

    def __init__(self, database: Database, preparations: Mapping[str, Preparation]) -> None:
        self._database = database
        self._preparations = preparations

    async def of_repository(self, project_id: int, repository: str) -> Sequence[Pin]:
        """List the pins in force over a repository, by their tags."""
        return await self._database.read(
            partial(pins.of_repository, project_id=project_id, repository_name=repository, now=time.time())
        )

    async def use_newer(self, upstream: str, project: str, repository: str, tag: Tag, client: Client) -> None:
        """Point a pinned tag at what the upstream has now, for the rest of its term.

        ``project`` and ``upstream`` are names. The budget is spent in the name of ``client``. Raises TooManyRequests,
        and any failure of the upstream.
        """
        await self._preparations[upstream].follow(project, repository, tag, client)
