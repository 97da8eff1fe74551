"""With PostgreSQL: a warm pull of a mirror asks it nothing, nor does its token, and both go on without it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import psycopg

from app.access.roles import PULL, Role
from tests.api.client import Registry
from tests.api.people import People
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
    image, url = hub.add(make(), repository, "8.0"), postgres.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET log_statement = 'all'".encode())
    projects = {"mirror": {"upstream": "docker.io"}, "team": {"upstream": "docker.io", "public": False}}
    with Service(
        tmp_path / "service", upstream=hub.url, database=url, redis=valkey.url, overrides={"projects": projects}
    ) as service:
        people = People(service, url)
        robot, secret = people.robot("ci", {"team": [PULL]}, "team")
        people.person("mari", Role.GUEST, "team")
        logins = [
            (robot.name, secret),
            ("mari", people.access_key("mari", {"team": [PULL]})),
            (service.username, service.password),
        ]

        def pull() -> None:
            # Everybody takes a new token for each pull.
            for reference in ("8.0", image.digest):
                assert set(image.blobs) < set(Registry(service.host).pull_image(f"mirror/{repository}", reference))
                for login in logins:
                    pulled = Registry(service.host, *login).pull_image(f"team/{repository}", reference)
                    assert set(image.blobs) < set(pulled)

        def asked_by_a_pull() -> list[str]:
            before = len(postgres.log())
            pull()
            return questions(postgres.log()[before:])

        assert asked_by_a_pull()
        wait_for(lambda: not asked_by_a_pull(), what="all that a pull needs to be copied")
        rounds = [asked_by_a_pull() for _ in range(10)]
        # A machine that stops Redis for half a second lets SQL be asked, which is right. It hardly does so thrice.
        assert rounds.count([]) >= 8, rounds
        postgres.stop()
        try:
            time.sleep(4)  # until the epoch is an old one
            for _ in range(5):
                pull()
            # Nobody knows of a log-in that was not there lately.
            assert (
                Registry(service.host, robot.name, f"{secret[:-1]}{'1' if secret.endswith('0') else '0'}")
                .ask_token()
                .status
                == 503
            )
        finally:
            postgres.start()
        assert service.faults(foreseen={503}) == []
