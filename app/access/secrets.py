"""Secrets made here: how they look, how they are kept, and the key that both depend on.

A generated secret has more than 200 random bits, so a keyed SHA-256 keeps it as well as argon2 would and costs
nothing to check. What has to be read again (credentials for an upstream) is encrypted under the same key. Another key
than the one before would quietly make every secret a wrong one: a fingerprint in the database tells at start.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import re
import secrets
import string
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from app.database import Database, settings

# People and scanners for leaked secrets recognise one by it.
PREFIX = "hpcr_"
_ALPHABET = string.ascii_letters + string.digits
# log2(62) is 5.95 bits a character.
_LENGTH = 40
_GENERATED = re.compile(rf"{PREFIX}[A-Za-z0-9]{{{_LENGTH}}}\Z")
_FEWEST_CHARACTERS = 32
_FILE = "secret_key"
_FINGERPRINT = "secret_key_fingerprint"


class Secrets:
    """Makes, hashes and encrypts secrets; the same on every worker that has the same key."""

    def __init__(self, key: str) -> None:
        """Derive what is needed from ``key`` (`read_key`), so that no two uses share one."""
        self._hash_key = _derived(key, "hash")
        self._fingerprint = _derived(key, "fingerprint").hex()[:16]
        self.cookie_secret = _derived(key, "cookie").hex()
        self._cipher = Fernet(base64.urlsafe_b64encode(_derived(key, "encrypt")))

    def new(self) -> str:
        """Make up a secret of letters, digits and ``_``, which no shell takes for anything else."""
        return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))

    def is_generated(self, text: str) -> bool:
        """Say whether this looks like a secret that was made here."""
        return _GENERATED.match(text) is not None

    def hash(self, secret: str) -> str:
        """Spell what is kept of a secret: its HMAC-SHA256 in hex."""
        return hmac.digest(self._hash_key, secret.encode(), "sha256").hex()

    def encrypt(self, text: str) -> str:
        """Make unreadable what `decrypt` reads again."""
        return self._cipher.encrypt(text.encode()).decode()

    def decrypt(self, text: str) -> str:
        """Read what `encrypt` made; raises ValueError for anything else."""
        try:
            return self._cipher.decrypt(text.encode()).decode()
        except InvalidToken:
            raise ValueError("this was not encrypted with the present access.secret_key; enter it again") from None

    async def require_same(self, database: Database) -> None:
        """Raise ValueError unless this is the key that the secrets in this database were made with; or Unavailable."""
        async with database.transaction() as transaction:
            known = await settings.keep(transaction, _FINGERPRINT, self._fingerprint)
        if known != self._fingerprint:
            raise ValueError(
                "access.secret_key: not the key that this database's secrets were made with; put the former one back "
                f"(it may be the file {_FILE} in another host's data_dir). If it is lost, remove {_FINGERPRINT} from "
                "the table setting and give every robot and access key a new secret"
            )


def read_key(configured: str | None, data_dir: Path) -> str:
    """Give the configured key, or the one that was made up and kept in ``data_dir``, making it where there is none.

    Of processes that make one at the same time, one wins. Raises ValueError for a key that can be guessed, OSError.
    """
    if configured is not None:
        if len(configured) < _FEWEST_CHARACTERS:
            raise ValueError(
                f"access.secret_key: at least {_FEWEST_CHARACTERS} characters, such as openssl rand -hex 32"
            )
        return configured
    path = data_dir / _FILE
    if not path.exists():
        _make(path)
    return path.read_text().strip()


def _make(path: Path) -> None:
    """Put a new key down whole or not at all, readable by this user only."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{_FILE}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def _derived(key: str, purpose: str) -> bytes:
    return hmac.digest(key.encode(), f"registry {purpose}".encode(), "sha256")
