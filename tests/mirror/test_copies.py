"""With PostgreSQL: a warm pull of a mirror asks it nothing, nor does its token, and both go on without it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import psycopg

from tests.api.client import Registry
from tests.parts.postgres import Postgres
from tests.parts.process import wait_for
from tests.parts.service import Service
from tests.parts.valkey import Valkey
from tests.upstream.client import Hub

from .conftest import Make


def questions(log: str) -> list[str]:
    """List what PostgreSQL was asked about a project, a tag, a manifest, a blob or an account, in one line each."""
    statements = re.findall(r"(?:statement|execute \S+): (SELECT .*?)(?=\n\S+ \S+ \S+ \[|\Z)", log, re.DOTALL)
    found = [re.sub(r"\s+", " ", statement) for statement in statements]
    of_a_pull = re.compile(r"FROM (project LEFT|project WHERE project.name =|tag|manifest|link|member|account|robot) ")
    return [one for one in found if of_a_pull.search(one)]


def test_a_warm_pull_asks_sql_nothing(
    hub: Hub, postgres: Postgres, valkey: Valkey, tmp_path: Path, repository: str, make: Make
) -> None:
    image, name, url = hub.add(make(), repository, "8.0"), f"mirror/{repository}", postgres.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET log_statement = 'all'".encode())
    projects = {"mirror": {"upstream": "docker.io"}}
    with Service(
        tmp_path / "service", upstream=hub.url, database=url, redis=valkey.url, overrides={"projects": projects}
    ) as service:

        def pull() -> None:
            # Everybody takes a new token for each pull.
            assert set(image.blobs) < set(Registry(service.host).pull_image(name, "8.0"))
            assert set(image.blobs) < set(Registry(service.host).pull_image(name, image.digest))

        def is_warm() -> bool:
            before = len(postgres.log())
            pull()
            return not questions(postgres.log()[before:])

        pull()
        assert questions(postgres.log())
        wait_for(is_warm, what="all that a pull needs to be copied")
        before = len(postgres.log())
        for _ in range(20):
            pull()
        assert questions(postgres.log()[before:]) == []
        postgres.stop()
        try:
            time.sleep(4)  # until the epoch is an old one
            for _ in range(5):
                pull()
        finally:
            postgres.start()
        assert service.faults() == []
