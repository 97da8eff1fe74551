"""Evaluate the preconditions of a GET or HEAD. The entity tag of a manifest or a blob is its digest, which is strong.

Nothing here has a Last-Modified, so conditions on dates are ignored.

Source: RFC 9110, 13.
"""

from __future__ import annotations

from typing import NamedTuple

from .digest import Digest
from .errors import Unsupported


class Conditions(NamedTuple):
    """The values of ``If-Match`` and ``If-None-Match``; None if the request does not have the header."""

    match: str | None
    none_match: str | None

    @property
    def any(self) -> bool:
        """Return whether an answer may be another than the manifest or blob."""
        return self.match is not None or self.none_match is not None

    def not_modified(self, digest: Digest) -> bool:
        """Return whether the client has it already (304); raises Unsupported with status 412 if it wants another."""
        if self.match is not None and not _lists(self.match, digest):
            raise Unsupported(
                "this is %(digest)s, which If-Match does not name",
                digest=digest,
                status=412,
                headers={"ETag": etag(digest)},
            )
        return self.none_match is not None and _lists(self.none_match.replace('W/"', '"'), digest)


def range_applies(if_range: str | None, digest: Digest) -> bool:
    """Return whether a ``Range`` counts; if not, all is sent, because the client has a part of something else."""
    return if_range is None or if_range.strip() == etag(digest)


def etag(digest: Digest) -> str:
    """Return the entity tag, in its quotes."""
    return f'"{digest}"'


def _lists(header: str, digest: Digest) -> bool:
    """Return whether a list names the tag; like distribution, accept it without its quotes too."""
    entries = {entry.strip() for entry in header.split(",")}
    return header.strip() == "*" or not entries.isdisjoint((etag(digest), digest))
