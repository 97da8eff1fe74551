"""Read Helm charts for people: what the config says, and the values and README in the chart's archive.

The archive is read only if somebody asks for its files, within bounds, and beside the event loop.
Source: helm.sh/docs/topics/charts (Chart.yaml) and /topics/registries (media types).
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from app.access.computations import Computations
from app.access.errors import Invalid, Missing, PreconditionFailed
from app.database import Database, blobs
from app.database.quotas import in_words
from app.oci.digest import Digest
from app.oci.errors import BlobUnknown, ManifestInvalid
from app.oci.manifest import read_object
from app.storage import BlobStore

from .artifacts import ArtifactDetail

_ARCHIVE = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
# In bytes. Charts have some dozen KiB; the largest that are in use have a MiB.
_MOST_CONFIG = 256 * 1024
_MOST_ARCHIVE = 4 * 1024 * 1024
_MOST_UNPACKED = 32 * 1024 * 1024
# So much of a file is read, and so many of the archive's files are looked at.
_MOST_OF_FILE = 64 * 1024
_MOST_FILES = 10_000
_MOST_KEPT = 20
_MOST_ITEMS, _MOST_CHARACTERS = 50, 500


@dataclass(frozen=True, slots=True)
class Dependency:
    """A chart that a chart needs; ``repository`` is where to find it."""

    name: str
    version: str
    repository: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The details that a chart states; each text may be "", and each list empty."""

    name: str
    version: str
    app_version: str
    description: str
    kube_version: str
    home: str
    deprecated: bool
    sources: Sequence[str]
    maintainers: Sequence[str]
    dependencies: Sequence[Dependency]


@dataclass(frozen=True, slots=True)
class ChartFiles:
    """The beginnings of a chart's own values.yaml and README.md, "" if it has none."""

    values: str
    readme: str


class Charts:
    """Reads charts of hosting projects and of mirrors. A digest's bytes never change, so the last files are kept."""

    def __init__(self, database: Database, store: BlobStore, computations: Computations) -> None:
        self._database = database
        self._store = store
        self._computations = computations
        self._kept: LRUCache[Digest, ChartFiles] = LRUCache(_MOST_KEPT)

    async def about(self, repository_id: int, detail: ArtifactDetail) -> Chart | None:
        """Return what a chart says about itself; None if that is not here, too large or not understood.

        Raises Unavailable.
        """
        for digest in detail.config_digests:
            content = await self._content(repository_id, digest, _MOST_CONFIG)
            return None if content is None else read_chart(content)
        return None

    async def files(self, repository_id: int, detail: ArtifactDetail, whose: str) -> ChartFiles:
        """Return the files of a chart's archive; ``whose`` is as in `Computations.run`.

        Raises Missing if there is no archive here, PreconditionFailed if it is too large, Invalid if it cannot be read,
        TooManyRequests and Unavailable.
        """
        digest = next((layer.digest for layer in detail.layers if layer.media_type == _ARCHIVE), None)
        if digest is None:
            raise Missing("this artifact has no chart's archive")
        # Looked up every time, because a link in another repository gives no right to it.
        found = await blobs.linked(self._database, repository_id, digest)
        if found is None:
            raise Missing("the chart's archive is not here yet; pull the chart first")
        if found.size > _MOST_ARCHIVE:
            raise PreconditionFailed(
                "the chart's archive has %(size)s, and only %(most)s are read here; pull it to see its files",
                size=in_words(found.size),
                most=in_words(_MOST_ARCHIVE),
            )
        kept = self._kept.get(digest)
        if kept is None:
            content = await self._content(repository_id, digest, _MOST_ARCHIVE)
            if content is None:
                raise Missing("the chart's archive is not here yet; pull the chart first")
            kept = self._kept[digest] = await self._computations.run(whose, read_files, content)
        return kept

    async def _content(self, repository_id: int, digest: Digest, most: int) -> bytes | None:
        found = await blobs.linked(self._database, repository_id, digest)
        if found is None or found.size > most:
            return None
        try:
            async with aclosing(self._store.read(found.object_key, 0, found.size)) as pieces:
                return b"".join([piece async for piece in pieces])
        except BlobUnknown:
            return None


def read_chart(content: bytes) -> Chart | None:
    """Parse a chart's config, which is its Chart.yaml as JSON, without trust: odd values are left out."""
    try:
        document = read_object(content)[0]
    except ManifestInvalid:
        return None
    return Chart(
        name=_text(document, "name"),
        version=_text(document, "version"),
        app_version=_text(document, "appVersion"),
        description=_text(document, "description"),
        kube_version=_text(document, "kubeVersion"),
        home=_text(document, "home"),
        deprecated=document.get("deprecated") is True,
        sources=[_cut(each) for each in _items(document, "sources") if isinstance(each, str)],
        maintainers=[_text(each, "name") for each in _items(document, "maintainers") if isinstance(each, dict)],
        dependencies=[
            Dependency(_text(each, "name"), _text(each, "version"), _text(each, "repository"))
            for each in _items(document, "dependencies")
            if isinstance(each, dict)
        ],
    )


def read_files(archive: bytes) -> ChartFiles:
    """Read the files of a chart from its archive; raises Invalid."""
    found: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=_Unpacked(archive), mode="r|") as members:
            for number, member in enumerate(members):
                # The chart's own files are in its folder; those of its dependencies are further down.
                folder, _, name = member.name.removeprefix("./").partition("/")
                if number >= _MOST_FILES or len(found) == len(_NAMES):
                    break
                if folder and name.lower() in _NAMES and member.isreg():
                    file = members.extractfile(member)
                    found[name.lower()] = file.read(_MOST_OF_FILE).decode(errors="replace") if file else ""
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, OSError, ValueError):
        raise Invalid("this is no chart's archive that can be read") from None
    return ChartFiles(*(found.get(name, "") for name in _NAMES))


_NAMES = ("values.yaml", "readme.md")


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a gzip file; reading more than `_MOST_UNPACKED` of them raises OSError."""

    def __init__(self, packed: bytes) -> None:
        super().__init__()
        self._file = gzip.GzipFile(fileobj=io.BytesIO(packed))
        self._left = _MOST_UNPACKED

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if 0 <= size <= self._left else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise OSError("the archive unpacks to too many bytes")
        return data


def _items(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    return value[:_MOST_ITEMS] if isinstance(value, list) else []


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return _cut(value) if isinstance(value, str) else ""


def _cut(text: str) -> str:
    """Return the beginning of a text that a page can hold, without half surrogate pairs."""
    return text[:_MOST_CHARACTERS].encode(errors="replace").decode()
