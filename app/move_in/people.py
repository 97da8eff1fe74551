"""Move people: accounts with a password, the university's, and the secrets of their command lines."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from app.access import harbor_secrets
from app.access.accounts import hash_from_harbor
from app.access.roles import PULL, PUSH
from app.access.secrets import Secrets
from app.config import Config
from app.database import Database, Transaction, accounts, moved
from app.database.accounts import AccountSource
from app.database.harbor import HarborDatabase, Person
from app.database.text import folded, storable_part
from app.kit.threads import in_thread

from .naming import Names, is_local
from .report import CannotMoveError, Report
from .steps import Change, Known, Step

_KEY_NAME = "Harbor CLI secret"
_ENCRYPTED = "<enc-v1>"
_IV_BYTES = 16
_DAY = 86400
_MOST_TEXT = 255
_SHARED = "somebody else of Harbor has the same user name here"
_RIGHTS = {"*": [PULL, PUSH]}


@dataclass(frozen=True, slots=True)
class _Plan:
    """A person as they will be: ``joined`` is the id of an account that was here before, which stays as it is."""

    username: str
    local: bool
    joined: int | None
    password_hash: str | None
    cli_secret: str | None


class People(Step[Person]):
    """Users of Harbor."""

    kind = "people"
    left_out = "another account has the user name"

    def __init__(
        self, harbor: HarborDatabase, database: Database, config: Config, secrets: Secrets, names: Names, known: Known,
        *, properties: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._harbor = harbor
        self._database = database
        self._config = config
        self._secrets = secrets
        self._names = names
        self._known = known
        self._auth_mode = properties.get("auth_mode", "db_auth")
        self._prefixes = (config.access.robot_prefix, robot_prefix(properties))
        self._taken: dict[str, int] = {}

    async def read(self, after: int, limit: int) -> Sequence[Person]:
        """See `Step.read`."""
        return await self._harbor.people(after, limit)

    def name(self, row: Person) -> str:
        """See `Step.name`."""
        return row.username

    async def check(self, change: Change[Person], report: Report) -> Change[Person] | None:
        """See `Step.check`."""
        if change.was is None and change.row.deleted:
            return None
        return replace(change, plan=await self._plan(change, report))

    async def _plan(self, change: Change[Person], report: Report) -> _Plan:
        row, local = change.row, is_local(change.row, self._auth_mode)
        if row.deleted:
            return _Plan("", local, None, None, None)
        username = self._names.of_person(row, local=local, robot_prefixes=self._prefixes)
        if self._taken.setdefault(username, row.id) != row.id:
            raise CannotMoveError(_SHARED)
        joined = None
        if change.was is not None:
            if await self._database.read(moved.is_joined, self.kind, row.id):
                joined = change.was.target
        else:
            here = await self._database.read(accounts.person_by_name, username)
            source = AccountSource.LOCAL if local else AccountSource.SAML
            if here is not None and await self._database.read(moved.is_target, self.kind, here.id):
                raise CannotMoveError(_SHARED)
            if here is not None and here.source != source:
                raise CannotMoveError(f"there is an account of that name here, and its source is {here.source}")
            if here is not None:
                joined = here.id
                report.remark("people whose account here stays as it is, with its own password and rights", username)
        password_hash = None
        if local and joined is None and change.before.get("mark") != row.mark():
            if harbor_secrets.is_known(row.version, row.salt, row.password):
                password_hash = await in_thread(None, hash_from_harbor, row.version, row.salt, row.password)
            else:
                report.remark("people without a password that can be compared; set one for them", row.username)
        return _Plan(username, local, joined, password_hash, self._cli_secret(row, report))

    def _cli_secret(self, row: Person, report: Report) -> str | None:
        if not row.secret:
            return None
        secret = decrypted(row.secret, self._config.harbor.secret_key)
        if secret is None:
            report.remark("people whose CLI secret needs the right harbor.secret_key", row.username)
        return secret

    async def put(self, transaction: Transaction, change: Change[Person]) -> int | None:
        """See `Step.put`."""
        row, plan, target = change.row, change.plan, change.was.target if change.was is not None else None
        if row.deleted:
            await accounts.set_disabled(transaction, target or 0, disabled=True)
            return target
        if plan.joined is not None:
            target = plan.joined
            await moved.join(transaction, self.kind, row.id)
        elif target is None:
            target = await self._make(transaction, row, plan)
        else:
            await self._change(transaction, target, change)
        if target is not None and plan.cli_secret is not None:
            days = self._config.access.most_key_days
            await moved.add_key(
                transaction,
                target,
                name=_KEY_NAME,
                login_name=folded(row.username),
                secret_hash=self._secrets.hash(plan.cli_secret),
                permissions=_RIGHTS,
                expires_at=time.time() + days * _DAY,
            )
        return target

    async def _make(self, transaction: Transaction, row: Person, plan: _Plan) -> int | None:
        about = _about(row)
        if plan.local:
            made = await accounts.create(
                transaction, plan.username, plan.password_hash or "", is_admin=row.is_admin, **about
            )
        else:
            made = await accounts.make(transaction, plan.username, **about, groups=(), is_admin=row.is_admin)
        found = await accounts.find(transaction, plan.username) if made else None
        if found is None:
            return None
        await accounts.change(transaction, found.id, created_at=row.created_at)
        return found.id

    async def _change(self, transaction: Transaction, account_id: int, change: Change[Person]) -> None:
        """Change what Harbor has changed, because the university or an operator may have changed the rest here."""
        row, values = change.row, dict[str, object]()
        if change.before["is_admin"] != row.is_admin:
            values["is_admin"] = row.is_admin
        if (change.before["full_name"], change.before["email"]) != (row.full_name, row.email):
            values |= _about(row)
        if change.before["deleted"]:
            values["disabled"] = False
        if change.plan.password_hash is not None:
            values["password_hash"] = change.plan.password_hash
        if values:
            await accounts.change(transaction, account_id, **values)

    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """See `Step.remove`: nobody loses an account, but nobody logs in to it."""
        await accounts.set_disabled(transaction, target, disabled=True)

    def settled(self, row: Person, target: int) -> None:
        """See `Step.settled`."""
        if not row.deleted:
            self._known.people[row.id] = target
            self._known.usernames[row.id] = row.username


def robot_prefix(properties: Mapping[str, str]) -> str:
    """Return the prefix of robot accounts that a Harbor is configured with."""
    return properties.get("robot_name_prefix") or "robot$"


def decrypted(text: str, key: str | None) -> str | None:
    """Return what Harbor has encrypted with its core's key, or has only encoded; None if that is not possible."""
    try:
        if not text.startswith(_ENCRYPTED):
            return base64.b64decode(text, validate=True).decode()
        if key is None:
            return None
        data = base64.b64decode(text.removeprefix(_ENCRYPTED), validate=True)
        cipher = Cipher(AES(key.encode()), CFB(data[:_IV_BYTES]))
        reader = cipher.decryptor()
        return (reader.update(data[_IV_BYTES:]) + reader.finalize()).decode()
    except ValueError:
        return None


def _about(row: Person) -> dict[str, str]:
    return {"full_name": storable_part(row.full_name, _MOST_TEXT), "email": storable_part(row.email, _MOST_TEXT)}
