"""People's access keys as they are made, listed and removed."""

from __future__ import annotations

import time

import pytest

from app.access import access_keys as module
from app.access.access_keys import AccessKeys
from app.access.errors import Conflict, Invalid, Missing
from app.access.roles import CREATE_MEMBER, PULL, PUSH
from app.access.secrets import Secrets
from app.config import Access
from app.database import Database, access_keys, accounts

from .conftest import on_both_databases

SECRETS = Secrets("k" * 32)
PULLS = {"*": [PULL]}
MARI, JAAN = 1, 2


@pytest.fixture
async def keys(database: Database) -> AccessKeys:
    """The keys of mari and jaan, none so far."""
    async with database.transaction() as transaction:
        for name in ("mari", "jaan"):
            await accounts.create(transaction, name, "", is_admin=False)
    return AccessKeys(database, SECRETS, Access())


@on_both_databases
async def test_a_person_has_several_each_with_its_name_and_end(database: Database, keys: AccessKeys) -> None:
    laptop, secret = await keys.create(MARI, name=" laptop ", permissions=PULLS, days=90)
    cluster, other = await keys.create(MARI, name="cluster", permissions={"1": [PUSH, PULL, PULL]}, days=1)
    await keys.create(JAAN, name="laptop", permissions=PULLS, days=1)
    assert secret != other
    assert secret not in repr(laptop)
    assert (laptop.name, laptop.account_id, laptop.permissions) == ("laptop", MARI, {"*": [PULL]})
    assert laptop.expires_at == pytest.approx(time.time() + 90 * 86400, abs=60)
    assert cluster.permissions == {"1": [PULL, PUSH]}
    assert await database.read(access_keys.of_account, MARI) == [cluster, laptop]


@pytest.mark.parametrize(
    ("name", "permissions", "days", "words"),
    [
        ("", PULLS, 1, "give the key a name"),
        (" ", PULLS, 1, "give the key a name"),
        ("a\nb", PULLS, 1, "give the key a name"),
        ("a\0b", PULLS, 1, "none of them NUL"),
        ("a" * 65, PULLS, 1, "at most 64 characters"),
        ("a", {}, 1, "at least one right"),
        ("a", {"*": ["fly"]}, 1, "'fly' cannot be given"),
        ("a", {"*": [CREATE_MEMBER]}, 1, "cannot be given"),
        ("a", {"physics": [PULL]}, 1, "is not a project id"),
        ("a", PULLS, 0, "between 1 and 365 days"),
        ("a", PULLS, -1, "between 1 and 365 days"),
        ("a", PULLS, 366, "between 1 and 365 days"),
    ],
)
async def test_what_cannot_be_made_is_refused_in_words(
    database: Database, keys: AccessKeys, name: str, permissions: dict[str, list[str]], days: int, words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        await keys.create(MARI, name=name, permissions=permissions, days=days)
    assert await database.read(access_keys.of_account, MARI) == []


@on_both_databases
async def test_a_name_is_taken_once(keys: AccessKeys) -> None:
    await keys.create(MARI, name="laptop", permissions=PULLS, days=1)
    with pytest.raises(Conflict, match="already have an access key 'laptop'"):
        await keys.create(MARI, name="laptop", permissions=PULLS, days=1)


async def test_there_is_an_end_to_their_number(keys: AccessKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_KEYS", 2)
    for name in ("a", "b"):
        await keys.create(MARI, name=name, permissions=PULLS, days=1)
    with pytest.raises(Conflict, match="remove one"):
        await keys.create(MARI, name="c", permissions=PULLS, days=1)


@on_both_databases
async def test_only_ones_own_can_be_removed(database: Database, keys: AccessKeys) -> None:
    mine, _ = await keys.create(MARI, name="laptop", permissions=PULLS, days=1)
    for account_id, key_id in ((JAAN, mine.id), (MARI, 4711), (MARI, 1 << 70), (MARI, -1)):
        with pytest.raises(Missing):
            await keys.remove(account_id, key_id)
    assert await keys.remove(MARI, mine.id) == mine
    assert await database.read(access_keys.of_account, MARI) == []
    with pytest.raises(Missing):
        await keys.remove(MARI, mine.id)
