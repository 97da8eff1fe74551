"""The front page with the address helper, and the choice of a language."""

from __future__ import annotations

from collections.abc import Mapping

from app.access.principal import address_block
from app.access.saml import own_page
from app.web.base import MOST_OF_ANYBODY

from . import snippets, texts
from .addresses import AddressBook, Image, Outcome, Reading
from .base import PageHandler
from .texts import mark

_DOCKER_HUB = "docker.io"
# In bytes. A text of which the helper reads all takes at most three quarters of this, as browsers write it.
_MOST_PASTED = 512 * 1024
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


class FrontPage(PageHandler):
    """The front page. A form sent here is the address helper's, from a browser without JavaScript."""

    needs = "nothing"
    most_body = _MOST_PASTED

    async def get(self) -> None:
        self._front("", None)

    async def post(self) -> None:
        text = self.get_body_argument("text", "", strip=False)
        self._front(text, await self.read(text))

    def _front(self, text: str, reading: Reading | None) -> None:
        mirror = self.services.mirrors.get(_DOCKER_HUB)
        scheme = self.services.external_url.partition("://")[0]
        hosts = self.services.mirror_hosts
        self.show(
            "front.html",
            text=text,
            reading=reading,
            why=self.why,
            mirror=mirror,
            ways=snippets.ways(self.services.external_url, mirror, f"{scheme}://{hosts[0]}" if hosts else None)
            if mirror
            else (),
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
