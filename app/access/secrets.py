"""Generated secrets: their form, how they are stored, and the secret key that protects them.

A generated secret has more than 200 random bits. So a keyed SHA-256 protects it as well as argon2 would, and costs
nothing to check. Secrets that must be read again (credentials for an upstream) are encrypted under the same key. With
another key every secret would be wrong, without an error; a fingerprint in the database shows that at start.
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
from app.database.audit import PSEUDONYM

# People and scanners for leaked secrets recognise a secret by this.
PREFIX = "hpcr_"
_ALPHABET = string.ascii_letters + string.digits
# log2(62) is 5.95 bits a character.
_LENGTH = 40
_GENERATED = re.compile(rf"{PREFIX}[A-Za-z0-9]{{{_LENGTH}}}\Z")
_FILE = "secret_key"
_FINGERPRINT = "secret_key_fingerprint"


class Secrets:
    """Generates, hashes and encrypts secrets, alike on all workers with the same key."""

    def __init__(self, key: str) -> None:
        """Derive a key for each use from ``key`` (`read_key`), so that no two uses share one."""
        self._hash_key = _derived(key, "hash")
        self._fingerprint = _derived(key, "fingerprint").hex()[:16]
        self._pseudonym_key = _derived(key, "pseudonym")
        self.cookie_secret = _derived(key, "cookie").hex()
        self._cipher = Fernet(base64.urlsafe_b64encode(_derived(key, "encrypt")))

    def new(self) -> str:
        """Generate a secret of letters, digits and ``_``, which need no quoting in a shell."""
        return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))

    def is_generated(self, text: str) -> bool:
        """Return whether this looks like a generated secret."""
        return _GENERATED.match(text) is not None

    def hash(self, secret: str) -> str:
        """Return the HMAC-SHA256 of a secret in hex, which is stored in its place."""
        return hmac.digest(self._hash_key, secret.encode(), "sha256").hex()

    def encrypt(self, text: str) -> str:
        """Return a text encrypted, for `decrypt` to read."""
        return self._cipher.encrypt(text.encode()).decode()

    def decrypt(self, text: str) -> str:
        """Return the text that `encrypt` was given; raises ValueError for anything else."""
        try:
            return self._cipher.decrypt(text.encode()).decode()
        except InvalidToken:
            raise ValueError("this was not encrypted with the present access.secret_key; enter it again") from None

    def pseudonym(self, username: str) -> str:
        """Return what stands in place of a person's name: always the same, and without the key nobody can find it."""
        return PSEUDONYM + hmac.digest(self._pseudonym_key, username.encode(), "sha256").hex()[:12]

    async def require_same(self, database: Database) -> None:
        """Raise ValueError unless this database's secrets were made with this key; may raise Unavailable."""
        async with database.transaction() as transaction:
            known = await settings.keep(transaction, _FINGERPRINT, self._fingerprint)
        if known != self._fingerprint:
            raise ValueError(
                "access.secret_key: not the key that this database's secrets were made with; restore the former key "
                f"(it may be the file {_FILE} in another host's data_dir). If it is lost, remove {_FINGERPRINT} from "
                "the table setting, refresh every robot's secret and make every access key again"
            )


def read_key(configured: str | None, data_dir: Path) -> str:
    """Return the configured key, or the one in ``data_dir``, which is generated if it is missing.

    If several processes generate one at the same time, all use the same one. Raises OSError.
    """
    if configured is not None:
        return configured
    path = data_dir / _FILE
    if not path.exists():
        _make(path)
    return path.read_text().strip()


def _make(path: Path) -> None:
    """Write a new key, whole or not at all, readable by this user only."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{_FILE}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link never replaces a key that another process has written meanwhile.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def _derived(key: str, purpose: str) -> bytes:
    return hmac.digest(key.encode(), f"registry {purpose}".encode(), "sha256")
