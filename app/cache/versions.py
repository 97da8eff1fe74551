"""The versions of scopes, and the copies that they date, on one connection to Redis.

A scope is a part of SQL that changes together, such as a repository. Its version is a random text that lives under the
run id of the server. A server that has restarted, or that took over from another one, has another run id. So no version
that an earlier server knew counts, whatever was loaded from its disk. A writer removes the version; the next reader
makes another one.

One round trip is under way at a time. Everything that is asked meanwhile shares the next one, so the price of a
question falls as load grows (docs/decisions/0030). An answer is never older than its question.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from . import keys as layout
from .client import FAILURES, PATIENCE

log = logging.getLogger(__name__)

# After a failure nothing is asked for this long, in seconds.
_PAUSE = 1.0
# In seconds. A copy in Redis is used for this long; `app.database.copies` spells what this is a part of.
COPY_SECONDS = 240
# Longer than any copy of its scope is used.
_VERSION_SECONDS = 3600

T = TypeVar("T")
_Command = tuple[str | bytes | int, ...]


@dataclass(slots=True)
class _Batch:
    """The questions and commands that share a round trip, and the futures of those who wait."""

    versions: dict[str, list[asyncio.Future[bytes | None]]] = field(default_factory=dict)
    forgotten: list[tuple[tuple[str, ...], asyncio.Future[bool]]] = field(default_factory=list)
    recalled: list[tuple[str, asyncio.Future[bytes | None]]] = field(default_factory=list)
    kept: list[_Command] = field(default_factory=list)


class Versions:
    """Versions and copies at ``url``, as `Cache` takes it. The owner calls `close`. It connects at the first call.

    Nothing here raises because Redis is stopped, slow, frozen or full: then there is no version and no copy.
    """

    def __init__(self, url: str) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            protocol=2,
            # The whole round trip has a deadline, so its reads need none of their own.
            socket_timeout=None,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
        )
        self._connection: AbstractConnection | None = None
        self._run = ""
        self._next = _Batch()
        self._task: asyncio.Task[None] | None = None
        self._skip_until = 0.0
        self._failing = False

    @property
    def run(self) -> str:
        """The run id of the server that answers; "" while there is none."""
        return self._run if self._connection is not None else ""

    async def present(self, scope: str) -> bytes | None:
        """Return the version that a scope has now, None if Redis cannot say."""
        if self._skips():
            return None
        self._begin()
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._next.versions.setdefault(scope, []).append(future)
        return await future

    async def forget(self, scopes: Iterable[str]) -> bool:
        """Give the scopes new versions; return False if Redis could not be told."""
        if self._skips():
            return False
        self._begin()
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._next.forgotten.append((tuple(scopes), future))
        return await future

    async def recall(self, copy: str) -> bytes | None:
        """Return a copy; None if Redis has none, or is down."""
        if self._skips():
            return None
        self._begin()
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._next.recalled.append((copy, future))
        return await future

    def keep(self, copy: str, value: bytes, scope: str) -> None:
        """Send a copy along with the next round trip, without waiting, and keep the version of its scope alive."""
        self.note(copy, value, COPY_SECONDS)
        if not self._skips():
            self._next.kept.append(("EXPIRE", self._key(scope), _VERSION_SECONDS))

    def note(self, key: str, value: bytes, seconds: int) -> None:
        """Send a value that `recall` finds for so long, along with the next round trip, without waiting."""
        if not self._skips():
            self._begin()
            self._next.kept.append(("SET", layout.PREFIX + key, value, "EX", seconds))

    async def close(self) -> None:
        """Close the connection; everything that waits gets no answer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        _give_up(self._next)
        await self._disconnect()

    def _skips(self) -> bool:
        if time.monotonic() >= self._skip_until:
            return False
        FAILURES.labels("version").inc()
        return True

    def _begin(self) -> None:
        """Start the rounds if none is under way. The first one begins after this turn of the event loop."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run_rounds(), name="versions")

    async def _run_rounds(self) -> None:
        while self._next.versions or self._next.forgotten or self._next.recalled or self._next.kept:
            batch, self._next = self._next, _Batch()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._round(batch)
            except (RedisError, OSError, TimeoutError) as error:
                await self._failed(error)
            except BaseException:
                # The answers that were not read would be taken for those of the next round.
                await self._disconnect()
                raise
            else:
                if self._failing:
                    self._failing = False
                    log.info("Redis tells versions again")
            finally:
                _give_up(batch)

    async def _round(self, batch: _Batch) -> None:
        connection = self._connection or await self._connect()
        forgotten = [(tuple(map(self._key, scopes)), future) for scopes, future in batch.forgotten]
        asked = list(batch.versions)
        commands: list[_Command] = [("DEL", *keys) for keys, _ in forgotten]
        if asked:
            commands.append(("MGET", *map(self._key, asked)))
        commands += [("GET", layout.PREFIX + copy) for copy, _ in batch.recalled]
        commands += batch.kept
        answers = iter(await _exchange(connection, commands))
        for _, told in forgotten:
            _set(told, not isinstance(next(answers), ResponseError))
        if asked:
            await self._give_versions(connection, asked, batch, next(answers))
        for _, future in batch.recalled:
            value = next(answers)
            _set(future, value if isinstance(value, bytes) else None)

    async def _give_versions(
        self, connection: AbstractConnection, asked: Sequence[str], batch: _Batch, answer: Any
    ) -> None:
        """Answer questions for versions; make those that are missing."""
        values = dict(zip(asked, answer, strict=True)) if isinstance(answer, list) else {}
        missing = [scope for scope, value in values.items() if value is None]
        if missing:
            # If two workers make a version at once, the first one counts.
            made: list[_Command] = [
                ("SET", self._key(scope), secrets.token_bytes(12), "NX", "EX", _VERSION_SECONDS) for scope in missing
            ]
            *_, there = await _exchange(connection, [*made, ("MGET", *map(self._key, missing))])
            # A Redis that is full refuses the new ones.
            values.update(zip(missing, there, strict=True) if isinstance(there, list) else ())
        for scope, futures in batch.versions.items():
            for future in futures:
                _set(future, values.get(scope))

    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            (answer,) = await _exchange(connection, [("INFO", "server")])
            self._run = _run_id(answer)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._connection = connection
        return connection

    async def _failed(self, error: Exception) -> None:
        FAILURES.labels("version").inc()
        self._skip_until = time.monotonic() + _PAUSE
        if not self._failing:
            self._failing = True
            log.warning("Redis tells no versions (%s); SQL is asked", str(error) or type(error).__name__)
        await self._disconnect()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    def _key(self, scope: str) -> str:
        return layout.PREFIX + layout.version(self._run, scope)


def _run_id(info: Any) -> str:
    for line in info.decode().splitlines() if isinstance(info, bytes) else ():
        if line.startswith("run_id:"):
            return str(line.partition(":")[2])
    raise RedisError("INFO does not tell the server's run_id")


async def _exchange(connection: AbstractConnection, commands: Sequence[_Command]) -> list[Any]:
    """Send commands in one piece and return their answers; a refusal is an answer, too."""
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as refusal:
            answers.append(refusal)
    return answers


def _give_up(batch: _Batch) -> None:
    """Answer those who still wait that Redis did not."""
    for futures in batch.versions.values():
        for future in futures:
            _set(future, None)
    for _, told in batch.forgotten:
        _set(told, False)
    for _, copy in batch.recalled:
        _set(copy, None)


def _set(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
