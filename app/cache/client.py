"""The connections to Redis, which may fail at any moment without failing a request.

Invariant: only `Cache.check` raises if Redis is stopped, slow, full or replaced by another service. Otherwise a read is
a cache miss, a write returns False and a script returns `AWAY`. Each failure is counted; the first one is logged.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from cachetools import TTLCache
from prometheus_client import Counter
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from app.oci.errors import Unavailable

from . import keys as layout

log = logging.getLogger(__name__)

FAILURES = Counter(
    "registry_redis_failures_total", "Calls to Redis that failed, or were not made while it was down.", ["call"]
)

# In seconds. If Redis needs longer than this, working without it is faster.
PATIENCE = 0.5
# In seconds. No call is made for this long after a failure. Then one caller tries; the others still skip Redis.
_PAUSE = 1.0
# In seconds. A refusal is logged again if there was none like it for this long.
_QUIET = 60.0
# Enough to keep one Redis busy. If all are in use, a call waits for one; that does not count as a failure.
_CONNECTIONS = 16
_MOST_REFUSALS = 100

T = TypeVar("T")
Value = str | bytes


class Away(enum.Enum):
    """The result of a call that Redis did not answer."""

    AWAY = "away"


AWAY: Final = Away.AWAY


class Cache:
    """Redis at ``url`` (redis://, rediss:// or unix://); raises ValueError for any other URL.

    Keys are those of `app.cache.keys`, without the prefix. It connects at the first call. The owner calls `close`.
    """

    def __init__(self, url: str) -> None:
        pool = ConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            protocol=2,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis.from_pool(pool)
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._scripts: dict[str, Callable[..., Awaitable[Any]]] = {}
        self._failing = False
        self._skip_until = 0.0
        self._refusals: TTLCache[str, bool] = TTLCache(_MOST_REFUSALS, _QUIET)

    async def get(self, key: str) -> bytes | None:
        """Return a value; None if there is none, or Redis is down."""
        value = await self._call("get", lambda: self._redis.get(_full(key)))
        return value if isinstance(value, bytes) else None

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return several values in one round trip, in the order of ``keys``; None for each that is missing."""
        if not keys:
            return []
        values = await self._call("mget", lambda: self._redis.mget([_full(key) for key in keys]))
        if isinstance(values, Away):
            return [None] * len(keys)
        return [value if isinstance(value, bytes) else None for value in values]

    async def set(self, key: str, value: Value, ttl: float) -> bool:
        """Keep a value for ``ttl`` seconds; return False if it was not kept."""
        kept = await self._call("set", lambda: self._redis.set(_full(key), value, px=max(1, int(ttl * 1000))))
        return kept is not AWAY

    async def delete(self, *keys: str) -> bool:
        """Remove keys; return False if they may still be there."""
        return await self._call("delete", lambda: self._redis.delete(*(_full(key) for key in keys))) is not AWAY

    async def count(self, key: str) -> int | None:
        """Return the sum that `increment` counted: 0 if there is none, None if Redis is down."""
        value = await self._call("count", lambda: self._redis.get(_full(key)))
        return None if isinstance(value, Away) else int(value or 0)

    async def distinct(self, key: str) -> int | None:
        """Return the count of a HyperLogLog: 0 if there is none, None if Redis is down."""
        value = await self._call("distinct", lambda: self._redis.pfcount(_full(key)))
        return None if isinstance(value, Away) else int(value)

    async def increment(self, key: str, ttl: int) -> int | None:
        """Add one and return the sum, None if Redis is down. The key expires ``ttl`` seconds after the first count."""
        total = await self.script(_INCREMENT, [key], lambda: [ttl])
        return None if total is AWAY else int(total)

    async def script(self, text: str, keys: Sequence[str], arguments: Callable[[], Sequence[Value | int]]) -> Any:
        """Run a Lua script, which is atomic, and return its answer as bytes, integers and lists, or `AWAY`.

        ``arguments`` is called when the script is sent, which may be after other calls. After AWAY the script may have
        run, or may still run: a frozen Redis later carries out the commands it was sent.
        """
        run = self._scripts.get(text)
        if run is None:
            run = self._scripts[text] = self._redis.register_script(text)
        return await self._call("script", lambda: run(keys=[_full(key) for key in keys], args=arguments()))

    @property
    def away(self) -> bool:
        """Return whether the next call will be skipped because one has just failed."""
        return time.monotonic() < self._skip_until

    async def check(self) -> None:
        """Raise Unavailable, with the reason, unless Redis answers now."""
        try:
            async with self._turns, asyncio.timeout(PATIENCE):
                await self._redis.ping()
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable(
                "Redis does not answer (%(reason)s)", reason=_reason(error), headers={"Retry-After": "5"}
            ) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose(close_connection_pool=True)

    async def _call(self, name: str, command: Callable[[], Awaitable[T]]) -> T | Away:
        async with self._turns:
            return await self._call_now(name, command)

    async def _call_now(self, name: str, command: Callable[[], Awaitable[T]]) -> T | Away:
        if self.away:
            FAILURES.labels(name).inc()
            return AWAY
        if self._failing:
            self._skip_until = time.monotonic() + _PAUSE
        task = asyncio.current_task()
        cancelling = task.cancelling() if task else 0
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await command()
        except (RedisConnectionError, OSError, TimeoutError) as error:
            FAILURES.labels(name).inc()
            self._failed(error)
            return AWAY
        except RedisError as error:
            # Redis answers but refuses this call (out of memory, read-only). Others may succeed, so none is skipped.
            FAILURES.labels(name).inc()
            self._refused(error)
            return AWAY
        if self._failing:
            self._failing, self._skip_until = False, 0.0
            log.info("Redis answers again")
        # redis-py uses `asyncio.wait_for`. Before Python 3.12 that may return a result although the task was cancelled.
        if task is not None and task.cancelling() > cancelling:
            raise asyncio.CancelledError
        return answer

    def _refused(self, error: RedisError) -> None:
        # The first word says what it is: OOM, READONLY, NOPERM. It is kept for as long as it goes on.
        kind = str(error).partition(" ")[0]
        if kind not in self._refusals:
            log.warning("Redis refuses calls: %s", error)
        self._refusals[kind] = True

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            log.warning("Redis does not answer (%s); requests continue without it", _reason(error))
        self._failing = True
        self._skip_until = time.monotonic() + _PAUSE


_INCREMENT = """
local sum = redis.call('INCR', KEYS[1])
if sum == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return sum
"""


def _full(key: str) -> str:
    return layout.PREFIX + key


def _reason(error: Exception) -> str:
    return f"no answer within {PATIENCE} s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
