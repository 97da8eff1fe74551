"""Serves our styles, scripts and icons, and Bootstrap's from its wheel, as a fixed set of files in memory."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

from tornado.web import HTTPError

from app.web.base import Readable

_OURS = Path(__file__).parent.parent / "static"
_OF_BOOTSTRAP = ("css/bootstrap.min.css",)
_A_YEAR = 365 * 86400


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent. ``mark`` changes with its content. ``packed`` is empty if gzip makes it no smaller."""

    content: bytes
    packed: bytes
    media_type: str
    mark: str


@cache
def files() -> Mapping[str, File]:
    """Read every file under /static/, by its path there."""
    # The package itself is not imported, because all it does is to name this folder.
    bootstrap = Path(str(distribution("XStatic-Bootstrap").locate_file("xstatic/pkg/bootstrap/data")))
    ours = {path.relative_to(_OURS).as_posix(): path for path in _OURS.rglob("*") if path.is_file()}
    return {
        name: read(path) for name, path in {**ours, **{f"bootstrap/{x}": bootstrap / x for x in _OF_BOOTSTRAP}}.items()
    }


def address(path: str) -> str:
    """Return the address of a file with its mark, so that browsers can cache it forever."""
    return f"/static/{path}?v={files()[path].mark}"


def read(path: Path) -> File:
    """Read a file from the disk, with its media type and mark."""
    content = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    packed = gzip.compress(content, mtime=0)
    smaller = len(packed) < len(content) * 0.9
    return File(content, packed if smaller else b"", media_type, hashlib.sha256(content).hexdigest()[:12])


class StaticHandler(Readable):
    """Serves one of the files to everybody."""

    needs = "nothing"

    def check_xsrf_cookie(self) -> None:
        """Skip the check, because no form is accepted here. So an unsupported method gets 405 instead of 403."""

    async def get(self, path: str) -> None:
        await self.send_file(files().get(path))

    async def send_file(self, file: File | None) -> None:
        """Answer with a file, cacheable for a year if the address has its mark. Raise HTTPError 404 if it is None."""
        if file is None:
            raise HTTPError(404)
        marked = self.get_query_argument("v", "") == file.mark
        self.set_header("Content-Type", file.media_type)
        self.set_header("Cache-Control", f"public, max-age={_A_YEAR}, immutable" if marked else "no-cache")
        # Weak, because it names the packed bytes too.
        self.set_header("Etag", f'W/"{file.mark}"')
        self.set_header("Vary", "Accept-Encoding")
        if self.check_etag_header():
            self.set_status(304)
            await self.finish()
            return
        packs = bool(file.packed) and "gzip" in self.request.headers.get("Accept-Encoding", "")
        if packs:
            self.set_header("Content-Encoding", "gzip")
        await self.finish(file.packed if packs else file.content)
