"""The other parts start, do what they are there for, and come back after they were away."""

from __future__ import annotations

from types import ModuleType

import asyncpg
import pytest
import redis

from tests.conftest import require
from tests.parts.postgres import Postgres
from tests.parts.process import free_port, wait_for
from tests.parts.service import merged
from tests.parts.valkey import Valkey
from tests.parts.weed import ObjectStore


async def test_postgres(postgres: Postgres) -> None:
    url = postgres.database()
    for _ in range(2):
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT current_database()") == url.rpartition("/")[2]
        await connection.close()
        postgres.stop()
        with pytest.raises(OSError, match=r"refused|failed"):
            await asyncpg.connect(url)
        postgres.start()


def test_valkey(valkey: Valkey) -> None:
    with redis.Redis.from_url(valkey.url, socket_timeout=0.3, retry=None) as client:
        client.set("key", "value")
        valkey.pause()
        with pytest.raises(redis.TimeoutError):
            client.get("key")
        valkey.resume()
        assert client.get("key") == b"value"
        valkey.flush()
        assert client.get("key") is None
        valkey.stop()
        with pytest.raises(redis.ConnectionError):
            client.get("key")
        valkey.start()
        assert client.ping()


def test_weed(object_store: ObjectStore) -> None:
    section = object_store.bucket("proof")
    client = object_store.client()
    client.put_object(Bucket=section["bucket"], Key="a/b", Body=b"bytes")
    answer = client.get_object(Bucket=section["bucket"], Key="a/b", Range="bytes=1-2")
    assert answer["Body"].read() == b"yt"


def test_what_is_missing_is_skipped_but_not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    part = ModuleType("part")
    part.__dict__["missing"] = lambda: "no part here"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no part here"):
        require(part)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no part here"):
        require(part)


def test_waiting_is_bounded() -> None:
    with pytest.raises(TimeoutError, match="what never comes"):
        wait_for(lambda: None, what="what never comes", timeout=0.1)


def test_ports_are_free() -> None:
    assert 11_000 <= free_port(also=10_000) < 22_000


def test_overrides_are_merged_key_by_key() -> None:
    base = {"server": {"listen": "a", "processes": 1}, "hosts": {}}
    assert merged(base, {"server": {"processes": 2}, "hosts": {"m": "mirror"}}) == {
        "server": {"listen": "a", "processes": 2},
        "hosts": {"m": "mirror"},
    }
