"""Send bytes of a local file to S3; they are read while they are sent and never held in memory."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from dataclasses import dataclass
from typing import Any

_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileBody:
    """Bytes of an open file and their MD5, by which S3 checks the bytes that arrive.

    The MD5 replaces the signature of the payload, because botocore would compute that on the event loop.
    """

    descriptor: int
    start: int
    size: int
    md5: bytes

    @classmethod
    def of(cls, descriptor: int, start: int, size: int) -> FileBody:
        """Return the body for ``size`` bytes from ``start`` on, after reading them for their MD5. Blocks."""
        source, md5 = _Slice(descriptor, start, size), hashlib.md5(usedforsecurity=False)
        while piece := source.read(_PIECE):
            md5.update(piece)
        return cls(descriptor, start, size, md5.digest())

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a request that sends these bytes."""
        return {
            "Body": _Slice(self.descriptor, self.start, self.size),
            "ContentLength": self.size,
            "ContentMD5": base64.b64encode(self.md5).decode(),
        }


class _Slice(io.RawIOBase):
    # Several slices read one descriptor at once, so each keeps its own position and does not use the kernel's.
    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._at = descriptor, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        count = os.preadv(self._descriptor, [view], self._start + self._at) if view else 0
        self._at += count
        return count
