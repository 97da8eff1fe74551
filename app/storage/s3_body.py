"""Send bytes of a local file to S3; they are read while they are sent and never held in memory."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from .disk import read_piece

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


class _Slice:
    """The bytes as botocore wants them, which may read and rewind them, and as aiohttp sends them, piece by piece."""

    # Several slices read one descriptor at once, so each keeps its own position and does not use the kernel's.
    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._at = descriptor, start, size, 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, most: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        piece = os.pread(self._descriptor, left if most < 0 else min(most, left), self._start + self._at)
        self._at += len(piece)
        return piece

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        # aiohttp would read a file in pieces of 64 KiB and take a thread for each.
        while self._at < self._size:
            start, stop = self._start + self._at, self._start + self._size
            piece = await read_piece(self._descriptor, start, stop)
            if not piece:
                return
            self._at += len(piece)
            yield piece
