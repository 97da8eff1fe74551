"""People's access keys: what a command line logs in with, under the person's own user name.

A key does part of what its person may do, and no more than that at any moment: rights that the person loses are lost
to the key, and a person who is disabled has none. It outlives the browser's session and ends on its own day.
"""

from __future__ import annotations

from app.config import Access
from app.database import Database, Transaction, access_keys
from app.database.access_keys import AccessKey
from app.kit.ids import is_id
from app.oci.errors import Term

from .errors import Conflict, Invalid, Missing
from .grants import Permissions, checked_permissions, expiry
from .roles import GRANTABLE_RIGHTS
from .secrets import Secrets
from .typed import checked_text

_MOST_NAME = 64
# A list without pages: as many as a person has machines, and some.
_MOST_KEYS = 100


class AccessKeys:
    """Makes and removes the keys of one person at a time."""

    def __init__(self, database: Database, secrets: Secrets, access: Access) -> None:
        self._database = database
        self._secrets = secrets
        self._access = access

    async def create(self, account_id: int, *, name: str, permissions: Permissions, days: int) -> tuple[AccessKey, str]:
        """Make a key and give it with its secret, which is not to be had again.

        ``permissions``: rights by project id or "*"; what the person lacks, the key lacks too. Raises Invalid, Conflict
        where the person has a key of that name or very many, Unavailable.
        """
        name = checked_text(name.strip(), Term("name"), _MOST_NAME)
        if not name or not name.isprintable():
            raise Invalid("give the key a name that says where it is used, such as laptop")
        kept = checked_permissions(permissions, GRANTABLE_RIGHTS)
        until = expiry(days, self._access.most_key_days)
        secret = self._secrets.new()

        async def create(transaction: Transaction) -> AccessKey:
            if await access_keys.count(transaction, account_id) >= _MOST_KEYS:
                raise Conflict("you have %(most)s access keys; remove one that is not used any more", most=_MOST_KEYS)
            made = await access_keys.create(
                transaction,
                account_id=account_id,
                name=name,
                secret_hash=self._secrets.hash(secret),
                permissions=kept,
                expires_at=until,
            )
            if made is None:
                raise Conflict(
                    "you have an access key %(name)r already; choose another name or remove that one", name=name
                )
            return made

        return await self._database.transact(create), secret

    async def remove(self, account_id: int, key_id: int) -> AccessKey:
        """Remove a person's key and tell which it was; raises Missing, for another person's as well."""
        removed = None
        if is_id(key_id):
            async with self._database.transaction() as transaction:
                removed = await access_keys.remove(transaction, account_id, key_id)
        if removed is None:
            raise Missing("there is no such access key of yours")
        return removed
