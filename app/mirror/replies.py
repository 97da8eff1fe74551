"""Read the heads and errors of an upstream's replies.

Registries, storage hosts, firewalls and portals send them, so nothing here raises because of what a reply holds.

Source: OCI distribution-spec, "Pulling manifests" and "Error Codes"; RFC 9110, 14.4 (Content-Range); RFC 8288 (Link).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import aiohttp

from app.oci.digest import Digest
from app.oci.errors import DigestInvalid

from .answers import Challenge, parse_challenges

_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z")
_VERSION = "Docker-Distribution-Api-Version"
# The ways to log in that registries offer. A proxy asks for others.
_SCHEMES = frozenset({"bearer", "basic"})


def media_type(response: aiohttp.ClientResponse) -> str:
    """Return the type in lower case and without parameters, "" if there is none."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def stated_digest(response: aiohttp.ClientResponse) -> Digest | None:
    """Return the Docker-Content-Digest; None if it is missing, says several things, or has an unknown algorithm."""
    lines = response.headers.getall("Docker-Content-Digest", [])
    stated = {part.strip(' \t"') for line in lines for part in line.split(",")}
    if len(stated) != 1:
        return None
    try:
        return Digest.parse(stated.pop())
    except DigestInvalid:
        return None


def is_page(response: aiohttp.ClientResponse) -> bool:
    """Return whether a reply is labelled as a web page and states no digest, as that of a proxy or portal.

    A registry may label its content so, too. The digest of the content decides, if it is at hand.
    """
    return media_type(response) in _PAGE_TYPES and stated_digest(response) is None


def challenges(response: aiohttp.ClientResponse) -> list[Challenge]:
    """Return the ways to log in that a registry's 401 offers; none for another status, or a proxy's ways."""
    if response.status != 401:
        return []
    offered = parse_challenges(response.headers.getall("WWW-Authenticate", []))
    return offered if any(challenge.scheme in _SCHEMES for challenge in offered) else []


def is_registrys_word(response: aiohttp.ClientResponse, body: bytes) -> bool:
    """Return whether a registry sent this refusal: in the specification's JSON or with the distribution header.

    A HEAD has no body; there JSON as its type is enough.
    """
    if _VERSION in response.headers:
        return True
    if response.method == "HEAD":
        return media_type(response) == "application/json"
    return error_code(body) != ""


def error_code(body: bytes) -> str:
    """Return the code of an answer in the specification's JSON, "" if it is something else."""
    try:
        code = (json_object(body) or {})["errors"][0]["code"]
    except (LookupError, TypeError):
        return ""
    return code if isinstance(code, str) else ""


def ranged_size(response: aiohttp.ClientResponse, offset: int) -> tuple[bool, int | None]:
    """Return whether a 206 begins at ``offset``, and the size of the whole in bytes, None if it is not stated."""
    match = _CONTENT_RANGE.match(response.headers.get("Content-Range", "").strip())
    if match is None:
        return False, None
    size = None if match[3] == "*" else int(match[3])
    first, last = int(match[1]), int(match[2])
    within = first == offset <= last and (size is None or last < size)
    return within and response.content_length in (None, last - first + 1), size


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a body, None if there is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


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
