"""Copies of PostgreSQL's rows, in the memory of each worker and in Redis (docs/decisions/0030).

A copy is dated by the version of its scope (`changes`) and by the epoch. Both are read before SQL is asked. A writer
changes the version after its commit and before its answer. So a copy that was read before the commit never counts after
the answer, even if it was stored later. A copy counts if

- its version is the present one in Redis. If the question is leased, the version may have been read `_LEASE` seconds
  ago; whoever changes such a row waits that long before the answer.
- its epoch is the present one, read from SQL at most `_EPOCH_SECONDS` ago. A writer that cannot tell Redis changes the
  epoch, and waits until every worker has read it or does not trust the one it knows.
- the epoch names the server that this worker reaches as Redis, and has for `_EPOCH_SECONDS`. By then every worker knows
  that this is the one to tell. After a restart or a failover, the first worker that notices names the new server.

If SQL is down, an older epoch counts as well (`_BRIDGE_SECONDS`). That shows nothing older than the last answer:

- A writer that told Redis has changed the version, so the copy does not count.
- A writer that could not has changed the epoch, waited, and seen SQL answer before its own answer.
- While SQL answers, this worker reads the epoch, and no copy of the epoch before counts.

It does not hold if one host reaches Redis and not SQL, while another one reaches SQL and not Redis.

All workers write their epoch to Redis every second, where it stays for `_BEQUEST_SECONDS`. A worker that starts while
SQL is down takes it from there. It may be too old in one case: no worker has reached Redis for that long, and every
worker that knew a newer epoch has ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

from cachetools import LRUCache
from sqlalchemy import bindparam, func, select

from app.kit.jobs import repeat
from app.oci.errors import Unavailable

from . import settings
from .changes import EPOCH, Changes, new_epoch, raise_epoch
from .copies import Ask, Row, memory
from .engine import Database, PointQuery
from .tables import setting

log = logging.getLogger(__name__)

# In seconds: how long a worker uses copies of leased questions without asking for their version. A busy worker asks ten
# times a second then, which costs nothing. A longer lease would only make those wait longer who delete.
_LEASE = 0.1
# In seconds: how long the epoch counts after it was read, and how often it is read.
_EPOCH_SECONDS = 3.0
_EPOCH_PAUSE = 1.0
# In seconds: if another Redis is named sooner than this, somebody should know.
_OFTEN_SECONDS = 10.0
# Nobody uses a copy any more that was changed so long ago, in seconds, even if Redis was not told.
LONGEST_SECONDS = _EPOCH_SECONDS + _LEASE
# In seconds: how long the last epoch counts while SQL is down.
_BRIDGE_SECONDS = 240.0
# In seconds: how long the epoch that a worker knows stays in Redis. A worker starts within this time.
_BEQUEST_SECONDS = 30
_BEQUEST = "copy:epoch"
# In seconds: when a row is read again although nobody changed it. A writer that is killed between its commit and its
# word to Redis has answered nobody; this bounds for how long others miss what it wrote. The copy may come from Redis,
# which keeps it as long (`app.cache.versions`), and the bridge comes after. An object that lost its last link lives
# longer than the three together (`blobs.OBJECT_GRACE_SECONDS`).
_AGE_SECONDS = 240.0

# In Redis: each question has one slot, so a flood of questions removes other copies and nothing else.
_SLOTS = 16 * 1024
_SLOT_BYTES = 2 * 1024

# With the time by the clock of SQL, which all workers share.
_epoch = PointQuery(
    select(setting.c.value, func.extract("epoch", func.clock_timestamp())).where(setting.c.name == bindparam("name"))
)


class Versions(Protocol):
    """The part in Redis (`app.cache.versions`). It never raises: if Redis is down, it knows nothing."""

    @property
    def run(self) -> str: ...

    async def present(self, scope: str) -> bytes | None: ...

    async def forget(self, scopes: Iterable[str]) -> bool: ...

    async def recall(self, copy: str) -> bytes | None: ...

    def keep(self, copy: str, value: bytes, scope: str) -> None: ...

    def note(self, key: str, value: bytes, seconds: int) -> None: ...


class _Scope:
    """The version of a scope, and when it was asked for (monotonic seconds)."""

    __slots__ = ("asked_at", "name", "version")

    def __init__(self, name: str) -> None:
        self.name = name
        self.version: bytes | None = None
        self.asked_at = 0.0


class _Copy:
    """A row with its dates; ``read_at`` in monotonic seconds."""

    __slots__ = ("epoch", "read_at", "row", "scope", "version")

    def __init__(self, row: Row, scope: _Scope, version: bytes, epoch: str, read_at: float) -> None:
        self.row = row
        self.scope = scope
        self.version = version
        self.epoch = epoch
        self.read_at = read_at


class SharedCopies:
    """Implements `Copies` for the workers of all hosts.

    `attach` comes first. `run` must run beside the requests; until then SQL is asked.
    """

    _sql: Database

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._rows: LRUCache[tuple[Any, ...], _Copy] = memory(lambda copy: copy.row)
        self._scopes: dict[str, _Scope] = {}
        self._epoch = ""
        self._epoch_at = float("-inf")
        self._inherits = True
        # The run id of the Redis that all workers know to be the one; "" if some may not yet.
        self._agreed = ""
        # Changes that Redis was not told of.
        self._owed: set[str] = set()
        # How many have wanted to raise the epoch so far, and how many of them it was raised for.
        self._to_raise = self._raised = 0
        self._raising = asyncio.Lock()

    def attach(self, database: Database) -> None:
        """Read the epoch in the database whose rows these are."""
        self._sql = database

    async def run(self) -> None:
        """Read the epoch every second until cancelled."""
        await repeat("copies of rows", self.look, _EPOCH_PAUSE, now=True)

    async def point(
        self, query: PointQuery, parameters: tuple[Any, ...], ask: Ask, *, renew: bool = False
    ) -> Row | None:
        now = time.monotonic()
        copy = self._rows.get((query, *parameters))
        if copy is not None and query.leased and not renew and _is_leased(copy, now) and self._is_current(copy, now):
            return copy.row
        if query.scope is None:
            return await ask(query, *parameters)
        scope, epoch = self._scope(query.scope(*parameters)), self._epoch
        version = await self._versions.present(scope.name)
        known = None
        if version is not None:
            scope.version, scope.asked_at = version, now
            known = copy if copy is not None and copy.version == version else None
            if known is None and query.shared:
                known = await self._recall(query, parameters, scope, version)
            if known is not None and not renew and self._is_current(known, time.monotonic()):
                return known.row
        try:
            row = await ask(query, *parameters)
        except Unavailable:
            if known is None or known.epoch != self._epoch or not self._agrees(_BRIDGE_SECONDS):
                raise
            return known.row
        if row is not None and query.keeps(row):
            self._keep(query, parameters, _Copy(row, scope, version or _own_version(scope, now), epoch, now))
        return row

    async def tell(self, changes: Changes, *, answers: bool) -> None:
        scopes = changes.scopes | self._owed
        told = await self._told(scopes)
        for name in scopes:
            if name in self._scopes:
                self._scopes[name].version = None
        if told:
            self._owed -= scopes
            if answers and changes.leased:
                await asyncio.sleep(_LEASE)
            return
        self._owed |= scopes
        if answers:
            await self._tell_by_epoch(scopes)

    async def look(self) -> None:
        """Read the epoch, tell what Redis was not told of before, and leave the epoch to workers that start."""
        owed = set(self._owed)
        try:
            if owed:
                if not await self._told(owed):
                    await self._raise_epoch()
                self._owed -= owed
            await self._refresh()
        except Unavailable:
            # Everybody who asks SQL learns that, and one of them says so.
            if self._epoch == "" and self._inherits:
                await self._inherit()
        if self._agrees(_BRIDGE_SECONDS):
            age = time.monotonic() - self._epoch_at
            self._versions.note(_BEQUEST, f"{age:.1f} {self._epoch}".encode(), _BEQUEST_SECONDS)

    def disinherit(self) -> None:
        """Use no copy until SQL has told the epoch: it answers others already, who may write.

        A worker calls this before it prepares the database. Until that is done, it asks SQL nothing.
        """
        self._inherits = False
        self._epoch, self._epoch_at = "", float("-inf")

    async def _inherit(self) -> None:
        """Take the epoch that another worker has read, if it wrote that lately."""
        value = await self._versions.recall(_BEQUEST)
        if value is None:
            return
        age, _, epoch = value.decode().partition(" ")
        # It may have been written as long ago as Redis keeps it.
        self._epoch, self._epoch_at = epoch, time.monotonic() - float(age) - _BEQUEST_SECONDS
        # Only a worker that agrees about this server writes there.
        self._agreed = epoch.partition(" ")[0]

    async def _refresh(self) -> None:
        """Read the epoch; raises Unavailable."""
        # Any question finds out which server answers.
        await self._versions.present(EPOCH)
        asked_at = time.monotonic()
        epoch, now = await self._read_epoch()
        await self._name_redis(epoch, now)
        redis, since, _ = epoch.split()
        self._agreed = redis if now - float(since) >= _EPOCH_SECONDS else ""
        self._epoch, self._epoch_at = epoch, asked_at

    async def _read_epoch(self) -> tuple[str, float]:
        """Return the epoch, and the Unix time by the clock of SQL."""
        row = await self._sql.point(_epoch, EPOCH)
        if row is None:
            async with self._sql.transaction() as transaction:
                # Nobody has used a copy so far, so this Redis counts at once.
                await settings.keep(transaction, EPOCH, new_epoch(self._versions.run or "-", "0"))
            row = await self._sql.point(_epoch, EPOCH)
        return (row[0], float(row[1])) if row is not None else ("- 0 -", 0.0)

    async def _name_redis(self, epoch: str, now: float) -> None:
        """Write which server answers here, if it is not the one that the epoch names."""
        redis, since, _ = epoch.split()
        if self._versions.run in ("", redis):
            return
        if now - float(since) < _OFTEN_SECONDS:
            log.warning("hosts reach different servers as Redis, or it restarts again and again; no copies are used")
        async with self._sql.transaction() as transaction:
            await settings.swap(transaction, EPOCH, epoch, new_epoch(self._versions.run, f"{now:.3f}"))

    async def _told(self, scopes: Iterable[str]) -> bool:
        """Tell Redis; return False if it does not answer, or if others may ask another server."""
        if not await self._versions.forget(scopes):
            return False
        if not self._agrees(_EPOCH_SECONDS):
            # After a time without SQL the epoch is too old to trust, but it is still the same. A new one would end all
            # copies of all workers, at a moment in which they may need them again.
            with suppress(Unavailable):
                await self._refresh()
        return self._agrees(_EPOCH_SECONDS)

    async def _tell_by_epoch(self, scopes: set[str]) -> None:
        await self._raise_epoch()
        self._owed -= scopes
        await asyncio.sleep(_EPOCH_SECONDS)
        # If SQL has gone meanwhile, some workers do not know the new epoch, and use what they have (see above).
        await self._sql.check()
        await asyncio.sleep(_LEASE)

    async def _raise_epoch(self) -> None:
        """Raise the epoch after the commits of all who ask; those who come while it is raised share the next time."""
        self._to_raise = mine = self._to_raise + 1
        async with self._raising:
            if self._raised < mine:
                all_so_far = self._to_raise
                async with self._sql.transaction() as transaction:
                    await raise_epoch(transaction)
                self._raised = all_so_far

    def _is_current(self, copy: _Copy, now: float) -> bool:
        if copy.epoch == self._epoch and now - copy.read_at < _AGE_SECONDS and self._agrees(_EPOCH_SECONDS, now):
            return True
        # A row that was read less than a lease ago, while Redis did not answer, needs neither Redis nor the epoch.
        return _is_own(copy.version)

    def _agrees(self, seconds: float, now: float | None = None) -> bool:
        """Return whether the epoch was read in the last ``seconds``, and all workers know the Redis that answers."""
        now = time.monotonic() if now is None else now
        return now - self._epoch_at < seconds and self._agreed == self._versions.run != ""

    def _scope(self, name: str) -> _Scope:
        scope = self._scopes.get(name)
        if scope is None:
            scope = self._scopes[name] = _Scope(name)
        return scope

    def _keep(self, query: PointQuery, parameters: tuple[Any, ...], copy: _Copy) -> None:
        self._rows[(query, *parameters)] = copy
        if query.shared and copy.version == copy.scope.version and not _is_own(copy.version):
            question, key = self._slot(query, parameters)
            value = json.dumps([question, copy.version.hex(), copy.epoch, list(copy.row)]).encode()
            if len(value) <= _SLOT_BYTES:
                self._versions.keep(key, value, copy.scope.name)

    async def _recall(
        self, query: PointQuery, parameters: tuple[Any, ...], scope: _Scope, version: bytes
    ) -> _Copy | None:
        """Return the copy of another worker, if it is of this version."""
        question, key = self._slot(query, parameters)
        now = time.monotonic()
        value = await self._versions.recall(key)
        try:
            asked, of, epoch, row = json.loads(value or b"")
        except ValueError:
            # There is none, or another release keeps something else.
            return None
        if asked != question or of != version.hex():
            return None
        copy = self._rows[(query, *parameters)] = _Copy(row, scope, version, epoch, now)
        return copy

    def _slot(self, query: PointQuery, parameters: tuple[Any, ...]) -> tuple[str, str]:
        """Return a question's hash and the key of its slot. The query's text is part of it, for other releases."""
        asked = json.dumps([query.standard_text, *parameters]).encode()
        question = hashlib.blake2b(asked, digest_size=16).hexdigest()
        return question, f"copy:{int(question[:8], 16) % _SLOTS}"


def _is_leased(copy: _Copy, now: float) -> bool:
    return copy.version == copy.scope.version and now - copy.scope.asked_at < _LEASE


def _own_version(scope: _Scope, now: float) -> bytes:
    """Date a copy while Redis does not answer: by a version of this worker's own, which lasts as long as a lease."""
    if scope.version is None or not _is_own(scope.version) or now - scope.asked_at >= _LEASE:
        scope.version, scope.asked_at = _OWN + secrets.token_bytes(12), now
    return scope.version


_OWN = b"own "


def _is_own(version: bytes) -> bool:
    return version.startswith(_OWN)
