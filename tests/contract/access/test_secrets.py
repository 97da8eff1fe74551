"""How secrets look and are kept, and the key that all of it depends on."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from app.access.secrets import Secrets, read_key
from app.database import Database, settings

from .conftest import on_both_databases

KEY, OTHER_KEY = "k" * 32, "o" * 32


def test_a_secret_is_recognised_and_means_nothing_to_a_shell() -> None:
    secrets = Secrets(KEY)
    made = [secrets.new() for _ in range(50)]
    assert len(set(made)) == 50
    for secret in made:
        assert shlex.quote(secret) == secret
        assert re.fullmatch(r"hpcr_[A-Za-z0-9]{40}", secret)
        assert secrets.is_generated(secret)


@pytest.mark.parametrize("text", ["", "hpcr_", "hunter2", "hpcr_" + "a" * 39, "hpcr_" + "a" * 41, "hpcr_" + "õ" * 40])
def test_what_was_not_made_here_is_a_password(text: str) -> None:
    assert not Secrets(KEY).is_generated(text)


def test_the_hash_is_the_keys_own() -> None:
    secret = Secrets(KEY).new()
    assert Secrets(KEY).hash(secret) == Secrets(KEY).hash(secret)
    assert Secrets(KEY).hash(secret) != Secrets(OTHER_KEY).hash(secret)
    assert secret not in Secrets(KEY).hash(secret)


def test_what_is_encrypted_is_read_under_the_same_key_only() -> None:
    hidden = Secrets(KEY).encrypt("õige parool")
    assert "parool" not in hidden
    assert Secrets(KEY).decrypt(hidden) == "õige parool"
    for secrets, text in [(Secrets(OTHER_KEY), hidden), (Secrets(KEY), hidden[:-2]), (Secrets(KEY), "nothing")]:
        with pytest.raises(ValueError, match="enter it again"):
            secrets.decrypt(text)


@on_both_databases
async def test_another_key_than_before_is_an_error_at_start(database: Database) -> None:
    await Secrets(KEY).require_same(database)
    await Secrets(KEY).require_same(database)
    with pytest.raises(ValueError, match=r"access\.secret_key: not the key") as raised:
        await Secrets(OTHER_KEY).require_same(database)
    assert "\n" not in str(raised.value)
    async with database.transaction() as transaction:
        kept = await settings.keep(transaction, "secret_key_fingerprint", "")
    assert kept
    assert KEY not in kept


def test_a_key_is_made_up_once_and_for_this_user_only(tmp_path: Path) -> None:
    key = read_key(None, tmp_path)
    assert len(key) == 64
    assert read_key(None, tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


def test_processes_that_make_one_at_once_have_the_same(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from app.access.secrets import read_key; "
    program += "sys.stdin.read(); print(read_key(None, Path(sys.argv[1])))"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
        racer.stdin = None
    assert len({racer.communicate(timeout=60)[0] for racer in racers}) == 1


def test_a_configured_key_is_taken(tmp_path: Path) -> None:
    assert read_key(KEY, tmp_path) == KEY
    assert list(tmp_path.iterdir()) == []
