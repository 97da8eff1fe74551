"""The service on a registry that was built, and what its requests cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from tests.api.client import Registry, exchange
from tests.parts.service import Service
from tests.web.http import Person

from .asked import Ask
from .building import MARI, PASSWORD, Built
from .counted import Steps

# Jobs of the service ask the database as well, so the cheapest of a few answers counts.
_TIMES = 2


class Counted(Service):
    """A service that counts SQLite's steps."""

    def start(self) -> None:
        """Start it as a process that counts."""
        self._command = ["tests.growth.counted"]
        super().start()


class House:
    """A running service, the people who ask, and the counter of the database beneath it."""

    def __init__(self, folder: Path, url: str, built: Built) -> None:
        """Start the service on the database at ``url``."""
        self.built, self.url = built, url
        self._service = Counted(folder, database=url)
        self._closing = ExitStack()
        self.count = self._closing.enter_context(counter(folder, url))
        host = self._service.host
        self._settle()
        self._people = {
            "admin": Person(host).log_in(self._service.username, self._service.password),
            "mari": Person(host).log_in(MARI, PASSWORD),
            "nobody": Person(host),
        }
        self._registries = {
            "admin": Registry(host, self._service.username, self._service.password),
            "nobody": Registry(host),
        }

    @property
    def config(self) -> Path:
        return self._service.config

    def cost(self, ask: Ask, enough: int = 0) -> int:
        """Send a request a few times, but no more after it cost ``enough``; give what it costs at the least."""
        least = None
        for _ in range(_TIMES):
            if least is not None and enough:
                # A job of the service may have run meanwhile, and may still run.
                self._settle()
            before = self.count()
            status = self._send(ask)
            assert status < 500, f"{ask.path}: {status}"
            cost = self.count() - before
            least = cost if least is None else min(least, cost)
            if least <= enough:
                break
        assert least is not None
        return least

    def _settle(self) -> None:
        """Wait until the jobs that begin with the service have done their first run."""
        before = -1
        while before != (now := self.count()):
            before = now
            time.sleep(0.7)

    def _send(self, ask: Ask) -> int:
        if ask.path.startswith("/v2/"):
            # The digests of what was built are made up, so the client that checks them cannot read it.
            headers = {"Authorization": self._registries[ask.by].authorization(ask.path)}
            return exchange(self._service.host, "GET", ask.path, None, headers).status
        return self._people[ask.by].get(ask.path).status

    def stop(self) -> None:
        """Stop the service, so that its jobs add nothing to what is counted next."""
        self._service.stop(timeout=10)

    def close(self) -> None:
        """Count no more."""
        self._closing.close()


@contextmanager
def counter(folder: Path, url: str) -> Iterator[Callable[[], int]]:
    """Give what reads how much the database at ``url`` has done: PostgreSQL's shared buffers, or SQLite's steps."""
    if url.startswith("sqlite"):
        steps = Steps(folder)
        yield lambda: steps.taken
        return
    asks = (
        "SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint FROM pg_stat_statements"
        " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND query NOT LIKE '%pg_stat_statements%'"
    )
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

        def read() -> int:
            row = server.execute(asks).fetchone()
            assert row is not None
            return int(row[0])

        yield read
