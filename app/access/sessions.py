"""Browser sessions, which are kept in Redis only.

    r:session:ID                 a hash, gone after the idle time; ID is the SHA-256 of the cookie's secret, in hex
    r:sessions:ACCOUNT           the ids of an account's sessions, scored by the time when each ends at the latest
    r:saml-sessions:HASH         the same of a SAML NameID (its SHA-256), for logouts that the university begins

Neither Redis nor a page that lists sessions has a secret that would log a browser in. If Redis is flushed, everybody
is logged out. If an index is evicted, its sessions enter themselves again when they are used.

A session carries the generation of its account, and counts only while SQL has the same one (`app.access.people`). An
action that ends all of a person's sessions raises the generation in SQL, so that Redis need not be told.

A session also carries the run id of the server that began it, and counts in no other one. A Redis that loads an older
copy of its data, or takes over from another, may know sessions that were ended since then.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.cache import AWAY, Cache
from app.oci.errors import Term, Unavailable

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_SECRET_BYTES = 32
# Seconds between two notes that a session is in use.
_SEEN_EVERY = 30.0
_LONGEST_AGENT = 200

# Names the process of the server. After a restart or a failover it is another one.
_SERVER = "local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')"

# KEYS: the session, the account's index, the NameID's index. ARGV: id, now, idle seconds, end, life in whole seconds,
# fields and values. If there is no NameID, the last key is the session's own, and no index is written for it.
_BEGIN = f"""
{_SERVER}
redis.call('HSET', KEYS[1], 'server', server, unpack(ARGV, 6))
redis.call('PEXPIRE', KEYS[1], math.ceil(math.min(ARGV[3], ARGV[4] - ARGV[2]) * 1000))
for i = 2, 3 do
  if KEYS[i] ~= KEYS[1] then
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', ARGV[2])
    redis.call('ZADD', KEYS[i], ARGV[4], ARGV[1])
    redis.call('EXPIRE', KEYS[i], ARGV[5])
  end
end
return 1
"""

# KEYS: the session, and both indexes' keys without the account and the NameID's hash. ARGV: id, now, idle seconds,
# life, seconds between two notes of its use. A session that has just been ended is never made again.
_FIND = f"""
{_SERVER}
local fields = redis.call('HMGET', KEYS[1], 'seen_at', 'ends_at', 'account_id', 'name_id', 'server')
if not fields[1] then return {{}} end
local now = tonumber(ARGV[2])
local over = now - fields[1] >= tonumber(ARGV[3]) or now >= tonumber(fields[2])
if over or (fields[5] and fields[5] ~= server) then
  redis.call('DEL', KEYS[1])
  return {{}}
end
if now - fields[1] >= tonumber(ARGV[5]) then
  redis.call('HSET', KEYS[1], 'seen_at', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], math.ceil(math.min(ARGV[3], fields[2] - now) * 1000))
  for i = 2, 3 do
    local of = fields[i + 1]
    if of and of ~= '' then
      redis.call('ZADD', KEYS[i] .. of, fields[2], ARGV[1])
      redis.call('EXPIRE', KEYS[i] .. of, ARGV[4])
    end
  end
end
return redis.call('HGETALL', KEYS[1])
"""

# KEYS: an index, and the sessions' keys without the id.
_LIST = f"""
{_SERVER}
local found = {{}}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local fields = redis.call('HGETALL', KEYS[2] .. id)
  local of = redis.call('HGET', KEYS[2] .. id, 'server')
  if #fields == 0 then redis.call('ZREM', KEYS[1], id)
  elseif not of or of == server then found[#found + 1] = {{id, fields}} end
end
return found
"""

# KEYS: the session. ARGV: the account it must belong to, or "" for any.
_END = """
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'account_id') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

# KEYS: an index, and the sessions' keys without the id. ARGV: SessionIndexes, none for all. Returns their accounts.
_END_ALL = """
local whose = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local wanted = #ARGV == 0
  local fields = redis.call('HMGET', KEYS[2] .. id, 'session_index', 'account_id')
  for _, one in ipairs(ARGV) do wanted = wanted or one == fields[1] end
  if wanted then
    if redis.call('DEL', KEYS[2] .. id) == 1 then whose[#whose + 1] = fields[2] end
    redis.call('ZREM', KEYS[1], id)
  end
end
return whose
"""


@dataclass(frozen=True, slots=True)
class SamlSession:
    """The identity provider's names for a log-in. A logout sends them, whether ours or the identity provider's."""

    name_id: str
    name_id_format: str = ""
    name_qualifier: str = ""
    sp_name_qualifier: str = ""
    session_index: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is logged in. ``id`` may be shown, because it logs nobody in. Times are in Unix seconds.

    ``generation`` is the account's at the log-in.
    """

    id: str
    account_id: int
    generation: int
    created_at: float
    seen_at: float
    address: str
    agent: str
    saml: SamlSession | None


class Sessions:
    """Begins, finds and ends sessions; ``idle`` and ``life`` are in seconds."""

    def __init__(self, cache: Cache, idle: float, life: float, clock: Callable[[], float] = time.time) -> None:
        self._cache = cache
        self._idle = idle
        self._life = life
        self._clock = clock

    async def begin(
        self,
        account_id: int,
        generation: int,
        address: str,
        agent: str,
        saml: SamlSession | None = None,
        not_after: float | None = None,
    ) -> str:
        """Make a session and return the new secret for the browser's cookie.

        ``generation`` is the account's, read together with the proof of the log-in, so that any later one ends the
        session. If ``not_after`` (Unix seconds) is given, the session ends then at the latest. Raises Unavailable if
        the session cannot be kept.
        """
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        now = self._clock()
        ends_at = min(now + self._life, not_after or now + self._life)
        session_id = _hash(secret)
        fields = {
            "account_id": account_id,
            "generation": generation,
            "created_at": now,
            "seen_at": now,
            "ends_at": ends_at,
            "address": address,
            "agent": "".join(filter(str.isprintable, agent))[:_LONGEST_AGENT],
            "saml": json.dumps(asdict(saml)) if saml else "",
            "session_index": saml.session_index if saml else "",
            "name_id": _hash(saml.name_id) if saml else "",
        }
        flat = [text for name, value in fields.items() for text in (name, str(value))]
        own = f"session:{session_id}"
        kept = await self._cache.script(
            _BEGIN,
            [own, f"sessions:{account_id}", _of_name_id(saml.name_id) if saml else own],
            lambda: [session_id, str(now), str(self._idle), str(ends_at), int(self._life) + 1, *flat],
        )
        if kept is AWAY:
            raise _redis_down(Term("nobody can log in right now"))
        return secret

    async def find(self, secret: str) -> Session | None:
        """Return a session that has not ended, and extend its idle time; None as well if Redis is down."""
        if not _SECRET.match(secret):
            return None
        session_id = _hash(secret)
        now, seen_every = self._clock(), min(_SEEN_EVERY, self._idle / 10)
        fields = await self._cache.script(
            _FIND,
            [f"session:{session_id}", "sessions:", "saml-sessions:"],
            lambda: [session_id, str(now), str(self._idle), int(self._life) + 1, str(seen_every)],
        )
        return None if fields is AWAY or not fields else _session(session_id, fields)

    async def end(self, secret: str) -> None:
        """End the session of this secret; raises Unavailable if it may not have ended."""
        await self._end(_hash(secret), "")

    async def list_of(self, account_id: int, generation: int) -> list[Session]:
        """List an account's sessions of this generation, the last used first; raises Unavailable."""
        found = await self._cache.script(_LIST, [f"sessions:{account_id}", "session:"], list)
        if found is AWAY:
            raise _redis_down(Term("sessions cannot be listed right now"))
        sessions = [_session(session_id.decode(), fields) for session_id, fields in found]
        current = [session for session in sessions if session.generation == generation]
        return sorted(current, key=lambda session: (-session.seen_at, session.id))

    async def revoke(self, account_id: int, session_id: str) -> bool:
        """End one of an account's sessions; return whether there was one. Raises Unavailable if it may go on."""
        return await self._end(session_id, str(account_id))

    async def forget(self, account_id: int) -> None:
        """Remove all of an account's sessions, which its new generation has ended already.

        That frees memory, and workers of a release that knows no generations refuse them too. If Redis is down, they
        stay until they are idle.
        """
        await self._end_listed(f"sessions:{account_id}", ())

    async def end_saml(self, name_id: str, indexes: Collection[str]) -> list[int]:
        """End the sessions of a NameID that the identity provider has ended: all of them if it names no index.

        Return the account of each session. Raises Unavailable if they may not have ended.
        """
        whose = await self._end_listed(_of_name_id(name_id), indexes)
        if whose is AWAY:
            raise _redis_down(Term("sessions cannot be ended right now"))
        return [int(account_id) for account_id in whose]

    async def _end(self, session_id: str, account_id: str) -> bool:
        ended = await self._cache.script(_END, [f"session:{session_id}"], lambda: [account_id])
        if ended is AWAY:
            raise _redis_down(Term("sessions cannot be ended right now"))
        return bool(ended)

    async def _end_listed(self, index: str, session_indexes: Collection[str]) -> Any:
        return await self._cache.script(_END_ALL, [index, "session:"], lambda: list(session_indexes))


def _session(session_id: str, flat: Sequence[bytes]) -> Session:
    texts = [text.decode() for text in flat]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    return Session(
        session_id,
        int(fields["account_id"]),
        # A release that knows no generations began it. Every account had its first one then.
        int(fields.get("generation", 0)),
        float(fields["created_at"]),
        float(fields["seen_at"]),
        fields["address"],
        fields["agent"],
        SamlSession(**json.loads(fields["saml"])) if fields["saml"] else None,
    )


def _of_name_id(name_id: str) -> str:
    return f"saml-sessions:{_hash(name_id)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _redis_down(what: Term) -> Unavailable:
    return Unavailable(
        "%(what)s: Redis, which keeps sessions, is down; try again in a moment",
        what=what,
        headers={"Retry-After": "5"},
    )
