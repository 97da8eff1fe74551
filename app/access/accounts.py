"""Accounts with a local password, which is kept as an argon2id hash.

An unknown user name gets the same answer as a wrong password, after the same work.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cachetools import TTLCache

from app.database import Database, Transaction, accounts
from app.database.accounts import AccountSource, Person
from app.database.text import encodable, folded
from app.kit.ids import is_id
from app.kit.threads import in_thread
from app.oci.errors import Term, TooManyRequests, Unauthorized, Unavailable

from . import harbor_secrets
from .errors import Conflict, Invalid, Missing, PreconditionFailed
from .line import Line, LineFull
from .principal import Principal, PrincipalKind, address_block
from .throttle import Throttle
from .typed import checked_text

# OWASP's "Password Storage" minimum for argon2id: 19 MiB, two passes. Two hashes at a time take 38 MiB of a worker.
_MEMORY_KIB = 19456
_PASSES = 2
_HASHES_AT_ONCE = 2
_REMEMBERED_FOR = 60
_MAX_REMEMBERED = 1024
# For `Accounts.patience`, in seconds: a hash before the first one was measured, and the questions to SQL and Redis
# around a hash. The measured maximum fades by this factor with each shorter hash.
_UNMEASURED, _AROUND, _FADING = 0.1, 0.05, 0.9
# Passwords that are set stand in line under this name; no address has it.
_OWN = ""
_MAX_USERNAME = 255
_MAX_PASSWORD = 1024
_MIN_PASSWORD = 8
_MAX_TEXT = 255
REFUSED = "wrong user name or password; check both and log in again"


class Accounts:
    """Checks passwords off the event loop, a few at a time."""

    def __init__(
        self,
        database: Database,
        throttle: Throttle,
        clock: Callable[[], float] = time.monotonic,
        *,
        enabled: bool = True,
    ) -> None:
        """Accept no password at all unless ``enabled``."""
        self._database = database
        self._enabled = enabled
        self._throttle = throttle
        self._hasher = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1)
        self._line = Line(_HASHES_AT_ONCE)
        self._longest = _UNMEASURED
        self._secret = secrets.token_bytes(32)
        self._remembered: TTLCache[bytes, bool] = TTLCache(_MAX_REMEMBERED, _REMEMBERED_FOR, timer=clock)

    async def patience(self, address: str) -> float:
        """Return the seconds in which a check of a password ends that begins now, with those before it in line."""
        pause = await self._throttle.pause(address)
        return pause + _AROUND + self._longest * self._line.turns(address_block(address))

    async def authenticate(self, username: str, password: str, address: str) -> Principal:
        """Check a password and return its account's principal.

        Clients send their password for every token, so a right one is accepted for a minute without hashing it again.
        Raises Unauthorized, Unavailable, and TooManyRequests with ``Retry-After`` after many failures.
        """
        if not acceptable(username, password):
            raise Unauthorized(REFUSED)
        if not self._enabled:
            raise Unauthorized("passwords are not accepted here; log in with a robot account or an access key of yours")
        account = await self._find(username)
        known = None if account is None or account.disabled else account.password_hash
        # The hash is part of the proof. So a proof of the former password is useless after a change.
        proof = hmac.digest(self._secret, f"{username}\0{password}\0{known}".encode(), "sha256")
        if account is not None and proof in self._remembered:
            await self._throttle.succeeded(username, address)
            return person(account)
        async with self._throttle.paced(username, address), self._turn(address_block(address)):
            # The proof is looked up again, because another log-in may have left it while this one waited. So a class
            # that logs in at once with one account costs one hash. The count of failures is checked in here as well:
            # of many guesses at once, only as many get past it as are hashed at a time.
            if account is not None and proof in self._remembered:
                return person(account)
            await self._throttle.check(username, address)
            matches = await self._verify(known or _decoy_hash(), password)
            if account is None or not matches:
                await self._throttle.failed(username, address)
                raise Unauthorized(REFUSED)
            self._remembered[proof] = True
            await self._throttle.succeeded(username, address)
            if known is not None and harbor_secrets.parse(known) is not None:
                await self._renew(account.id, known, password)
            return person(account)

    async def ensure_admin(self, username: str, password: str | None) -> str | None:
        """Make the admin's account if it is missing. Return a generated password to show once, or None.

        A password is generated if none is configured; of workers that start together, exactly one gets it. A configured
        password replaces the account's. Raises Unavailable, and ValueError if nobody could log in with the two.
        """
        if not acceptable(username, "generated" if password is None else password):
            raise ValueError(
                f"the admin needs a printable user name and a password of 1 to {_MAX_PASSWORD} characters; "
                "leave the password out to have one generated"
            )
        account = await self._find(username)
        if account is not None:
            unchanged = password is None or await self._verify(account.password_hash or "", password)
            if not (unchanged or await self.set_password(username, password or "")):
                raise ValueError(f"admin.username: {username!r} is a university account; choose another user name")
            return None
        chosen = password if password is not None else secrets.token_urlsafe(18)
        hashed = await self._hash(chosen)
        async with self._database.transaction() as transaction:
            made = await accounts.create(transaction, folded(username), hashed, is_admin=True)
        return chosen if made and password is None else None

    async def create(self, username: str, password: str, *, full_name: str, email: str) -> Person:
        """Make an account with a local password.

        The name loses its capitals. Raises Invalid for a name that nobody can log in with and for a short password,
        Conflict if the name is taken, and Unavailable.
        """
        if not acceptable(username, password) or ":" in username or username != username.strip():
            raise Invalid(
                "a user name needs 1 to %(most_name)s printable characters, without a colon and without blanks "
                "around it; a password needs 1 to %(most_password)s characters",
                most_name=_MAX_USERNAME,
                most_password=_MAX_PASSWORD,
            )
        if len(password) < _MIN_PASSWORD:
            raise Invalid("a password needs at least %(least)s characters", least=_MIN_PASSWORD)
        about = {
            "full_name": checked_text(full_name.strip(), Term("name"), _MAX_TEXT),
            "email": checked_text(email.strip(), Term("address"), _MAX_TEXT),
        }
        username, hashed = folded(username), await self._hash(password)

        async def create(transaction: Transaction) -> Person:
            made = await accounts.create(transaction, username, hashed, is_admin=False, **about)
            found = await accounts.person_by_name(transaction, username) if made else None
            if found is None:
                raise Conflict("the user name %(username)r is taken; choose another user name", username=username)
            return found

        return await self._database.transact(create)

    async def describe(self, account_id: int, *, full_name: str | None = None, email: str | None = None) -> Person:
        """Change what is known about a person with a local password; None changes nothing.

        Raises Missing, Invalid, PreconditionFailed for the university's accounts, and Unavailable.
        """
        about = {
            "full_name": None if full_name is None else checked_text(full_name.strip(), Term("name"), _MAX_TEXT),
            "email": None if email is None else checked_text(email.strip(), Term("address"), _MAX_TEXT),
        }

        async def describe(transaction: Transaction) -> Person:
            found = await accounts.person(transaction, account_id) if is_id(account_id) else None
            if found is None:
                raise Missing("there is no user with the id %(number)s", number=account_id)
            if found.source != AccountSource.LOCAL:
                raise PreconditionFailed(
                    "the university says who %(username)s is, with each log-in; change it there",
                    username=found.username,
                )
            values = {name: value for name, value in about.items() if value is not None}
            if values:
                await accounts.change(transaction, account_id, **values)
            return found

        return await self._database.transact(describe)

    async def set_password(self, username: str, password: str) -> bool:
        """Change a password and end the account's sessions. Return whether the account exists; raises Unavailable."""
        hashed = await self._hash(password)
        async with self._database.transaction() as transaction:
            return await accounts.set_password(transaction, username, hashed)

    async def _find(self, username: str) -> accounts.Account | None:
        return await accounts.for_login(self._database, username)

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        try:
            async with self._line.place(name):
                yield
        except LineFull:
            raise TooManyRequests(
                "too many log-ins from your address at once; try again in a moment", headers={"Retry-After": "5"}
            ) from None

    async def _hash(self, password: str) -> str:
        async with self._turn(_OWN):
            return await in_thread(None, self._hasher.hash, password)

    async def _verify(self, password_hash: str, password: str) -> bool:
        began = time.monotonic()
        try:
            return await in_thread(None, self._matches, password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
        finally:
            self._longest = max(time.monotonic() - began, self._longest * _FADING)

    def _matches(self, password_hash: str, password: str) -> bool:
        harbors = harbor_secrets.parse(password_hash)
        if harbors is not None:
            password_hash, password = harbors.kept, harbors.of(password)
        return self._hasher.verify(password_hash, password)

    async def _renew(self, account_id: int, before: str, password: str) -> None:
        """Replace the hash of a password from a Harbor by our own; while SQL cannot be written, it stays."""
        hashed = await in_thread(None, self._hasher.hash, password)

        async def renew(transaction: Transaction) -> None:
            await accounts.renew_password(transaction, account_id, before, hashed)

        with suppress(Unavailable):
            await self._database.transact(renew)


def hash_from_harbor(version: str, salt: str, hashed: str) -> str:
    """Return a password's hash from a Harbor as it is kept here, hashed once more; this takes some milliseconds."""
    hasher = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1)
    return harbor_secrets.of_person(version, salt, hashed, hasher.hash(hashed.lower()))


def person(account: accounts.Account) -> Principal:
    """Return the principal of an account that was just read from the database."""
    groups = frozenset(account.groups or ())
    return Principal(
        PrincipalKind.PERSON, account.username, account.is_admin, account.id, groups, generation=account.generation
    )


def acceptable(username: str, password: str) -> bool:
    """Return whether an account can have these; a database or an encoder would fail on some others."""
    return (
        0 < len(username) <= _MAX_USERNAME
        and username.isprintable()
        and 0 < len(password) <= _MAX_PASSWORD
        and encodable(password)
    )


def _decoy_hash() -> str:
    """Make a hash that costs as much to check as any other, and that no password matches."""
    salt, digest = (base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p=1${salt}${digest}"
