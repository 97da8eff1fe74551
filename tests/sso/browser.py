"""A browser as far as logging in needs one: cookies, redirects one by one, forms filled in and sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import aiohttp
from yarl import URL

_MOST_STEPS = 12


@dataclass
class Form:
    """A form as the page has it."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """An answer, with the address it came from."""

    url: str
    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def forms(self) -> list[Form]:
        reader = _Forms()
        reader.feed(self.text)
        return reader.forms

    @property
    def location(self) -> str:
        """Where it leads to: a redirect, or a Refresh header."""
        refresh = self.headers.get("Refresh", "").partition("url=")[2]
        return urljoin(self.url, self.headers.get("Location", refresh))

    @property
    def query(self) -> dict[str, str]:
        """The query of `location`."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.location).query).items()}


class Browser:
    """Cookies of its own; nobody else's session."""

    def __init__(self, service_url: str) -> None:
        self.service = service_url
        self._jar = aiohttp.CookieJar(unsafe=True)

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(cookie_jar=self._jar, timeout=aiohttp.ClientTimeout(30))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def get(self, address: str) -> Page:
        """Ask for a page, without following where it leads."""
        return await self._ask("GET", address)

    async def post(self, address: str, form: Mapping[str, str]) -> Page:
        return await self._ask("POST", address, form)

    async def follow(self, page: Page) -> Page:
        """Go on until a page leads nowhere by itself."""
        for _ in range(_MOST_STEPS):
            if not page.headers.get("Location") and not page.headers.get("Refresh"):
                return page
            page = await self.get(page.location)
        raise AssertionError(f"still redirected after {_MOST_STEPS} steps, to {page.url}")

    async def send(self, page: Page, **values: str) -> Page:
        """Fill the first form of a page in that has these fields, and send it."""
        form = next(form for form in page.forms if set(values) - {"RelayState"} <= set(form.fields))
        return await self.post(urljoin(page.url, form.action), {**form.fields, **values})

    async def at_identity_provider(self, username: str, next_page: str = "/") -> Page:
        """Begin a log-in and do everything at the identity provider; gives the page that posts its answer to us."""
        page = await self.follow(await self.get(f"/saml/login?next={quote(next_page)}"))
        if page.forms and "username" in page.forms[0].fields:
            page = await self.follow(await self.send(page, username=username, password=f"{username}pass"))
        assert any("SAMLResponse" in form.fields for form in page.forms[:1]), page.text[:2000]
        return page

    async def log_in(self, username: str, next_page: str = "/") -> Page:
        """Log in with the university; gives what our service answers to it."""
        return await self.send(await self.at_identity_provider(username, next_page))

    async def log_out(self) -> Page:
        """Log out as the button of our pages does; gives the service's answer."""
        page = await self.get("/")
        (form,) = [form for form in page.forms if form.action == "/logout"]
        return await self.post(form.action, form.fields)

    async def me(self) -> dict[str, object] | None:
        """Ask who we are; None where we are nobody."""
        async with self._client.get(f"{self.service}/api/v2.0/users/current") as answer:
            return None if answer.status == 401 else dict(await answer.json())

    def cookies(self, path: str = "/") -> dict[str, str]:
        """Give the cookies that the service would be sent."""
        found = self._jar.filter_cookies(URL(self.service + path))
        return {name: morsel.value for name, morsel in found.items()}

    def forget(self, prefix: str) -> None:
        """Lose the cookies whose names begin so."""
        self._jar.clear(lambda morsel: morsel.key.startswith(prefix))

    def plant(self, **cookies: str) -> None:
        """Set cookies that the service never gave."""
        self._jar.update_cookies(cookies, URL(self.service))

    async def _ask(self, method: str, address: str, form: Mapping[str, str] | None = None) -> Page:
        url = urljoin(self.service, address)
        # As it is: a signature of the query does not stand another spelling of it.
        async with self._client.request(method, URL(url, encoded=True), data=form, allow_redirects=False) as answer:
            return Page(url, answer.status, await answer.text(), answer.headers)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", "?"), given.get("method", "get")))
        elif tag in ("input", "button") and self.forms and given.get("name"):
            self.forms[-1].fields.setdefault(given["name"], given.get("value", ""))
