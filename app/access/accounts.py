"""People whose passwords are kept here, as argon2id hashes.

Nothing that is answered, and no work that is done, tells an unknown user name from a wrong password.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
import time
from collections.abc import Callable

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cachetools import TTLCache

from app.database import Database, Transaction, accounts
from app.database.accounts import Person
from app.database.text import encodable
from app.kit.threads import in_thread
from app.oci.errors import Term, Unauthorized

from .errors import Conflict, Invalid
from .principal import Principal, PrincipalKind
from .throttle import Throttle
from .typed import checked_text

# OWASP's "Password Storage" minimum for argon2id: 19 MiB, two passes. Two at a time take 38 MiB of a worker.
_MEMORY_KIB, _PASSES = 19456, 2
_HASHES_AT_ONCE = 2
_REMEMBERED_FOR = 60
_MAX_REMEMBERED = 1024
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
        """``enabled``: whether any password is accepted at all."""
        self._database = database
        self._enabled = enabled
        self._throttle = throttle
        self._hasher = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1)
        self._hashing = asyncio.Semaphore(_HASHES_AT_ONCE)
        self._secret = secrets.token_bytes(32)
        self._remembered: TTLCache[bytes, bool] = TTLCache(_MAX_REMEMBERED, _REMEMBERED_FOR, timer=clock)

    async def authenticate(self, username: str, password: str, address: str) -> Principal:
        """Check a password; raises Unauthorized, or TooManyRequests with ``Retry-After`` after many failures.

        Clients send their password for every token: what was right stays right for a minute without hashing again.
        """
        if not acceptable(username, password):
            raise Unauthorized(REFUSED)
        if not self._enabled:
            raise Unauthorized("passwords are not accepted here; log in with a robot account or an access key of yours")
        account = await self._find(username)
        known = None if account is None or account.disabled else account.password_hash
        # With the hash in it: what was right for the password before is forgotten by itself.
        proof = hmac.digest(self._secret, f"{username}\0{password}\0{known}".encode(), "sha256")
        if account is not None and proof in self._remembered:
            return person(account)
        async with self._hashing:
            # Looked at in here: of a class that logs in at once with one account, one is hashed and the rest find it;
            # of many guesses at once, as many as are hashed at a time get past the count.
            if account is not None and proof in self._remembered:
                return person(account)
            await self._throttle.check(username, address)
            matches = await self._verify(known or _hash_of_nothing(), password)
            if account is None or not matches:
                await self._throttle.failed(username, address)
                raise Unauthorized(REFUSED)
            self._remembered[proof] = True
            return person(account)

    async def ensure_admin(self, username: str, password: str | None) -> str | None:
        """Make the admin if missing; answers a made-up password, to be shown once, where none is configured.

        Of workers that start together exactly one gets it. A configured password becomes the password. Raises
        ValueError where nobody could log in with it.
        """
        if not acceptable(username, "made up" if password is None else password):
            raise ValueError(
                f"the admin needs a printable user name and a password of 1 to {_MAX_PASSWORD} characters; "
                "leave the password out to have one made up"
            )
        account = await self._find(username)
        if account is not None:
            unchanged = password is None or await self._verify(account.password_hash or "", password)
            if not (unchanged or await self.set_password(username, password or "")):
                raise ValueError(f"admin.username: {username!r} is somebody's university account; choose another")
            return None
        chosen = password if password is not None else secrets.token_urlsafe(18)
        hashed = await self._hash(chosen)
        async with self._database.transaction() as transaction:
            made = await accounts.create(transaction, username, hashed, is_admin=True)
        return chosen if made and password is None else None

    async def create(self, username: str, password: str, *, full_name: str, email: str) -> Person:
        """Make the account of somebody whose password is kept here.

        Raises Invalid for a name that nobody can log in with and for a short password, Conflict where the name is
        taken, Unavailable.
        """
        if not acceptable(username, password) or ":" in username or username != username.strip():
            raise Invalid(
                "a user name has 1 to %(most_name)s printable characters without a colon and blanks "
                "around it, a password %(most_password)s at most",
                most_name=_MAX_USERNAME,
                most_password=_MAX_PASSWORD,
            )
        if len(password) < _MIN_PASSWORD:
            raise Invalid("a password has %(least)s characters at least", least=_MIN_PASSWORD)
        about = {
            "full_name": checked_text(full_name.strip(), Term("name"), _MAX_TEXT),
            "email": checked_text(email.strip(), Term("address"), _MAX_TEXT),
        }
        hashed = await self._hash(password)

        async def create(transaction: Transaction) -> Person:
            made = await accounts.create(transaction, username, hashed, is_admin=False, **about)
            found = await accounts.person_by_name(transaction, username) if made else None
            if found is None:
                raise Conflict("there is an account %(username)r already; choose another user name", username=username)
            return found

        return await self._database.transact(create)

    async def set_password(self, username: str, password: str) -> bool:
        """Change a password, which ends the account's sessions; answers whether the account is there."""
        hashed = await self._hash(password)
        async with self._database.transaction() as transaction:
            return await accounts.set_password(transaction, username, hashed)

    async def _find(self, username: str) -> accounts.Account | None:
        return await self._database.read(accounts.find, username)

    async def _hash(self, password: str) -> str:
        async with self._hashing:
            return await in_thread(None, self._hasher.hash, password)

    async def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return await in_thread(None, self._hasher.verify, password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def person(account: accounts.Account) -> Principal:
    """Make the principal of somebody whose account was just read."""
    groups = frozenset(account.groups or ())
    return Principal(
        PrincipalKind.PERSON, account.username, account.is_admin, account.id, groups, generation=account.generation
    )


def acceptable(username: str, password: str) -> bool:
    """Refuse what no account can have and a database or an encoder would choke on."""
    return (
        0 < len(username) <= _MAX_USERNAME
        and username.isprintable()
        and 0 < len(password) <= _MAX_PASSWORD
        and encodable(password)
    )


def _hash_of_nothing() -> str:
    """Make a hash that costs as much as any other to check, and that no password has."""
    salt, digest = (base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p=1${salt}${digest}"
