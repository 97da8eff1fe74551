"""The keys that tokens are signed with: Ed25519, kept in the database, the same for every worker.

    made ──10 s──► signs ──30 days──► a newer key is made ──10 s──► only verifies ──► 15 min after the newer: nothing

A private key is stored encrypted (`Secrets.encrypt`), so a copy of the database cannot sign tokens.

A copy of the keys is in Redis, encrypted in the same way, for workers that start while the database is down.

A new key signs nothing while other workers may have read the keys just before it was made. So a worker that meets an
unknown key id reads the keys once more, and one try a second is enough.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.cache import Cache
from app.cache import keys as cache_keys
from app.database import Database, accounts, audit
from app.database.accounts import SigningKey
from app.kit.single_flight import SingleFlight
from app.oci.errors import Unavailable

from .principal import SERVICE, Principal
from .secrets import Secrets

_ROTATE_AFTER = 30 * 86400
_SETTLES_AFTER = 10
# More than `_READ_EVERY` and a token's life together. A worker that does not know the new key yet signs with the old
# one, and its last token lives for five minutes.
_VERIFIES_FOR = 900
_READ_EVERY = 60
_READ_FOR_UNKNOWN_EVERY = 1
# Longer than copies of rows count while the database is down.
_SHARED_SECONDS = 600
# A key of a release that did not encrypt keys starts so. It is read until a new key replaces it.
_PLAIN = "-----BEGIN "

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A key in use; after ``not_after`` it verifies nothing. Times are in Unix seconds."""

    id: str
    private: Ed25519PrivateKey
    public: Ed25519PublicKey
    created_at: float
    not_after: float


class SigningKeys:
    """The signing and verification keys of one worker, read from the database when they are first needed."""

    def __init__(self, database: Database, secrets: Secrets, shared: Cache | None = None) -> None:
        """``shared`` keeps a copy for workers that start while the database is down; None keeps none."""
        self._database = database
        self._secrets = secrets
        self._shared = shared
        self._keys: dict[str, LoadedKey] = {}  # the newest first
        self._read_at = -math.inf
        self._reading: SingleFlight[None] = SingleFlight()

    async def signing(self) -> LoadedKey:
        """Return the key to sign with; raises Unavailable if none has ever been read, and Redis has no copy."""
        await self._stay_current()
        settled = time.time() - _SETTLES_AFTER
        keys = list(self._keys.values())
        # At the very first start no key has settled. Most workers have read the oldest one.
        return next((key for key in keys if key.created_at <= settled), keys[-1])

    async def verifying(self, key_id: str) -> LoadedKey | None:
        """Return the key of that id, or None if it is unknown or retired; raises as `signing` does."""
        await self._stay_current()
        if key_id not in self._keys:
            await self._read(_READ_FOR_UNKNOWN_EVERY)
        key = self._keys.get(key_id)
        return key if key is not None and time.time() <= key.not_after else None

    async def rotate(self, by: Principal, address: str) -> None:
        """Make a new key. Every worker signs with it within about a minute, and no client notices; raises Unavailable.

        ``by`` and ``address`` are for the audit log.
        """
        rows = await self._database.read(accounts.signing_keys)
        await self._replace(rows[0].id if rows else None, by, address)
        self._read_at = -math.inf

    async def _stay_current(self) -> None:
        if not self._keys or time.monotonic() - self._read_at >= _READ_EVERY:
            await self._read(_READ_EVERY)

    async def _read(self, at_most_every: float) -> None:
        if self._keys and time.monotonic() - self._read_at < at_most_every:
            return
        # Set before reading, so that other calls use the known keys instead of waiting here.
        self._read_at = time.monotonic()
        await self._reading.join(None, self._read_now)

    async def _read_now(self) -> None:
        try:
            rows = await self._rows()
        except Unavailable:
            if not self._keys:
                self._keys = _in_use(await self._copied())
            if not self._keys:
                raise
            return
        self._keys = _in_use(rows)
        await self._copy(rows)

    async def _copy(self, rows: Sequence[SigningKey]) -> None:
        if self._shared is not None:
            encrypted = [(row.id, self._secrets.encrypt(row.private_key), row.created_at) for row in rows]
            await self._shared.set(cache_keys.signing_keys(), json.dumps(encrypted), _SHARED_SECONDS)

    async def _copied(self) -> list[SigningKey]:
        value = await self._shared.get(cache_keys.signing_keys()) if self._shared is not None else None
        return self._readable([SigningKey(*row) for row in json.loads(value or b"[]")])

    async def _rows(self) -> list[SigningKey]:
        rows = await self._database.read(accounts.signing_keys)
        readable = self._readable(rows)
        if readable and readable[0].created_at > time.time() - _ROTATE_AFTER:
            return readable
        await self._replace(rows[0].id if rows else None)
        async with self._database.reading() as transaction:
            return self._readable(await accounts.signing_keys(transaction))

    def _readable(self, rows: Sequence[SigningKey]) -> list[SigningKey]:
        """Decrypt keys. A key under a lost secret key is left out, and its tokens end with it."""
        readable = []
        for row in rows:
            try:
                plain = row.private_key.startswith(_PLAIN)
                private_key = row.private_key if plain else self._secrets.decrypt(row.private_key)
            except ValueError:
                log.warning("the signing key %s was encrypted with another access.secret_key; it is not used", row.id)
            else:
                readable.append(replace(row, private_key=private_key))
        return readable

    async def _replace(self, newest: str | None, by: Principal = SERVICE, address: str = "") -> None:
        """Make a key unless ``newest`` is no longer the newest.

        Two workers on PostgreSQL may make one each at the same moment. Both keys are good, and the newer one stays.
        """
        now = time.time()
        async with self._database.transaction() as transaction:
            rows = await accounts.signing_keys(transaction)
            if (rows[0].id if rows else None) != newest:
                return
            key = SigningKey(secrets.token_hex(8), self._secrets.encrypt(_new_private_key()), now)
            await accounts.add_signing_key(transaction, key)
            note = audit.Note(now, by.subject, address, "create", "signing key", key.id)
            await audit.add(transaction, [note])
            superseded = [row.created_at for row in rows if row.created_at < now - _VERIFIES_FOR]
            if superseded:
                await accounts.remove_signing_keys(transaction, superseded[0])


def _in_use(rows: Sequence[SigningKey]) -> dict[str, LoadedKey]:
    keys: dict[str, LoadedKey] = {}
    not_after = math.inf
    for row in sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True):
        private = serialization.load_pem_private_key(row.private_key.encode(), password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise TypeError(f"signing key {row.id} is not an Ed25519 key")
        keys[row.id] = LoadedKey(row.id, private, private.public_key(), row.created_at, not_after)
        not_after = row.created_at + _VERIFIES_FOR
    return keys


def _new_private_key() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )
