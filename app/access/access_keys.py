"""People's access keys: secrets that log a person in on the command line, under their own user name.

A key has part of its person's rights, and never more than the person has at that moment. The keys of a disabled
person are refused. A key outlives browser sessions and expires on its own day.
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
# The list of keys has no pages. A person has fewer machines than this.
_MOST_KEYS = 100


class AccessKeys:
    """Makes and removes the access keys of one person at a time."""

    def __init__(self, database: Database, secrets: Secrets, access: Access) -> None:
        self._database = database
        self._secrets = secrets
        self._access = access

    async def create(self, account_id: int, *, name: str, permissions: Permissions, days: int) -> tuple[AccessKey, str]:
        """Make a key and return it with its secret, which is never shown again.

        ``permissions`` are rights by project id or "*"; a right that the person lacks has no effect. The key expires
        after ``days``. Raises Invalid, Unavailable, and Conflict if the person has a key of that name or too many keys.
        """
        name = checked_text(name.strip(), Term("name"), _MOST_NAME)
        if not name or not name.isprintable():
            raise Invalid("give the key a name that says where it is used, such as laptop")
        kept = checked_permissions(permissions, GRANTABLE_RIGHTS)
        until = expiry(days, self._access.most_key_days)
        secret = self._secrets.new()

        async def create(transaction: Transaction) -> AccessKey:
            if await access_keys.count(transaction, account_id) >= _MOST_KEYS:
                raise Conflict(
                    "you already have %(most)s access keys; remove one that you no longer use", most=_MOST_KEYS
                )
            made = await access_keys.create(
                transaction,
                account_id=account_id,
                name=name,
                secret_hash=self._secrets.hash(secret),
                permissions=kept,
                expires_at=until,
            )
            if made is None:
                raise Conflict("you already have an access key %(name)r; choose another name or remove it", name=name)
            return made

        return await self._database.transact(create), secret

    async def remove(self, account_id: int, key_id: int) -> AccessKey:
        """Remove a person's key and return it; raises Missing, also for the key of another person, and Unavailable."""
        removed = None
        if is_id(key_id):
            async with self._database.transaction() as transaction:
                removed = await access_keys.remove(transaction, account_id, key_id)
        if removed is None:
            raise Missing("you have no such access key")
        return removed
