"""Pages of a listing: ``n``, ``last`` and the ``Link`` to the next (distribution-spec, "Listing Tags")."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from app.oci.errors import Unsupported

from .call import Call

# No answer lists more than this; a client that wants more follows the Link.
MOST = 1000


def page_size(query: Mapping[str, list[str]]) -> int:
    """Return ``n``, at most `MOST`; raises Unsupported (400) unless it is a whole number from 0."""
    text = query.get("n", [str(MOST)])[0]
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Unsupported("n must be a whole number from 0, not %(text)r", text=text[:40], status=400)
    return min(int(text), MOST)


def after(query: Mapping[str, list[str]]) -> str:
    """Return ``last``, "" for none; raises Unsupported (400) if no name, tag or digest can look like that."""
    text = query.get("last", [""])[0]
    if len(text) > 512 or not text.isprintable():
        raise Unsupported("last must be the last entry of the page before", status=400)
    return text


def next_link(call: Call, parameters: Mapping[str, str]) -> tuple[str, str]:
    """Return the ``Link`` header to the next page: the request's own path, as this client spells it, and its ``ns``."""
    kept = {"ns": call.query["ns"][0]} if "ns" in call.query else {}
    return "Link", f'<{call.address.asked}?{urlencode({**parameters, **kept})}>; rel="next"'
