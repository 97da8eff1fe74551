"""The one connection to Redis, which may fail at any moment without a request failing for it.

Invariant: no method but `Cache.check` raises for a Redis that is stopped, slow, full or replaced by something else.
A read is then a miss, a write says False, a script says `AWAY`; each is counted and, at the first one, logged.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

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
    "registry_redis_failures_total", "Calls to Redis that failed or were not made while it was away.", ["call"]
)

# A Redis that needs longer than this is slower than doing without it.
PATIENCE = 0.5
# After a failure nobody asks for this long; then one caller tries, and the others go on without Redis meanwhile.
_PAUSE = 1.0
# Enough to keep one Redis busy. A call that finds all in use waits its turn, which is no fault of Redis.
_CONNECTIONS = 16

T = TypeVar("T")
Value = str | bytes


class Away(enum.Enum):
    """The answer of a Redis that gave none."""

    AWAY = "away"


AWAY: Final = Away.AWAY


class Cache:
    """Redis at ``url`` (redis://, rediss:// or unix://); raises ValueError for a URL that is none of these.

    Keys are those of `app.cache.keys`, without the prefix. Connects at the first call; closed by `close`.
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

    async def get(self, key: str) -> bytes | None:
        """Read a value; None where there is none."""
        value = await self._call("get", lambda: self._redis.get(_full(key)))
        return value if isinstance(value, bytes) else None

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read several values in one round trip, in the order of ``keys``."""
        if not keys:
            return []
        values = await self._call("mget", lambda: self._redis.mget([_full(key) for key in keys]))
        if isinstance(values, Away):
            return [None] * len(keys)
        return [value if isinstance(value, bytes) else None for value in values]

    async def set(self, key: str, value: Value, ttl: float) -> bool:
        """Keep a value for ``ttl`` seconds; False where it was not kept."""
        kept = await self._call("set", lambda: self._redis.set(_full(key), value, px=max(1, int(ttl * 1000))))
        return kept is not AWAY

    async def delete(self, *keys: str) -> bool:
        """Remove keys; False where they may still be there."""
        return await self._call("delete", lambda: self._redis.delete(*(_full(key) for key in keys))) is not AWAY

    async def count(self, key: str) -> int | None:
        """Read what `increment` counted: 0 where nothing was, None where Redis is away."""
        value = await self._call("count", lambda: self._redis.get(_full(key)))
        return None if isinstance(value, Away) else int(value or 0)

    async def increment(self, key: str, ttl: int) -> int | None:
        """Add one and answer the sum; the key goes away ``ttl`` seconds after it was first counted."""
        total = await self.script(_INCREMENT, [key], lambda: [ttl])
        return None if total is AWAY else int(total)

    async def script(self, text: str, keys: Sequence[str], arguments: Callable[[], Sequence[Value | int]]) -> Any:
        """Run a Lua script, which is atomic, and give its answer as bytes, integers and lists, or `AWAY`.

        ``arguments`` are asked for when the call is made, which may be after others. After AWAY it may have run, or
        may yet run: a Redis that was frozen goes on with what it was sent.
        """
        run = self._scripts.get(text)
        if run is None:
            run = self._scripts[text] = self._redis.register_script(text)
        return await self._call("script", lambda: run(keys=[_full(key) for key in keys], args=arguments()))

    @property
    def away(self) -> bool:
        """Whether the next call will not be made, because one has just failed."""
        return time.monotonic() < self._skip_until

    async def check(self) -> None:
        """Raise Unavailable, with the reason in words, unless Redis answers now."""
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
            # Redis answers, and refuses this one call (out of memory, read-only): no reason to spare it the others.
            FAILURES.labels(name).inc()
            log.warning("Redis refused a call: %s", error)
            return AWAY
        if self._failing:
            self._failing, self._skip_until = False, 0.0
            log.info("Redis answers again")
        # redis-py waits by `asyncio.wait_for`, which before Python 3.12 may answer a task that was cancelled meanwhile.
        if task is not None and task.cancelling() > cancelling:
            raise asyncio.CancelledError
        return answer

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            log.warning("Redis does not answer (%s); going on without it", _reason(error))
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
