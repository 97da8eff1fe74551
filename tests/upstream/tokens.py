"""Accounts and Bearer tokens: random, short-lived, good for the repositories they were cut down to."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Token:
    user: str | None
    pulls: frozenset[str]
    expires: float


class Tokens:
    def __init__(self) -> None:
        self.lifetime = 300.0
        self.accounts: dict[str, str] = {}
        self._issued: dict[str, Token] = {}

    def issue(self, user: str | None, pulls: frozenset[str]) -> str:
        """Make a token that lives `lifetime` seconds."""
        text = secrets.token_urlsafe(48)
        self._issued[text] = Token(user, pulls, time.monotonic() + self.lifetime)
        return text

    def check(self, authorization: str | None) -> Token | None:
        """Give the token of an ``Authorization`` header; None where it is no Bearer token, unknown or expired."""
        scheme, _, text = (authorization or "").partition(" ")
        token = self._issued.get(text) if scheme.lower() == "bearer" else None
        return token if token is not None and token.expires > time.monotonic() else None

    def revoke(self) -> None:
        """Forget every token that is out, as an upstream that changed its keys would."""
        self._issued.clear()

    def login(self, authorization: str) -> str | None:
        """Give the user of a ``Basic`` header; None where name or password is wrong."""
        scheme, _, text = authorization.partition(" ")
        try:
            user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return user if scheme.lower() == "basic" and self.accounts.get(user) == password else None
