"""Parse and spell byte ranges, for reading blobs and for sending chunks.

Source: RFC 9110 section 14 (reading); OCI distribution-spec, "Pushing a blob in chunks" (sending).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import BlobUploadInvalid, RangeInvalid

# No blob's size has more than 19 digits, and int() is slow for thousands of digits.
_READ = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})\Z")
_CHUNK = re.compile(r"([0-9]{1,19})-([0-9]{1,19})\Z")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from ``start`` up to, but not including, ``stop``."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """Return the ``Content-Range`` of a 206 answer; ``size`` is the whole blob's, in bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """Return the range that a ``Range`` header asks for, of a representation of ``size`` bytes.

    None means "send all": no header, several ranges, another unit, or a malformed one (RFC 9110 14.2 lets a
    server ignore those). Raises RangeInvalid (416) if the range begins past the end, or ends before it begins
    (RFC 9110 15.5.17; the conformance suite requires it).
    """
    match = _READ.match(header.strip()) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    if start >= size or start >= stop:
        raise RangeInvalid(
            "the range %(header)r lies outside the blob, which has %(size)s bytes",
            size=size,
            header=header,
            headers={"Content-Range": f"bytes */{size}"},
        )
    return ByteRange(start, stop)


def parse_chunk(header: str | None) -> ByteRange | None:
    """Return the range in a chunk's ``Content-Range`` (``first-last``, inclusive); None without a header.

    Raises BlobUploadInvalid if it is malformed.
    """
    if header is None:
        return None
    match = _CHUNK.match(header.strip().removeprefix("bytes ").partition("/")[0])
    if match is None or int(match[2]) < int(match[1]):
        raise BlobUploadInvalid(
            "%(header)r is not a chunk's Content-Range; expected FIRST-LAST, both inclusive", header=header[:60]
        )
    return ByteRange(int(match[1]), int(match[2]) + 1)
