"""Read the ``Link`` of a list's page: where the next page is, and whether it may be asked for there."""

from __future__ import annotations

from collections.abc import Iterable

from yarl import URL

from app.oci.errors import UpstreamInvalid

from .address_guard import next_hop, origin


def next_page(headers: Iterable[str]) -> str | None:
    """Return the target of the link to the next page, as it is spelled in one of the headers (RFC 8288, 3)."""
    for header in headers:
        # A target may hold a comma, but no "<", so each of these begins a link.
        for link in header.split("<")[1:]:
            target, _, parameters = link.partition(">")
            spelled = parameters.lower().replace(" ", "").replace('"', "").replace(",", ";")
            if "rel=next" in spelled.split(";"):
                return target
    return None


def same_origin(base: URL, target: str) -> URL | None:
    """Return the URL of a link on the page ``base``, None if it cannot be followed or leads to another origin."""
    try:
        url = next_hop(base, target)
    except UpstreamInvalid:
        return None
    return url if origin(url) == origin(base) else None
