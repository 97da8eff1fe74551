"""Log-ins with secrets that came from a Harbor: of robot accounts, and of people's command lines.

Such a secret may have been chosen by a person. So after many failures not even the right one is accepted, as with
passwords. At its first use a robot account's hash is replaced by ours.
"""

from __future__ import annotations

from contextlib import suppress

from app.database import Database, Transaction, credentials
from app.database.credentials import Secret
from app.kit.threads import in_thread
from app.oci.errors import TooManyRequests, Unavailable

from . import harbor_secrets
from .line import Line, LineFull
from .principal import address_block
from .secrets import Secrets
from .throttle import Throttle

_HASHES_AT_ONCE = 2


class MovedSecrets:
    """Finds the robot account or the access key of a secret that was not generated here."""

    def __init__(self, database: Database, secrets: Secrets, throttle: Throttle) -> None:
        self._database = database
        self._secrets = secrets
        self._throttle = throttle
        self._line = Line(_HASHES_AT_ONCE)

    async def find(self, username: str, secret: str, address: str) -> Secret | None:
        """Return whose secret it is; None if it is wrong or the name is no robot's and no moved key's.

        The caller counts the failure. Raises Unavailable, and TooManyRequests after many failures.
        """
        stored = await credentials.moved_hash(self._database, username)
        if stored is None:
            return None
        async with self._throttle.paced(username, address):
            await self._throttle.check(username, address)
            found = await self._compare(username, secret, stored, address_block(address))
        if found is not None:
            await self._throttle.succeeded(username, address)
        return found

    async def _compare(self, username: str, secret: str, stored: str, block: str) -> Secret | None:
        ours = self._secrets.hash(secret)
        if stored == credentials.OF_KEY:
            return await credentials.find_by_login_name(self._database, username, ours)
        if stored == ours:
            return await credentials.find(self._database, username, ours)
        robot = harbor_secrets.parse(stored)
        if robot is None:
            return None
        try:
            async with self._line.place(block):
                if not await in_thread(None, harbor_secrets.matches, robot, secret):
                    return None
        except LineFull:
            raise TooManyRequests(
                "too many log-ins from your address at once; try again in a moment", headers={"Retry-After": "5"}
            ) from None
        found = await credentials.find(self._database, username, stored)
        if found is not None:
            # While SQL cannot be written, the robot account still logs in by the hash that it has.
            with suppress(Unavailable):
                await self._renew(found.id, stored, ours)
        return found

    async def _renew(self, robot_id: int, before: str, ours: str) -> None:
        async def renew(transaction: Transaction) -> None:
            await credentials.renew_robot(transaction, robot_id, before, ours)

        await self._database.transact(renew)
