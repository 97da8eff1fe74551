"""What every blob store does; two stand behind it, a folder and S3.

An *object* is the bytes of one upload or one fill under a key made by `new_key`: written once, by one writer,
never changed and never renamed. Which digest an object is, and whether anyone may see it, is known to the
database alone; a store never looks at content. Before a key is written the caller has put it down in the
database as garbage-to-be, so that whatever dies half-written is found by its row and not by a walk.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Protocol

State = dict[str, Any]

_KEY = re.compile(r"[0-9a-f]{32}\Z")


def new_key() -> str:
    """Make the name of an object that is about to be written: 32 lower-case hex digits, never guessed."""
    return secrets.token_hex(16)


def checked(key: str) -> str:
    """Give ``key`` back; raises ValueError for what `new_key` did not make, so that no key can be a path."""
    if not _KEY.match(key):
        raise ValueError("not the key of an object")
    return key


class Writer(Protocol):
    """Appends to one object, and keeps others from it. Ended by exactly one of `finish`, `abort` and `close`.

    An ending that raises has closed it too, as has a `suspend` that raises, and leaves what `BlobStore.delete` removes;
    `abort` after it does nothing. After a `write` that raised, `suspend` and `finish` mostly raise as well; the last
    state stays good.
    """

    @property
    def offset(self) -> int:
        """How many bytes the object has so far, in this request and those before."""

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append; the chunk must not change afterwards, and about 2 MiB are held at most.

        Raises Unavailable (507 when the disk is full), which may be a later call's answer to this chunk.
        """

    async def suspend(self) -> State:
        """Make everything written so far durable; `BlobStore.writer` goes on from the answer, after `close`.

        Nothing can be written any more. Whoever asks puts the answer down before `close`, or the next writer would
        begin from an older one.
        """

    async def finish(self) -> None:
        """Make the object complete, durable and readable under its key.

        Of several writers of one key at most one gets here: the others raise BlobUploadInvalid or
        BlobUploadUnknown, and none of them changes or removes the finished object.
        """

    async def close(self) -> None:
        """Let go and leave the object as it was: what was written since is cut off by the next writer. Never raises."""

    async def abort(self) -> None:
        """Let go and remove what was written; never raises for what is already gone, nor touches what is finished."""


class BlobStore(Protocol):
    """Where the bytes are. Every method raises Unavailable when the store cannot be reached."""

    async def writer(self, key: str, state: State | None = None) -> Writer:
        """Begin the object ``key``, or go on where ``suspend`` left it, on any worker of any host.

        Nothing is changed before the first `write`, `suspend` or `finish`. Bytes that a killed worker wrote after the
        last `suspend` are cut off. Raises BlobUploadInvalid where another request is writing the same object now (S3
        sees those on its own host here, others when they finish), BlobUploadUnknown where its bytes are gone. Of the
        states of one upload only the newest may be used.
        """

    async def adopt(self, key: str, path: Path) -> None:
        """Take a complete local file over as the object ``key``; the file at ``path`` may be gone afterwards.

        Open descriptors of the file stay readable.
        """

    def read(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Give bytes ``start`` up to ``stop`` of a finished object in pieces of at most 1 MiB.

        Raises BlobUnknown where the object is gone or not finished. The caller closes the generator.
        """

    async def locate(self, key: str) -> Path | str | None:
        """Say where a client or a web server may read the object without us.

        A path: a local file. A string: a presigned URL, for whom and how long the store was told. None: nowhere.
        """

    async def delete(self, key: str) -> None:
        """Remove the object and every half-written rest under its key; silent where nothing is there."""

    async def check(self) -> None:
        """Raise Unavailable, with the reason in words, unless objects can be written and read."""
