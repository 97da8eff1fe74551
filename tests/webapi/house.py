"""The running service that these tests ask: real processes, one SQLite file, a real Redis."""

from __future__ import annotations

import itertools
from pathlib import Path
from urllib.parse import urlencode

from tests.parts.process import wait_for
from tests.parts.service import ADMIN, PASSWORD, Service
from tests.web.http import Person
from tests.webapi.client import Api

__all__ = ["ADMIN", "PASSWORD", "House"]


class House:
    """``host`` is HOST:PORT, ``url`` the API's address. Close it."""

    def __init__(self, folder: Path, redis: str = "embedded:", *, processes: int = 1, preload: bool = True) -> None:
        """Start the service; clients may say by X-Forwarded-For where they are.

        ``redis`` is a Redis's URL. Two houses never share one, because their accounts have the same ids. ``preload`` is
        that of `Service`.
        """
        overrides = {
            "server": {"trusted_proxies": ["127.0.0.1"]},
            "projects": {},
            "policy": {"projects_per_person": 1000},
        }
        self.service = Service(folder, redis=redis, processes=processes, preload=preload, overrides=overrides)
        self.host = self.service.host
        self.url = f"{self.service.url}/api/v2.0"
        self.admin = Api(self.host, ADMIN, PASSWORD)
        self._names: dict[int, str] = {}
        self._marks = itertools.count(1)

    def close(self) -> None:
        """Stop serving."""
        self.service.stop()

    def add_person(self, username: str) -> int:
        """Make an account with the password `PASSWORD`; gives its number."""
        number = self.admin.do("createUser", {"username": username, "password": PASSWORD}).number
        self._names[number] = username
        return number

    def log_in(self, number: int, agent: str) -> str:
        """Log somebody whom `add_person` made in by the form; gives what the session's cookie holds."""
        person = Person(self.host)
        person.get("/login")
        form = {"username": self._names[number], "password": PASSWORD, "_xsrf": person.token}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": agent}
        assert person.ask("POST", "/login", urlencode(form).encode(), headers).status == 303
        return person.cookies["session"]

    def log_out(self, secret: str) -> None:
        """End the session of a cookie by the form."""
        person = Person(self.host)
        person.cookies["session"] = secret
        person.get("/")
        assert person.post("/logout").status == 303

    def write_notes(self) -> None:
        """Wait until everything noted so far is in the audit log: it is written in order, once a second."""
        mark = f"mark-{next(self._marks)}"
        assert self.admin.do("createLabel", {"name": mark, "scope": "g"}).status == 201
        query = {"q": f"text=~{mark},resource_type=label", "page_size": 100}
        wait_for(
            lambda: mark in [one["resource"] for one in self.admin.do("listAuditLogs", query=query).json()],
            what="the audit log",
        )
