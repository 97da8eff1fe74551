"""Queries on people's accounts, local and the university's, and on the keys that sign tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, String, Text, bindparam, cast, func, select, update

from . import changes, keyset
from .engine import Database, PointQuery, Transaction, insert
from .ids import retire
from .keyset import Count, Entries, Page, Walk
from .tables import account, member, project, signing_key
from .text import folded, has_any

# Seconds between two notes that somebody was seen. Each ends the copies of their keys.
_SEEN_EVERY = 86400.0
# Columns of which nobody keeps a copy.
_ABOUT = frozenset({"full_name", "email", "last_login_at"})


class AccountSource(StrEnum):
    """How a person's identity is proven: by a password stored here, or by the university."""

    LOCAL = "local"
    SAML = "saml"


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the log-in with a password reads it."""

    id: int
    username: str
    password_hash: str | None = field(repr=False)
    is_admin: bool
    disabled: bool
    groups: Sequence[str] | None
    generation: int


@dataclass(frozen=True, slots=True)
class Person:
    """An account as people see it; times in Unix seconds."""

    id: int
    username: str
    source: str
    is_admin: bool
    disabled: bool
    full_name: str
    email: str
    groups: tuple[str, ...]
    created_at: float
    last_login_at: float | None
    generation: int
    seen_at: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """The part of an account that every request of its person reads."""

    username: str
    is_admin: bool
    disabled: bool
    groups: tuple[str, ...]
    generation: int


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs tokens; ``private_key`` is in the form of `access.keys`, ``created_at`` in Unix seconds."""

    id: str
    private_key: str = field(repr=False)
    created_at: float


_person = (
    account.c.id,
    account.c.username,
    account.c.source,
    account.c.is_admin,
    account.c.disabled,
    account.c.full_name,
    account.c.email,
    account.c.groups,
    account.c.created_at,
    account.c.last_login_at,
    account.c.generation,
    account.c.seen_at,
)
_SORTS: keyset.Sorts = {
    "username": keyset.KEY,
    "user_id": account.c.id,
    "realname": account.c.full_name,
    "email": account.c.email,
    "sysadmin_flag": account.c.is_admin,
    "source": account.c.source,
    "disabled": account.c.disabled,
    "creation_time": account.c.created_at,
    "last_login_time": account.c.last_login_at,
}
_standing = PointQuery(
    select(
        account.c.username,
        account.c.is_admin,
        account.c.disabled,
        # As text: a point read returns the driver's own type, which differs between the two databases.
        cast(account.c.groups, Text),
        account.c.generation,
    ).where(account.c.id == bindparam("id"))
)


def has_name(typed: Any, folded_name: Any, again: Any) -> ColumnElement[bool]:
    """Return the condition that an account is the one that a typed name means; the last two are the name folded.

    That is the account of exactly that name, else the one of the folded name. Older releases kept names as they were
    typed, so the last choice is one that has the name with other capitals.
    """
    exact, plain, older = (account.alias(name) for name in ("exact", "plain", "older"))
    is_capital = (older.c.username != func.lower(older.c.username)) & (func.lower(older.c.username) == again)
    return account.c.username == func.coalesce(
        select(exact.c.username).where(exact.c.username == typed).scalar_subquery(),
        select(plain.c.username).where(plain.c.username == folded_name).scalar_subquery(),
        select(func.min(older.c.username)).where(is_capital).scalar_subquery(),
    )


def is_named(username: str) -> ColumnElement[bool]:
    """Return the condition that an account is the one that a typed name means."""
    return has_name(username, folded(username), folded(username))


# The hash of a password stays in the worker.
_login = PointQuery(
    select(
        account.c.id,
        account.c.username,
        account.c.password_hash,
        account.c.is_admin,
        account.c.disabled,
        cast(account.c.groups, Text),
        account.c.generation,
    ).where(has_name(*(bindparam(name, type_=String) for name in ("typed", "folded", "again")))),
    scope=lambda typed, *_: changes.account_named(typed),
    shared=False,
)


async def for_login(database: Database, username: str) -> Account | None:
    """Find an account by a typed name with one point read; raises Unavailable."""
    row = await database.point(_login, username, folded(username), folded(username))
    if row is None:
        return None
    account_id, name, password_hash, is_admin, disabled, groups, generation = row
    listed = tuple(json.loads(groups) or ()) if groups else ()
    return Account(account_id, name, password_hash, bool(is_admin), bool(disabled), listed, generation)


async def find(transaction: Transaction, username: str) -> Account | None:
    """Find an account by a typed name."""
    statement = select(
        account.c.id,
        account.c.username,
        account.c.password_hash,
        account.c.is_admin,
        account.c.disabled,
        account.c.groups,
        account.c.generation,
    ).where(is_named(username))
    row = (await transaction.execute(statement)).first()
    return Account(*row) if row else None


async def create(
    transaction: Transaction,
    username: str,
    password_hash: str,
    *,
    is_admin: bool,
    full_name: str = "",
    email: str = "",
) -> bool:
    """Make a local account unless the name is taken; return whether it was made."""
    if await _is_taken(transaction, username):
        return False
    now = time.time()
    statement = insert(transaction, account).values(
        username=username,
        password_hash=password_hash,
        full_name=full_name,
        email=email,
        is_admin=is_admin,
        disabled=False,
        created_at=now,
        seen_at=now,
    )
    return bool((await transaction.execute(statement.on_conflict_do_nothing())).rowcount)


async def set_password(transaction: Transaction, username: str, password_hash: str) -> bool:
    """Change the password of a local account, which ends its sessions.

    Return whether there is such a local account. The university's accounts get no password here.
    """
    changes.changed(transaction, changes.account_named(username))
    local = is_named(username) & (account.c.source == AccountSource.LOCAL)
    statement = update(account).where(local).values(password_hash=password_hash, generation=account.c.generation + 1)
    return bool((await transaction.execute(statement)).rowcount)


async def renew_password(transaction: Transaction, account_id: int, before: str, after: str) -> None:
    """Replace the hash of an unchanged password, unless the account has another one by now; its sessions stay."""
    here = (account.c.id == account_id, account.c.password_hash == before)
    statement = update(account).where(*here).values(password_hash=after).returning(account.c.username)
    names = (await transaction.execute(statement)).scalars()
    changes.changed(transaction, *map(changes.account_named, names))


async def _is_taken(transaction: Transaction, username: str) -> bool:
    """Return whether an account of an older release has the name with other capitals; a unique rule has the rest."""
    is_capital = (account.c.username != func.lower(account.c.username)) & (account.c.username != username)
    here = is_capital & (func.lower(account.c.username) == folded(username))
    return (await transaction.execute(select(account.c.id).where(here).limit(1))).first() is not None


async def set_disabled(transaction: Transaction, account_id: int, *, disabled: bool) -> None:
    """Disable or enable an account; either ends its sessions."""
    await change(transaction, account_id, disabled=disabled, generation=account.c.generation + 1)


async def standing(database: Database, account_id: int) -> Standing | None:
    """Return an account's name and status with one point read, None if it is gone; raises Unavailable."""
    row = await database.point(_standing, account_id)
    if row is None:
        return None
    username, is_admin, disabled, groups, generation = row
    listed = tuple(json.loads(groups) or ()) if groups else ()
    return Standing(username, bool(is_admin), bool(disabled), listed, generation)


async def make(
    transaction: Transaction, username: str, *, full_name: str, email: str, groups: Sequence[str], is_admin: bool
) -> bool:
    """Make a university account unless the name is taken; return whether it was made."""
    if await _is_taken(transaction, username):
        return False
    now = time.time()
    statement = insert(transaction, account).values(
        username=username,
        source=AccountSource.SAML,
        full_name=full_name,
        email=email,
        groups=list(groups),
        is_admin=is_admin,
        disabled=False,
        created_at=now,
        seen_at=now,
    )
    return bool((await transaction.execute(statement.on_conflict_do_nothing())).rowcount)


async def change(transaction: Transaction, account_id: int, **values: object) -> bool:
    """Set columns of an account; return whether it exists."""
    statement = update(account).where(account.c.id == account_id).values(values).returning(account.c.username)
    username = (await transaction.execute(statement)).scalar()
    if username is None:
        return False
    if not values.keys() <= _ABOUT:
        changes.changed(transaction, changes.account_named(username))
    return True


async def rename(transaction: Transaction, person: Person, username: str) -> None:
    """Give a person another user name, which nobody else may have."""
    changes.changed(transaction, changes.account_named(person.username))
    await change(transaction, person.id, username=username)


async def note_login(transaction: Transaction, person: Person, **values: object) -> None:
    """Note that a person has logged in just now, and set columns of their account.

    Most log-ins change no column of which there are copies, and so wait for no worker.
    """
    now = time.time()
    if person.seen_at is None or now - person.seen_at >= _SEEN_EVERY:
        values["seen_at"] = now
    await change(transaction, person.id, last_login_at=now, **values)


async def other_admins(transaction: Transaction, account_id: int) -> int:
    """Count the other enabled administrators.

    The rows are locked, so that no two transactions count them at once.
    """
    admins = select(account.c.id).where(account.c.is_admin).order_by(account.c.id)
    await transaction.execute(admins.with_for_update(key_share=True))
    others = (account.c.is_admin, account.c.disabled.is_(False), account.c.id != account_id)
    return await keyset.exactly(transaction, select(func.count()).select_from(account).where(*others))


async def person(transaction: Transaction, account_id: int) -> Person | None:
    """Find a person by their account's id."""
    row = (await transaction.execute(select(*_person).where(account.c.id == account_id))).first()
    return _as_person(row) if row else None


async def person_by_name(transaction: Transaction, username: str) -> Person | None:
    """Find a person by a typed user name."""
    row = (await transaction.execute(select(*_person).where(is_named(username)))).first()
    return _as_person(row) if row else None


async def page(transaction: Transaction, page: Page[str]) -> Entries[Person]:
    """List people by user name; the search covers user name, full name and e-mail address."""
    make, walks = lambda *row: _as_person(row), _walks(page.search)
    columns = account.c.username
    return await keyset.fetch(transaction, select(*_person), make, page, columns, walks=walks, sorts=_SORTS)


async def total(transaction: Transaction, search: str = "") -> Count:
    """Count the people that `page` lists."""
    return await keyset.count(transaction, select(*_person), account.c.username, walks=_walks(search))


async def remove(transaction: Transaction, account_id: int) -> bool:
    """Remove an account with its keys and memberships; return whether it existed.

    Its projects stay, without an owner.
    """
    named = select(account.c.username).where(account.c.id == account_id)
    if (username := (await transaction.execute(named)).scalar()) is not None:
        changes.changed(transaction, changes.account_named(username))
    theirs = select(member.c.project_id).where(member.c.account_id == account_id)
    for project_id in (await transaction.execute(theirs)).scalars():
        changes.changed(transaction, changes.project(project_id))
    await transaction.execute(update(project).where(project.c.owner_id == account_id).values(owner_id=None))
    await retire(transaction, account)
    return bool((await transaction.execute(account.delete().where(account.c.id == account_id))).rowcount)


def _walks(search: str) -> tuple[Walk, ...]:
    columns = (account.c.username, account.c.full_name, account.c.email)
    return (Walk(matches=has_any(columns, search)),)


def _as_person(row: Sequence[Any]) -> Person:
    values = dict(zip((column.name for column in _person), row, strict=True))
    return Person(**{**values, "groups": tuple(values["groups"] or ())})


async def signing_keys(transaction: Transaction) -> list[SigningKey]:
    """List every key, newest first: one for each rotation within a token's lifetime, usually two."""
    statement = select(signing_key.c.id, signing_key.c.private_key, signing_key.c.created_at)
    return [SigningKey(*row) for row in await transaction.execute(statement.order_by(signing_key.c.created_at.desc()))]


async def add_signing_key(transaction: Transaction, key: SigningKey) -> None:
    """Write a new key."""
    await transaction.execute(
        signing_key.insert().values(id=key.id, private_key=key.private_key, created_at=key.created_at)
    )


async def remove_signing_keys(transaction: Transaction, before: float) -> None:
    """Remove keys made before a time (Unix seconds)."""
    await transaction.execute(signing_key.delete().where(signing_key.c.created_at < before))
