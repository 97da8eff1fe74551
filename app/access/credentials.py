"""The one place that turns a user name and a secret into a principal.

    user name           secret
    a robot's           one generated here        found by its keyed hash
    a person's          one generated here        an access key's, found by its keyed hash
    a robot's, or any   one from a Harbor         `moved_secrets`
    any                 anything else             a password (`accounts`)

A generated secret cannot be guessed, so a right one is accepted however many log-ins failed from the same address.
Workers keep copies of what they have found (docs/decisions/0030). A robot account or a key that was disabled or removed
is refused as soon as that was answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from app.database import Database, credentials
from app.database.credentials import Secret
from app.oci.errors import Unauthorized, Unavailable

from .absence import HANDING_OVER_SECONDS, Absence
from .accounts import REFUSED, Accounts, acceptable
from .last_used import LastUsed
from .moved_secrets import MovedSecrets
from .principal import ANONYMOUS, Principal, PrincipalKind
from .refusals import FAILED, Refusals
from .roles import rights_named
from .secrets import Secrets
from .throttle import Throttle


class Credentials:
    """Checks the credentials of clients of ``/service/token``, of ``/v2/`` and of the API."""

    def __init__(
        self,
        database: Database,
        secrets: Secrets,
        accounts: Accounts,
        throttle: Throttle,
        used: LastUsed,
        refusals: Refusals,
        absence: Absence,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._accounts = accounts
        self._throttle = throttle
        self._moved = MovedSecrets(database, secrets, throttle)
        self._used = used
        self._refusals = refusals
        self._absence = absence
        self._clock = clock

    async def authenticate(self, username: str, password: str, address: str) -> Principal:
        """Return the principal; raises Unauthorized, TooManyRequests after many failures, or Unavailable.

        Only a client with the right secret is told that it has expired or was disabled.
        """
        try:
            return await self._check(username, password, address)
        except FAILED:
            await self._refusals.add(username, address)
            raise

    async def authenticate_or_anonymous(self, username: str, password: str, address: str) -> Principal:
        """Return the principal, or the anonymous one if the credentials are not right here; for public content only.

        Engines send the login of another registry to its mirror. So a name that is nobody's here is not counted, noted
        or hashed. A wrong secret for a known name counts, and after many failures no password is checked. All these
        answers come after the same time, so that nobody learns from it which names exist (docs/decisions/0025).
        """
        loop = asyncio.get_running_loop()
        answer_at = loop.time() + await self._accounts.patience(address)
        try:
            if await self._is_known(username):
                return await self.authenticate(username, password, address)
        except (*FAILED, Unavailable):
            pass
        await asyncio.sleep(answer_at - loop.time())
        return ANONYMOUS

    async def _is_known(self, username: str) -> bool:
        return acceptable(username, "-") and await credentials.is_name(self._database, username)

    async def _check(self, username: str, password: str, address: str) -> Principal:
        if not acceptable(username, password):
            raise Unauthorized(REFUSED)
        if not self._secrets.is_generated(password):
            try:
                moved = await self._moved.find(username, password, address)
            except Unavailable:
                # While SQL is down, people log in by a copy of their account. There may be none that tells of robots.
                moved = None
            if moved is not None:
                return self._principal(moved, address)
            return await self._accounts.authenticate(username, password, address)
        secret = await credentials.find(self._database, username, self._secrets.hash(password))
        if secret is None:
            await self._throttle.check(username, address)
            await self._throttle.failed(username, address)
            raise Unauthorized(REFUSED)
        return self._principal(secret, address)

    def _principal(self, secret: Secret, address: str) -> Principal:
        return self._robot(secret, address) if secret.account_id is None else self._person(secret, address)

    def _robot(self, robot: Secret, address: str) -> Principal:
        if robot.disabled:
            raise Unauthorized(
                "%(name)s is disabled; ask a manager of this robot account to enable it", name=robot.name
            )
        expired = Unauthorized(
            "%(name)s has expired; ask a manager of this robot account to extend it", name=robot.name
        )
        self._require_time(robot.expires_at, expired)
        alone = Unauthorized(
            "%(name)s has stopped, because nobody manages its project any more; it works again once a project admin "
            "has logged in with a browser",
            name=robot.name,
        )
        self._require_time(None if robot.since is None else robot.since + HANDING_OVER_SECONDS, alone)
        self._used.robot(robot.id, address)
        return Principal(PrincipalKind.ROBOT, robot.name, id=robot.id, limits=_limits(robot.permissions))

    def _person(self, key: Secret, address: str) -> Principal:
        if key.disabled:
            raise Unauthorized("the account %(name)s is disabled; ask the registry's operators", name=key.username)
        expired = Unauthorized("the access key %(name)r has expired; make another one in the browser", name=key.name)
        self._require_time(key.expires_at, expired)
        if self._absence.is_absent(key.since):
            raise Unauthorized(
                "your access keys have stopped, because you have not logged in for %(days)s days; log in with a "
                "browser once, and they work again",
                days=self._absence.days,
            )
        self._used.access_key(key.id, address)
        return Principal(
            PrincipalKind.PERSON, key.username, key.is_admin, key.account_id, key.groups, _limits(key.permissions)
        )

    def _require_time(self, expires_at: float | None, expired: Unauthorized) -> None:
        if expires_at is not None and expires_at <= self._clock():
            raise expired


def _limits(permissions: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    return {project: rights_named(names) for project, names in permissions.items()}
