"""What a restart keeps, and the key without which no secret would be right any more."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.access.roles import PULL, PUSH
from tests.api.client import Answer, Registry, basic, exchange, expect, refused
from tests.api.documents import EMPTY, OCI_MANIFEST, image
from tests.api.people import People
from tests.parts.process import command
from tests.parts.service import Service, merged


def configure(service: Service, changes: dict[str, Any]) -> None:
    document = merged(yaml.safe_load(service.config.read_text()), changes)
    service.config.write_text(yaml.safe_dump(document))


def login(service: Service, username: str, password: str) -> Answer:
    return exchange(service.host, "GET", "/service/token", None, {"Authorization": basic(username, password)})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service of its own with one robot, and that robot's secret."""
    projects = {"lab": {"public": True}}
    with Service(tmp_path_factory.mktemp("key"), overrides={"projects": projects}) as service:
        yield service, *People(service).robot("ci", {"lab": [PULL, PUSH]}, "lab")


def test_what_was_noted_last_is_written_at_a_normal_stop(place: Any) -> None:
    service, robot, secret = place
    registry = Registry(service.host, robot.name, secret)
    registry.push_blob("lab/app", EMPTY)
    registry.push_blob("lab/app", b"layer")
    expect(registry.put_manifest("lab/app", "last", image(b"layer"), OCI_MANIFEST), 201)
    service.stop()
    with sqlite3.connect(service.folder / "data" / "registry.sqlite") as database:
        noted = database.execute("SELECT operation, resource, actor FROM audit WHERE operation = 'push'").fetchall()
        used = database.execute("SELECT last_used_from FROM robot").fetchall()
    service.start()
    assert noted == [("push", "lab/app:last", f"robot:{robot.name}")]
    assert used == [("127.0.0.1",)]
    assert login(service, robot.name, secret).status == 200


def test_passwords_can_be_turned_off_and_robots_go_on(place: Any) -> None:
    service, robot, secret = place
    configure(service, {"admin": {"enabled": False}})
    service.restart()
    answer = login(service, service.username, service.password)
    assert "passwords are not accepted here" in refused(answer, 401, "UNAUTHORIZED")
    assert login(service, robot.name, secret).status == 200
    configure(service, {"admin": {"enabled": True}})
    service.restart()
    assert login(service, service.username, service.password).status == 200


def test_another_key_than_before_is_one_clear_line(place: Any) -> None:
    service, robot, secret = place
    service.stop()
    kept = Path(service.folder / "data" / "secret_key")
    assert kept.stat().st_mode & 0o777 == 0o600
    configure(service, {"access": {"secret_key": "another key of some length, see you"}})
    ended = command("serve", "--config", str(service.config))
    configure(service, {"access": {"secret_key": kept.read_text().strip()}})
    service.start()
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("registry: access.secret_key: not the key that this database's secrets were made with")
    assert login(service, robot.name, secret).status == 200
