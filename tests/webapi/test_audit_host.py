"""The audit log and the host: what is done there is noted, and a stop loses nothing, whenever it comes."""

from __future__ import annotations

import itertools
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.client import Registry
from tests.parts.process import command, wait_for
from tests.webapi.client import Api
from tests.webapi.house import ADMIN, PASSWORD, House

_CLIENTS = 8
_ENOUGH = 40


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service with two workers, which these tests stop."""
    house = House(tmp_path_factory.mktemp("audited"), processes=2)
    # Whoever makes the first token makes the first signing key.
    assert Registry(house.host).ask_token().status == 200
    yield house
    house.close()


def rows(house: House, statement: str) -> list[tuple[object, ...]]:
    """Read the database as it is, whoever runs."""
    path: Path = house.service.folder / "data" / "registry.sqlite"
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return database.execute(statement).fetchall()
    finally:
        database.close()


class Crowd:
    """Clients that change things until nobody answers them any more."""

    def __init__(self, house: House, stop: int) -> None:
        self._house = house
        self._stop = stop
        self._numbers = itertools.count(1)
        self.made: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(_CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        api = Api(self._house.host, ADMIN, PASSWORD)
        for number in self._numbers:
            name = f"stop-{self._stop}-{number}"
            try:
                if api.call("POST", "/labels", {"name": name, "scope": "g"}).status != 201:
                    return
            except OSError:
                return
            self.made.append(name)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize("stop", range(2))
def test_a_stop_in_the_middle_of_changes_loses_no_entry(house: House, stop: int) -> None:
    crowd = Crowd(house, stop)
    wait_for(lambda: len(crowd.made) >= _ENOUGH, what="changes")
    assert house.service.stop() == 0
    crowd.join()
    done = {name for (name,) in rows(house, f"SELECT name FROM label WHERE name LIKE 'stop-{stop}-%'")}
    entries = rows(house, f"SELECT resource FROM audit WHERE operation = 'create' AND resource LIKE 'stop-{stop}-%'")
    house.service.start()
    assert set(crowd.made) <= done
    assert Counter(name for (name,) in entries) == Counter(done)


def test_a_stop_right_after_a_change_and_wrong_passwords(house: House) -> None:
    assert house.admin.do("createLabel", {"name": "the last one", "scope": "g"}).status == 201
    for _ in range(5):
        assert Registry(house.host, ADMIN, "hpcr_" + "x" * 40).ask_token().status == 401
    assert house.service.stop() == 0
    assert rows(house, "SELECT operation FROM audit WHERE resource = 'the last one'") == [("create",)]
    counted = rows(house, f"SELECT sum(times) FROM audit WHERE operation = 'refuse' AND resource = '{ADMIN}'")
    house.service.start()
    assert counted == [(5,)]


COMMANDS = {
    "create-project by-hand": ("create", "project", "by-hand", "by-hand"),
    "change-project by-hand --public": ("update", "project", "by-hand", "by-hand"),
    "set-password set-by-hand": ("password", "account", "set-by-hand", ""),
    "rotate-keys": ("create", "signing key", None, ""),
}


@pytest.mark.parametrize("line", COMMANDS)
def test_what_is_done_on_the_host_is_noted(house: House, line: str) -> None:
    if line.startswith("set-password"):
        house.add_person("set-by-hand")
    secret = "a new password of theirs"
    name, *rest = line.split()
    ended = command("admin", name, "--config", str(house.service.config), *rest, given=f"{secret}\n")
    assert ended.returncode == 0, ended.stderr
    operation, kind, resource, project = COMMANDS[line]
    query = {"q": f"operation={operation},resource_type={kind},text=~command line"}
    (entry,) = house.admin.do("listAuditLogs", query=query).json()
    assert (entry["user_kind"], entry["username"]) == ("system", "command line")
    assert entry["client_address"] == socket.gethostname()
    assert entry["resource"] == (resource or entry["resource"])
    assert entry.get("project_name", "") == project
    assert secret not in house.admin.do("exportAuditLogs").body.decode()


def test_the_first_signing_key_was_made_by_the_service_itself(house: House) -> None:
    query = {"q": "resource_type=signing key,text=~system:registry"}
    (entry,) = house.admin.do("listAuditLogs", query=query).json()
    assert (entry["operation"], entry["user_kind"], entry["username"]) == ("create", "system", "registry")
    keys = {str(key) for (key,) in rows(house, "SELECT id FROM signing_key")}
    assert entry["resource"] in keys
