"""The page that finds projects and repositories by a part of their names, or by a copied image's address."""

from __future__ import annotations

from functools import partial

from app.database.keyset import Page
from app.database.projects import ProjectEntry

from . import words
from .base import Listing, PageHandler

_MOST_PROJECTS = 8
_LONGEST = 300


class SearchPage(PageHandler):
    """The first few projects, and pages of repositories, with that name among those that the visitor may see."""

    needs = "nothing"
    section = "search"

    async def get(self) -> None:
        text = self.searched = name_in(self.query("q")[:_LONGEST], self.services.host)
        projects: list[ProjectEntry] = []
        if text and not self.query("after") and not self.query("before"):
            projects = await self.services.projects.page(self.principal, Page(_MOST_PROJECTS + 1, search=text))
        ask = partial(self.services.repositories.search, self.principal)
        self.show(
            "search.html",
            search=text,
            projects=projects[:_MOST_PROJECTS],
            more_projects=len(projects) > _MOST_PROJECTS,
            listing=await self.listing(ask, lambda entry: entry.full_name, text) if text else Listing((), None),
            role_names=words.ROLES,
        )


def name_in(text: str, host: str) -> str:
    """Return the repository's name in an image's address, without our host, the tag and the digest."""
    name = text.removeprefix("https://").removeprefix("http://").removeprefix(f"{host}/")
    name, _, digest = name.partition("@")
    if digest and not digest.startswith(("sha256:", "sha512:")):
        return text
    return name.partition(":")[0]
