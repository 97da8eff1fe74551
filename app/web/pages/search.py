"""The page that finds projects, repositories, tags, digests and people, also by a copied image's address."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

from app.access.principal import PrincipalKind
from app.database import accounts, repositories
from app.database.accounts import Person
from app.database.keyset import Page
from app.database.projects import ProjectEntry
from app.database.repositories import Holding, RepositoryEntry

from . import words
from .base import Listing, PageHandler

_MOST_PROJECTS = 8
_LONGEST = 300
# The beginning of a digest; a shorter one could be the name of anything.
_DIGEST = re.compile(r"(?:sha(?:256|512):[0-9a-f]{1,128}|[0-9a-f]{12,128})\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_TAGGED = re.compile(r"(?P<name>[^\s:@]*):(?P<tag>[^\s:@/]+)\Z")


class SearchPage(PageHandler):
    """Lists things that the visitor may see by a part of a name; ``in`` says which kind of thing."""

    needs = "nothing"
    section = "search"

    async def get(self) -> None:
        text = self.searched = self.query("q")[:_LONGEST]
        kind = self._kind(text)
        if kind == "people":
            await self._people(text)
        elif kind in ("tags", "digests"):
            await self._holding(text, kind)
        else:
            await self._names(name_in(text, self.services.host))

    def _kind(self, text: str) -> str:
        """Return what is looked for: as the visitor chose, else as the text looks like."""
        chosen = self.query("in")
        if chosen == "people" and self.principal.kind is not PrincipalKind.PERSON:
            return "names"
        if chosen in _KINDS:
            return chosen
        return "digests" if _DIGEST.match(digest_in(text)) else "names"

    async def _names(self, text: str) -> None:
        self.searched = text
        projects: list[ProjectEntry] = []
        if text and not self.query("after") and not self.query("before"):
            projects = await self.services.projects.page(self.principal, Page(_MOST_PROJECTS + 1, search=text))
        listing: Listing[RepositoryEntry] = Listing((), None)
        if text:
            ask = partial(self.services.repositories.search, self.principal)
            listing = await self.listing(ask, lambda entry: entry.full_name, text)
        self._show(
            text, "names", listing, projects=projects[:_MOST_PROJECTS], more_projects=len(projects) > _MOST_PROJECTS
        )

    async def _holding(self, text: str, kind: str) -> None:
        """Find the repositories with such a tag or digest; before a tag there may be a part of a name."""
        name, holding = wanted(text, kind, self.services.host)
        listing: Listing[RepositoryEntry] = Listing((), None)
        held: Mapping[int, str] = {}
        if holding is not None:
            ask = partial(self.services.repositories.search, self.principal, holding=holding)
            listing = await self.listing(ask, lambda entry: entry.full_name, name)
            ids = [entry.id for entry in listing.items]
            held = await self.services.database.read(repositories.held, ids, holding)
        self._show(text, kind, listing, held=held)

    async def _people(self, text: str) -> None:
        listing: Listing[Person] = Listing((), None)
        if text:
            listing = await self.listing(
                lambda page: self.services.database.read(accounts.page, page), lambda person: person.username, text
            )
        self._show(text, "people", listing)

    def _show(
        self,
        text: str,
        kind: str,
        listing: Listing[RepositoryEntry] | Listing[Person],
        *,
        projects: Sequence[ProjectEntry] = (),
        more_projects: bool = False,
        held: Mapping[int, str] | None = None,
    ) -> None:
        self.show(
            "search.html",
            search=text,
            typed=self.query("q")[:_LONGEST],
            kind=kind,
            listing=listing,
            projects=projects,
            more_projects=more_projects,
            held=held or {},
            is_person=self.principal.kind is PrincipalKind.PERSON,
            role_names=words.ROLES,
        )


_KINDS = ("names", "tags", "digests", "people")


def name_in(text: str, host: str) -> str:
    """Return the repository's name in an image's address, without our host, the tag and the digest."""
    name = _without_host(text, host)
    name, _, digest = name.partition("@")
    if digest and not digest.startswith(("sha256:", "sha512:")):
        return text
    return name.partition(":")[0]


def digest_in(text: str) -> str:
    """Return the digest in an image's address, or the text itself."""
    return text.rpartition("@")[2]


def wanted(text: str, kind: str, host: str) -> tuple[str, Holding | None]:
    """Return a part of a repository's name, and the tag or digest that it must hold; None if the text is neither."""
    if kind == "digests":
        digest = digest_in(text).lower()
        if not _DIGEST.match(digest):
            return "", None
        return "", Holding("digest", digest if ":" in digest else f"sha256:{digest}")
    tagged = _TAGGED.match(_without_host(text, host))
    name, tag = (tagged["name"], tagged["tag"]) if tagged else ("", text)
    return (name, Holding("tag", tag)) if _TAG.match(tag) else ("", None)


def _without_host(text: str, host: str) -> str:
    return text.removeprefix("https://").removeprefix("http://").removeprefix(f"{host}/")
