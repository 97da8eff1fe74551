"""The route table of the distribution API: every path, method and handler, and the permission it needs.

Source: OCI distribution-spec, "Endpoints" (end-1 … end-14) and the Docker registry's catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from .blobs import BlobHandlers
from .listings import ListingHandlers
from .manifests import ManifestHandlers
from .needs import ANY_TOKEN, CATALOGUE, DELETE, PULL, PUSH
from .uploads import UploadHandlers

Handler = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path. ``needs`` is one of the words of `needs`; there is no default.

    ``asks``: the actions that the challenge names, if they are more than the method needs.
    """

    handler: Handler
    needs: str
    asks: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A path; its groups go to the handler by position. The first, if there is one, is the repository's name."""

    noun: str
    pattern: re.Pattern[str]
    methods: Mapping[str, Endpoint]


def routes(
    manifests: ManifestHandlers, blobs: BlobHandlers, uploads: UploadHandlers, listings: ListingHandlers
) -> tuple[Route, ...]:
    """Return the table, the busiest paths first."""
    manifest, blob = Endpoint(manifests.get, PULL), Endpoint(blobs.get, PULL)
    # A client that checks for a blob is about to push it, and some clients keep their first token (ORAS for Python).
    # So the challenge names push as well; a client without the right gets a token without it.
    check = Endpoint(blobs.get, PULL, asks="pull,push")
    tags, referrers = Endpoint(listings.tags, PULL), Endpoint(listings.referrers, PULL)
    root, catalogue = Endpoint(listings.root, ANY_TOKEN), Endpoint(listings.catalogue, CATALOGUE)
    return (
        _route(
            "manifests",
            r"/v2/(.+)/manifests/([^/]+)",
            GET=manifest,
            HEAD=manifest,
            PUT=Endpoint(manifests.put, PUSH),
            DELETE=Endpoint(manifests.delete, DELETE),
        ),
        _route("uploads", r"/v2/(.+)/blobs/uploads/?", POST=Endpoint(uploads.begin, PUSH)),
        _route(
            "upload",
            r"/v2/(.+)/blobs/uploads/([^/]+)",
            GET=Endpoint(uploads.get, PUSH),
            PATCH=Endpoint(uploads.patch, PUSH),
            PUT=Endpoint(uploads.put, PUSH),
            DELETE=Endpoint(uploads.delete, PUSH),
        ),
        _route("blobs", r"/v2/(.+)/blobs/([^/]+)", GET=blob, HEAD=check, DELETE=Endpoint(blobs.delete, DELETE)),
        _route("tags", r"/v2/(.+)/tags/list", GET=tags, HEAD=tags),
        _route("referrers", r"/v2/(.+)/referrers/([^/]+)", GET=referrers, HEAD=referrers),
        _route("catalogue", r"/v2/_catalog", GET=catalogue, HEAD=catalogue),
        _route("root", r"/v2/?", GET=root, HEAD=root),
    )


def _route(noun: str, pattern: str, **methods: Endpoint) -> Route:
    return Route(noun, re.compile(pattern + r"\Z"), methods)
