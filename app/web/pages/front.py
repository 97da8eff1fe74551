"""The front page with the address helper, and the choice of a language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.access.notices import NOTICE_SECONDS
from app.access.principal import address_block
from app.access.roles import Role
from app.access.saml import own_page
from app.database import access_keys, activity, robots
from app.database.access_keys import AccessKey
from app.database.activity import Push
from app.database.keyset import Page
from app.database.projects import Filter
from app.database.robots import Robot
from app.web.base import MOST_OF_ANYBODY

from . import snippets, texts
from .addresses import AddressBook, Image, Outcome, Reading
from .base import PageHandler
from .texts import mark

_DOCKER_HUB = "docker.io"
# In bytes. A text of which the helper reads all takes at most three quarters of this, as browsers write it.
_MOST_PASTED = 512 * 1024
# Of a person's projects, and of the repositories in each of them, so many are looked at.
_MOST_PROJECTS, _REPOSITORIES_LOOKED = 50, 40
_MOST_PUSHES, _MOST_ENDING = 8, 5
_WHY: Mapping[Outcome, str] = {
    Outcome.OFFICIAL: mark("An official image: Docker Hub keeps it under library/, which is usually hidden."),
    Outcome.MIRRORED: "",
    Outcome.ALREADY: mark("This is already an address of this registry."),
    Outcome.MISSING_LIBRARY: mark("The hidden library/ was missing: without it, the answer is 401 unauthorized."),
    Outcome.ELSEWHERE: mark("%(registry)s is another registry and is not mirrored here; leave it as it is."),
    Outcome.STAGE: mark("A stage of this Dockerfile, not an image to pull."),
    Outcome.SCRATCH: mark("The empty image; nothing is pulled for it."),
    Outcome.UNSET: mark("Depends on the argument %(registry)s, which has no default value here."),
    Outcome.LOCAL: mark("An image on the machine itself; leave it as it is."),
    Outcome.CAPITALS: mark("Names of images are in lower case, so this one is written so."),
    Outcome.INVALID: mark("This is not the name of an image."),
}


@dataclass(frozen=True, slots=True)
class Own:
    """The own part of a person's front page: the latest pushes, and the keys and robots that end soon.

    A robot account stands beside the name of its project.
    """

    projects: int
    pushes: Sequence[Push]
    keys: Sequence[AccessKey]
    robots: Sequence[tuple[str, Robot]]


class FrontPage(PageHandler):
    """The front page. A form sent here is the address helper's, from a browser without JavaScript."""

    needs = "nothing"
    most_body = _MOST_PASTED

    async def get(self) -> None:
        await self._front("", None)

    async def post(self) -> None:
        text = self.get_body_argument("text", "", strip=False)
        await self._front(text, await self.read(text))

    async def _front(self, text: str, reading: Reading | None) -> None:
        mirror = self.services.mirrors.get(_DOCKER_HUB)
        scheme = self.services.external_url.partition("://")[0]
        hosts = self.services.mirror_hosts
        self.show(
            "front.html",
            text=text,
            reading=reading,
            why=self.why,
            own=None if self.principal.id is None else await self._own(self.principal.id),
            mirror=mirror,
            ways=snippets.ways(self.services.external_url, mirror, f"{scheme}://{hosts[0]}" if hosts else None)
            if mirror
            else (),
        )

    async def _own(self, account: int) -> Own:
        """Read what was pushed lately to the person's projects, and which of their keys and robots end soon."""
        read, until = self.services.database.read, self.now + NOTICE_SECONDS
        entries = await self.services.projects.page(self.principal, Page(_MOST_PROJECTS), Filter(mine=True))
        names = {entry.project.id: entry.project.name for entry in entries}
        managed = [entry.project.id for entry in entries if entry.role == Role.PROJECT_ADMIN]
        keys = await read(access_keys.of_account, account)
        robots_ending = await read(robots.ending, managed, self.now, until, _MOST_ENDING)
        return Own(
            projects=len(names),
            pushes=await read(activity.pushed, names, looked=_REPOSITORIES_LOOKED, limit=_MOST_PUSHES),
            keys=[key for key in keys if key.expires_at and self.now < key.expires_at <= until],
            robots=[(names[one.project_id or 0], one) for one in robots_ending],
        )

    async def read(self, text: str) -> Reading:
        """Find the images in a text, and their addresses here; raises TooManyRequests."""
        book = AddressBook(self.services.host, self.services.mirrors)
        return await self.services.computations.run(address_block(self.client_address), book.read, text)

    def why(self, image: Image) -> str:
        """Return the note on how an image's name was understood."""
        text = _WHY[image.outcome]
        return self._(text) % {"registry": image.registry} if text else ""


class AddressesPage(FrontPage):
    """Only the address helper's answers, for the script that asks while somebody types."""

    needs = "nothing"

    async def get(self) -> None:
        self.redirect("/", status=303)

    async def post(self) -> None:
        reading = await self.read(self.get_body_argument("text", "", strip=False))
        self.show("answers.html", reading=reading, why=self.why)


class LanguagePage(PageHandler):
    """Keeps the chosen language for a year, and returns to the page where it was chosen."""

    needs = "nothing"
    most_body = MOST_OF_ANYBODY

    async def post(self) -> None:
        language = self.field("language")
        if language in texts.LANGUAGES:
            self.browsers.cookies.set(self, texts.COOKIE, language, seconds=365 * 86400)
        self.redirect(own_page(self.field("next")), status=303)
