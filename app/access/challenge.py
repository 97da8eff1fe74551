"""Writes the ``WWW-Authenticate`` header: where to get a token, and for what.

Source: RFC 6750 section 3; Docker registry token specification, "How to authenticate".
"""

from __future__ import annotations

from urllib.parse import urlsplit


def service_name(external_url: str) -> str:
    """Name the service as its tokens and challenges do: host and port of its address."""
    return urlsplit(external_url).netloc


def challenge(token_url: str, service: str, scope: str | None = None, error: str | None = None) -> str:
    """Spell the header's value for a token service at ``token_url``.

    ``scope`` holds a name that passed the grammar (``repository:NAME:pull,push``); ``error`` is ``invalid_token``
    or ``insufficient_scope``. Nothing is quoted: neither may hold a quotation mark.
    """
    parts = {"realm": token_url, "service": service, "scope": scope, "error": error}
    return "Bearer " + ",".join(f'{key}="{value}"' for key, value in parts.items() if value is not None)
