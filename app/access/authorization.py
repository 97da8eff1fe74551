"""Reads the ``Authorization`` header; what it claims is checked by others.

Source: RFC 9110 section 11.6.2, RFC 6750 section 2.1, RFC 7617.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from app.oci.errors import Unauthorized

# A user name and a password at their longest (`accounts`), in UTF-8 and base64.
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


def parse_authorization(header: str | None) -> Bearer | Basic | None:
    """Read an ``Authorization`` header; None where there is none or its scheme is not served here.

    Raises Unauthorized when Basic or Bearer is malformed.
    """
    scheme, _, credentials = (header or "").strip().partition(" ")
    scheme = scheme.lower()
    if scheme == "bearer":
        token = credentials.strip()
        if not token:
            raise Unauthorized("the Authorization header holds no token; ask the token service for one")
        return Bearer(token)
    return _basic(credentials.strip()) if scheme == "basic" else None


def _basic(credentials: str) -> Basic:
    try:
        plain = base64.b64decode(credentials, validate=True).decode() if len(credentials) <= _MAX_BASIC else ""
    except ValueError:
        # Not chained below: the decoder's error holds the bytes, and the bytes hold the password.
        plain = ""
    username, colon, password = plain.partition(":")
    if not colon:
        raise Unauthorized("the Basic credentials cannot be read; expected base64 of USER:PASSWORD in UTF-8")
    return Basic(username, password)
