"""The ``WWW-Authenticate`` header, which says where to get a token and for which scope.

Source: RFC 6750 section 3; Docker registry token specification, "How to authenticate".
"""

from __future__ import annotations

from urllib.parse import urlsplit


def service_name(external_url: str) -> str:
    """Return the service's name in tokens and challenges: host and port of its external address."""
    return urlsplit(external_url).netloc


def challenge(token_url: str, service: str, scope: str | None = None, error: str | None = None) -> str:
    """Return the header's value for a token service at ``token_url``.

    ``scope`` holds a name that passed the grammar (``repository:NAME:pull,push``). ``error`` is ``invalid_token`` or
    ``insufficient_scope``. Values are not escaped, so neither may hold a quotation mark.
    """
    parts = {"realm": token_url, "service": service, "scope": scope, "error": error}
    return "Bearer " + ",".join(f'{key}="{value}"' for key, value in parts.items() if value is not None)
