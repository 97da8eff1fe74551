"""The ``Authorization`` header: its credentials are parsed here and verified elsewhere.

Source: RFC 9110 section 11.6.2, RFC 6750 section 2.1, RFC 7617.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from app.oci.errors import Unauthorized

# Enough for the longest user name and password (`accounts`) in UTF-8 and base64.
_MAX_BASIC = 8192


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token, not yet verified."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Basic:
    """A user name and a password, not yet verified."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OtherScheme:
    """Credentials that this registry has no use for."""


def parse_authorization(header: str | None) -> Bearer | Basic | OtherScheme | None:
    """Return the credentials of an ``Authorization`` header; None if it is missing, empty or claims nobody.

    Raises Unauthorized if Basic or Bearer credentials are malformed.
    """
    scheme, _, credentials = (header or "").strip().partition(" ")
    scheme = scheme.lower()
    if scheme == "bearer":
        token = credentials.strip()
        if not token:
            raise Unauthorized("the Authorization header has no token; ask the token service for one")
        return Bearer(token)
    if scheme == "basic":
        return _basic(credentials.strip())
    return OtherScheme() if scheme else None


def claimed(username: str, password: str) -> Basic | None:
    """Return what a client claims, None if both are empty: engines without a login send that."""
    return Basic(username, password) if username or password else None


def _basic(credentials: str) -> Basic | None:
    try:
        plain = base64.b64decode(credentials, validate=True).decode() if len(credentials) <= _MAX_BASIC else ""
    except ValueError:
        # The error is raised below, outside this block: the decoder's error, which holds the password, is not chained.
        plain = ""
    username, colon, password = plain.partition(":")
    if not colon:
        raise Unauthorized("the Basic credentials cannot be read; send base64 of USER:PASSWORD in UTF-8")
    return claimed(username, password)
