"""The interface of a blob store; a folder and S3 implement it.

An *object* is the bytes of one upload or one fill under a key made by `new_key`. One writer writes it once; it is never
changed or renamed. Only the database knows an object's digest and who may see it. A store never looks at content.
Before the caller writes a key, it records the key in the database as future garbage. So garbage collection finds a
half-written object by its row and never walks the store.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Protocol

from app.oci.digest import Digest, is_digest

State = dict[str, Any]
Piece = bytes | memoryview

_KEY = re.compile(r"[0-9a-f]{32}\Z")


def new_key() -> str:
    """Make the key of a new object: 32 random lower-case hex digits, which nobody can guess."""
    return secrets.token_hex(16)


def checked(key: str) -> str:
    """Return ``key``; raises ValueError if `new_key` cannot have made it, so that no key can be a path."""
    if not _KEY.match(key):
        raise ValueError("not the key of an object")
    return key


def key_in_harbor(digest: Digest) -> str:
    """Return the key of an object that a Harbor stored: its digest. No other object has such a key."""
    return digest


def is_in_harbor(key: str) -> bool:
    """Return whether a key is that of a Harbor's object, which stays where it is (`storage.harbor`)."""
    return is_digest(key)


class Running(Protocol):
    """A running hash of hashlib."""

    def update(self, data: Piece, /) -> None: ...


class Writer(Protocol):
    """Appends to one object and excludes other writers. The caller ends it by one of `finish`, `abort` and `close`.

    If one of these or `suspend` raises, the writer is closed too, and `abort` then does nothing. The rest it leaves is
    removed by `BlobStore.delete`. After a `write` that raised, `suspend` and `finish` mostly raise as well. The last
    state stays valid.
    """

    @property
    def offset(self) -> int:
        """Return how many bytes the object has so far, from this request and earlier ones."""

    async def write(self, chunk: Piece, running: Running | None = None) -> None:
        """Append a chunk and update a running hash with it, in the same thread; nothing of it is held afterwards.

        Raises Unavailable, with status 507 if the disk is full.
        """

    async def suspend(self) -> State:
        """Make everything written so far durable and return its state, from which `BlobStore.writer` resumes.

        Nothing can be written any more. The caller stores the state and then calls `close`. In the other order the next
        writer would begin from an older state.
        """

    async def finish(self) -> None:
        """Make the object complete, durable and readable under its key.

        Of several writers of one key at most one can finish. The others raise BlobUploadInvalid or BlobUploadUnknown,
        and none of them changes or removes the finished object.
        """

    async def close(self) -> None:
        """Release the object as it was at its last state; the next writer cuts off later bytes. Never raises."""

    async def abort(self) -> None:
        """Release the object and remove its bytes, unless it is finished; does not raise if they are already gone."""


class BlobStore(Protocol):
    """The store of all blob bytes. Every method raises Unavailable if the store cannot be reached."""

    async def writer(self, key: str, state: State | None = None) -> Writer:
        """Begin the object ``key``, or resume it from ``state``, on any worker of any host.

        Nothing is changed before the first `write`, `suspend` or `finish`. Bytes that a killed worker wrote after the
        last `suspend` are cut off. Only the newest state of an upload may be used.

        Raises BlobUploadUnknown if the object's bytes are gone. Raises BlobUploadInvalid if another request is writing
        the same object now. The S3 store notices writers on other hosts only when they finish.
        """

    async def adopt(self, key: str, path: Path) -> None:
        """Store a complete local file as the object ``key``; the file at ``path`` may be gone afterwards.

        Open descriptors of the file stay readable.
        """

    def read(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` up to ``stop`` of a finished object, in pieces of at most 1 MiB.

        Raises BlobUnknown if the object is gone or not finished. The caller closes the generator.
        """

    async def locate(self, key: str) -> Path | str | None:
        """Return where a client or a web server may read the object without us; None if they cannot.

        A path is a local file. A string is a presigned URL; the store's configuration sets its host and life.
        """

    async def delete(self, key: str) -> None:
        """Remove the object and every half-written rest under its key; does nothing if there is none."""

    async def check(self) -> None:
        """Raise Unavailable, with the reason, unless objects can be written and read."""
