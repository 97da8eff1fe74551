"""An upstream of one blob and a store, both in a folder: every process of a test acts on the same ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from app.mirror.fill import Fill
from app.mirror.fills import BlobRequest, Fills
from app.mirror.spool import SpoolPaths
from app.mirror.stored_blobs import StoredBlobs
from app.mirror.upstream import BlobBody, Upstream
from app.oci import errors
from app.oci.digest import Digest
from app.oci.errors import Unavailable
from app.oci.reference import Name
from app.projects.service import Repository

CHUNK = 64 * 1024
RIGHT = -1
REPOSITORY = Repository(Name.parse("mirror/library/blob"), 1, True, "docker.io", None)


@dataclass(frozen=True)
class Answer:
    """What the upstream does with one request; ``size`` is what it says: RIGHT, nothing, or another number."""

    cut_after: int | None = None
    end_after: int | None = None
    ignore_range: bool = False
    offset_more: int = 0
    size: int | None = RIGHT
    corrupt: bool = False
    extra: int = 0
    error: str | None = None


class _Body(BlobBody):
    def __init__(self, stage: Stage, answer: Answer, asked: int) -> None:  # nothing of a real body is there
        self._stage, self._answer = stage, answer
        self.offset = 0 if answer.ignore_range else asked + answer.offset_more
        self.size = len(stage.blob) if answer.size == RIGHT else answer.size

    async def chunks(self) -> AsyncIterator[bytes]:
        blob = self._stage.blob + b"x" * self._answer.extra
        if self._answer.corrupt:
            blob = bytes([blob[0] ^ 1]) + blob[1:]
        position = self.offset
        limits = [self.offset + n for n in (self._answer.cut_after, self._answer.end_after) if n is not None]
        stop = min([len(blob), *limits])
        while position < stop:
            gate = self._stage.gate(len(blob))
            if position >= gate:
                await asyncio.sleep(0.002)
                continue
            end = min(position + CHUNK, gate, stop)
            yield blob[position:end]
            position = end
        if self._answer.cut_after is not None:
            raise Unavailable("cut", headers={"Retry-After": "7"})


class Stage(Upstream, StoredBlobs):
    """One folder: ``spool`` for the fills, and what the upstream and the store know; stands in for both."""

    def __init__(self, folder: Path, blob: bytes | None = None, algorithm: str = "sha256") -> None:
        self.folder = folder
        self.spool = folder / "spool"
        if blob is not None:
            (folder / "blob").write_bytes(blob)
            (folder / "digest").write_text(Digest.of(blob, algorithm))
            self.answers()
        self.blob = (folder / "blob").read_bytes()
        self.digest = Digest((folder / "digest").read_text())

    def answers(self, *answers: Answer) -> None:
        """The n-th request from now on gets the n-th answer, what comes after them a proper one."""
        (self.folder / "answers").write_text(json.dumps([asdict(answer) for answer in answers]))
        (self.folder / "requests").write_text("")

    def open_gate(self, count: int | None) -> None:
        """Let the upstream give the blob's first ``count`` bytes and wait then; None: all."""
        (self.folder / "gate.new").write_text("" if count is None else str(count))
        (self.folder / "gate.new").replace(self.folder / "gate")

    def gate(self, default: int) -> int:
        try:
            return int((self.folder / "gate").read_text())
        except (FileNotFoundError, ValueError):
            return default

    def requests(self) -> list[tuple[int, int]]:
        """Every upstream request: the offset asked for, and the process that asked."""
        lines = (self.folder / "requests").read_text().splitlines()
        return [(int(offset), int(process)) for offset, process in (line.split() for line in lines)]

    def offsets(self) -> list[int]:
        return [offset for offset, _ in self.requests()]

    @asynccontextmanager
    async def open_blob(self, repository: str, digest: Digest, offset: int = 0) -> AsyncIterator[BlobBody]:
        assert (repository, digest) == (REPOSITORY.name.repository, self.digest)
        with (self.folder / "requests").open("a") as log:
            log.write(f"{offset} {os.getpid()}\n")
        answers = [Answer(**answer) for answer in json.loads((self.folder / "answers").read_text())]
        number = len(self.requests()) - 1
        answer = answers[number] if number < len(answers) else Answer()
        if answer.error is not None:
            raise getattr(errors, answer.error)(f"{answer.error} of the upstream", headers={"Retry-After": "7"})
        yield _Body(self, answer, offset)

    def commits(self) -> list[int]:
        """The size of every file that was committed."""
        path = self.folder / "commits"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def present(self, digest: Digest) -> bool:
        assert digest == self.digest
        return bool(self.commits())

    async def commit(self, repository: Repository, digest: Digest, path: Path, size: int) -> None:
        """Move and record; the file ``commit-trouble`` says what goes wrong: away, hang-before, hang-between."""
        trouble = self.folder / "commit-trouble"
        trouble_now = trouble.read_text() if trouble.exists() else ""
        if trouble_now == "away":
            raise Unavailable("the store is away", headers={"Retry-After": "9"})
        assert hashlib.new(self.digest.algorithm, path.read_bytes()).hexdigest() == self.digest.hex
        if trouble_now == "hang-between":
            path.replace(self.folder / "stored")
        if trouble_now:
            (self.folder / "hangs").write_text("")
            await asyncio.Event().wait()
        path.replace(self.folder / "stored")
        with (self.folder / "commits").open("a") as log:
            log.write(f"{size}\n")

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.spool.glob("*"))

    def part(self) -> Path:
        return SpoolPaths(self.spool, self.digest).part

    def request(self, size: int | None = RIGHT, upstream: Upstream | None = None) -> BlobRequest:
        """Ask for the blob; ``size`` as the descriptor has it."""
        size = len(self.blob) if size == RIGHT else size
        return BlobRequest(REPOSITORY, self.digest, size, upstream or self, self.spool)

    async def join(self, fills: Fills, size: int | None = RIGHT) -> Fill:
        """Join its fill, which is there."""
        fill = await fills.join(self.request(size))
        assert fill is not None
        return fill


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process or task brings about."""
    for _ in range(15_000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("waited in vain")


async def read_all(fill: Fill, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([piece async for piece in fill.read(start, stop)])
