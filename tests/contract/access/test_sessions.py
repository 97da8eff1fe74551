"""Browser sessions: begun, found, ended, and what becomes of them without Redis."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from app.access.sessions import SamlSession, Sessions
from app.cache.client import Cache
from app.oci.errors import Unavailable
from tests.parts.process import eventually
from tests.parts.valkey import Valkey
from tests.parts.valkey import valkey as started

from .conftest import no_redis

IDLE, LIFE = 600.0, 3600.0
MARI, JURI = 1, 2


class Clock:
    """Seconds that pass when told to."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(cache: Cache, clock: Clock) -> Sessions:
    return Sessions(cache, IDLE, LIFE, clock)


async def begin(
    sessions: Sessions, account_id: int = MARI, saml: SamlSession | None = None, generation: int = 0
) -> str:
    return await sessions.begin(account_id, generation, "192.0.2.1", "Mozilla/5.0", saml)


async def test_a_session_is_found_by_its_secret_alone(sessions: Sessions, clock: Clock) -> None:
    secret = await begin(sessions)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret)
    found = await sessions.find(secret)
    assert found is not None
    assert (found.account_id, found.address, found.agent, found.saml) == (MARI, "192.0.2.1", "Mozilla/5.0", None)
    assert found.generation == 0
    assert found.created_at == found.seen_at == clock.now
    for wrong in (found.id, secret[:-1], secret + "A", "", "A" * 43, "é" * 43):
        assert await sessions.find(wrong) is None


async def test_redis_does_not_know_the_secret(sessions: Sessions, valkey: Valkey) -> None:
    secret = await begin(sessions)
    assert secret not in valkey.command("KEYS *")
    assert await begin(sessions) != secret


async def test_it_ends_when_it_has_been_idle(sessions: Sessions, clock: Clock) -> None:
    secret = await begin(sessions)
    for _ in range(3):
        clock.now += IDLE - 1
        assert await sessions.find(secret)
    clock.now += IDLE
    assert await sessions.find(secret) is None
    clock.now -= IDLE
    assert await sessions.find(secret) is None


async def test_it_ends_in_any_case(sessions: Sessions, clock: Clock) -> None:
    secret = await begin(sessions)
    for _ in range(6):
        clock.now += IDLE - 1
        assert await sessions.find(secret)
    clock.now += IDLE - 1
    assert await sessions.find(secret) is None


async def test_it_ends_when_the_university_says(sessions: Sessions, clock: Clock) -> None:
    secret = await sessions.begin(MARI, 0, "192.0.2.1", "", None, clock.now + 60)
    clock.now += 59
    assert await sessions.find(secret)
    clock.now += 1
    assert await sessions.find(secret) is None


async def test_every_key_goes_away_by_itself(sessions: Sessions, valkey: Valkey, cache: Cache) -> None:
    await begin(sessions, MARI, SamlSession("_name"))
    script = "local least = 1e9 for _, key in ipairs(redis.call('KEYS', '*')) do "
    script += "least = math.min(least, redis.call('TTL', key)) end return {#redis.call('KEYS', '*'), least}"
    number, least = await cache.script(script, [], list)
    assert number == 3
    assert 0 < least <= IDLE


async def test_ones_own_are_listed_the_latest_first(sessions: Sessions, clock: Clock) -> None:
    first, second = await begin(sessions), await begin(sessions)
    await begin(sessions, JURI)
    clock.now += 60
    await sessions.find(first)
    listed = await sessions.list_of(MARI, 0)
    assert [session.seen_at for session in listed] == [clock.now, clock.now - 60]
    await sessions.end(second)
    assert [session.id for session in await sessions.list_of(MARI, 0)] == [listed[0].id]


async def test_ones_own_are_revoked_and_nobody_elses(sessions: Sessions) -> None:
    mine, theirs = await begin(sessions), await begin(sessions, JURI)
    (their_session,) = await sessions.list_of(JURI, 0)
    (my_session,) = await sessions.list_of(MARI, 0)
    assert not await sessions.revoke(MARI, their_session.id)
    assert not await sessions.revoke(MARI, "no-such")
    assert await sessions.find(theirs)
    assert await sessions.revoke(MARI, my_session.id)
    assert await sessions.find(mine) is None


async def test_a_session_carries_the_generation_it_was_begun_under(sessions: Sessions) -> None:
    before, after = await begin(sessions), await begin(sessions, generation=7)
    assert [getattr(await sessions.find(secret), "generation", None) for secret in (before, after)] == [0, 7]
    assert [session.generation for session in await sessions.list_of(MARI, 7)] == [7]
    assert await sessions.list_of(MARI, 8) == []


async def test_one_that_an_older_release_began_is_of_the_first_generation(sessions: Sessions, cache: Cache) -> None:
    secret = await begin(sessions, generation=7)
    old = "return redis.call('HDEL', KEYS[1], 'generation', 'name_id')"
    (session,) = await sessions.list_of(MARI, 7)
    assert await cache.script(old, [f"session:{session.id}"], list) == 2
    assert getattr(await sessions.find(secret), "generation", None) == 0


async def test_a_redis_with_older_data_lets_nobody_in_again(clock: Clock, tmp_path: Path) -> None:
    with started(tmp_path) as valkey:
        cache = Cache(valkey.url)
        sessions = Sessions(cache, IDLE, LIFE, clock)
        ended, other = await begin(sessions), await begin(sessions)
        assert valkey.command("SAVE") == "+OK"
        await sessions.end(ended)
        await asyncio.to_thread(valkey.stop)
        await asyncio.to_thread(valkey.start)
        assert int(valkey.command("DBSIZE").removeprefix(":")) > 0

        async def answers() -> bool:
            return await cache.set("probe", "1", 1)

        await eventually(answers, what="Redis to be asked again")
        assert await sessions.list_of(MARI, 0) == []
        assert [await sessions.find(secret) for secret in (ended, other)] == [None, None]
        assert await sessions.find(await begin(sessions))
        await cache.close()


async def test_one_that_an_older_release_began_names_no_server(sessions: Sessions, cache: Cache) -> None:
    secret = await begin(sessions)
    (session,) = await sessions.list_of(MARI, 0)
    assert await cache.script("return redis.call('HDEL', KEYS[1], 'server')", [f"session:{session.id}"], list) == 1
    assert await sessions.find(secret)
    assert len(await sessions.list_of(MARI, 0)) == 1


async def test_all_of_somebody_are_forgotten_together(sessions: Sessions) -> None:
    mine, theirs = [await begin(sessions), await begin(sessions)], await begin(sessions, JURI)
    await sessions.forget(MARI)
    assert [await sessions.find(secret) for secret in mine] == [None, None]
    assert await sessions.find(theirs)
    assert await sessions.list_of(MARI, 0) == []


async def test_the_identity_provider_ends_what_it_began(sessions: Sessions) -> None:
    first = await begin(sessions, MARI, SamlSession("_name", session_index="_1"))
    second = await begin(sessions, MARI, SamlSession("_name", session_index="_2"))
    local = await begin(sessions)
    assert await sessions.end_saml("_other", []) == []
    assert await sessions.end_saml("_name", ["_1", "_3"]) == [MARI]
    assert await sessions.find(first) is None
    found = await sessions.find(second)
    assert found is not None
    assert found.saml == SamlSession("_name", session_index="_2")
    assert await sessions.end_saml("_name", []) == [MARI]
    assert await sessions.find(second) is None
    assert await sessions.find(local)


async def test_a_session_that_has_ended_is_not_brought_back_by_its_use(sessions: Sessions, clock: Clock) -> None:
    secret = await begin(sessions)
    clock.now += 60
    await sessions.end(secret)
    assert await sessions.find(secret) is None
    assert await sessions.list_of(MARI, 0) == []


async def test_an_index_that_was_lost_is_made_again(sessions: Sessions, clock: Clock, cache: Cache) -> None:
    secret = await begin(sessions)
    await cache.delete(f"sessions:{MARI}")
    clock.now += 60
    await sessions.find(secret)
    assert len(await sessions.list_of(MARI, 0)) == 1
    await sessions.forget(MARI)
    assert await sessions.find(secret) is None


async def test_an_index_of_the_university_that_was_lost_is_made_again(
    sessions: Sessions, clock: Clock, cache: Cache
) -> None:
    secret = await begin(sessions, MARI, SamlSession("_name"))
    await cache.script("return redis.call('DEL', unpack(redis.call('KEYS', '*saml-sessions:*')))", [], list)
    clock.now += 60
    await sessions.find(secret)
    assert await sessions.end_saml("_name", []) == [MARI]
    assert await sessions.find(secret) is None


async def test_without_redis_nobody_is_logged_in_and_nobody_logs_in() -> None:
    cache = no_redis()
    sessions = Sessions(cache, IDLE, LIFE)
    assert await sessions.find("A" * 43) is None
    await sessions.forget(MARI)
    for attempt in (begin(sessions), sessions.end("A" * 43), sessions.list_of(MARI, 0), sessions.revoke(MARI, "x")):
        with pytest.raises(Unavailable, match="Redis, which keeps sessions, is down") as caught:
            await attempt
        assert caught.value.headers["Retry-After"]
    await cache.close()
