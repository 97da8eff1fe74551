"""The version of an SQLite file, without a question to SQLite.

SQLite keeps an index of its log in a file of shared memory, whose head every commit rewrites. SQLite itself compares
that head to learn whether its pages are still the newest. A question for ``PRAGMA data_version`` does the same, but
takes two locks of the kernel, for which the workers wait in turn.

Source: "WAL-Index File Format" in https://www.sqlite.org/walformat.html.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

# Two copies of 48 bytes. A writer changes the second one first; a half-written head is unlike any other.
_HEAD_BYTES = 96


class FileVersion:
    """Reads the version of a file in the mode WAL; the owner calls `close`.

    Some connection to the file must be open as long as this is, and must have read from it. Else the last one that
    closes removes the shared memory, and this would not see the next.
    """

    def __init__(self, path: Path) -> None:
        """``path`` is that of the database; raises OSError."""
        self._descriptor = os.open(f"{path}-shm", os.O_RDONLY | os.O_CLOEXEC)
        self._head = mmap.mmap(self._descriptor, _HEAD_BYTES, prot=mmap.PROT_READ)

    def read(self) -> bytes:
        """Return the version: other bytes after each commit of any process."""
        return self._head[:_HEAD_BYTES]

    def close(self) -> None:
        """End the locks of this process on the shared memory too, as POSIX has it; connections are closed before."""
        self._head.close()
        os.close(self._descriptor)
