"""The base of all pages: the visitor, the language, the security headers, forms and errors."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode, urlsplit

from tornado.escape import xhtml_escape
from tornado.locale import Locale
from tornado.web import Finish, HTTPError

from app.access.errors import Invalid, Missing
from app.access.principal import ANONYMOUS, Principal
from app.access.roles import READ_PROJECT
from app.access.saml import own_page
from app.access.sessions import Session
from app.database.keyset import MOST_SEARCHED, Entries, Page
from app.oci.errors import OCIError, Unauthorized
from app.projects import checks
from app.web.access_control import WORDS, ProjectView
from app.web.base import Handler, Readable
from app.web.csrf import ProtectedHandler
from app.web.login import login_address
from app.web.services import Services
from app.web.session import BrowserSessions

from . import shapes, static, texts

_TEMPLATES = Path(__file__).parent.parent / "templates"
_ADDRESS = re.compile(r"/[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._/-]*(?::[A-Za-z0-9_][A-Za-z0-9._-]*)?)?\Z")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FLASH = "flash"
_FLASH_SECONDS = 60
# In bytes. Browsers drop cookies of more than 4096 bytes, and the signature and base64 count.
_LONGEST_FLASH = 2000
# Bootstrap's own styles draw arrows and ticks from data: addresses.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
PAGE_SIZE = 25
# The classes of a control that asks first, and of its summary: in the row of a list, on a page, in an open menu.
_LOOKS = {
    "icon": ("drop drop-end confirm", "btn btn-sm btn-quiet danger"),
    "button": ("drop confirm", "btn btn-plain"),
    "entry": ("ask", ""),
}
# Both databases take any number of this many digits as an id.
_ID_DIGITS = 18


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One page of a list, with the keys for the next page (it begins after) and the one before (it ends at).

    ``searched``: the search has looked at so many entries and goes on from the key. ``number`` is that of this page,
    and ``pages`` says how many there are; 0 and "" if that is not known.
    """

    items: Sequence[T]
    following: str | None
    preceding: str | None = None
    searched: int | None = None
    number: int = 0
    pages: str = ""

    @classmethod
    def cut(cls, found: Sequence[T], key: Callable[[T], object]) -> Listing[T]:
        """Make a page of a service's answer, which was asked for one item more than `PAGE_SIZE`."""
        items = found[:PAGE_SIZE]
        if isinstance(found, Entries) and found.reached is not None:
            return cls(items, str(found.reached), searched=MOST_SEARCHED)
        return cls(items, str(key(items[-1])) if len(found) > PAGE_SIZE else None)


class PageHandler(ProtectedHandler, Readable):
    """A page, or the action of one of its forms.

    ``needs`` is a word of `app.web.access_control` or a right. The right is needed in the project that the path names
    as ``project``, which is then ``self.project``. A path without a project is about the whole system, and needs an
    administrator. A form that is sent to the page itself may need more: ``needs_to_send``. The answer to a form is a
    redirect with one message, or the page again with the mistake.
    """

    needs_to_send: str | None = None
    # The entry of the menu that is marked as current.
    section = ""
    compressed = True
    # The text in the field for a search of the whole registry.
    searched = ""

    def initialize(self, *, services: Services) -> None:  # type: ignore[override]  # the route table gives services
        super().initialize(observer=services.observer)
        self.services = services
        self.principal: Principal = ANONYMOUS
        self.session: Session | None = None
        self.project: ProjectView | None = None
        self._message: tuple[str, str] | None = None

    async def admit(self) -> None:
        await self._recognise()
        self._message = self._take_flash()
        try:
            await self._admit()
        except Unauthorized:
            # A form has no page of its own. The browser keeps what was typed in it, see static/page.js.
            self.redirect(
                login_address(self.request.uri or "/" if self.method in _SAFE else self.came_from), status=303
            )
            raise Finish from None

    async def _recognise(self) -> None:
        found = await self.services.browsers.signed_in(self)
        if found is not None:
            self.session, self.principal = found
            self.subject = self.principal.subject

    async def _admit(self) -> None:
        needs = self.needs if self.method in _SAFE else self.needs_to_send or self.needs
        if self.method not in _SAFE and needs != "nothing":
            # Everybody has some rights in a public project, but nobody acts there without a name.
            self.services.access_control.admit(self.principal, "login")
        if needs in WORDS:
            self.services.access_control.admit(self.principal, needs)
        elif "project" in self.path_kwargs:
            self.project = await self.services.access_control.open(self.principal, self.path_kwargs["project"], needs)
        else:
            self.services.access_control.admit(self.principal, "admin")

    @property
    def opened(self) -> ProjectView:
        """Return the project of a page that needs a right in one."""
        assert self.project is not None, "only pages that need a right in a project"  # noqa: S101 - for the types
        return self.project

    @property
    def now(self) -> float:
        """Return the time in seconds that a page's dates are relative to."""
        return time.time()

    # Forms and parameters

    def field(self, name: str, default: str = "") -> str:
        """Read one field of a form."""
        return self.get_body_argument(name, default).strip()

    def ticked(self, name: str) -> bool:
        """Return whether a box was ticked."""
        return self.field(name) != ""

    def query(self, name: str, default: str = "") -> str:
        """Read a parameter of the address."""
        return self.get_query_argument(name, default).strip()

    def number(self, name: str) -> int | None:
        """Read an id in the address, None if it is missing or not an id."""
        return _id(self.query(name))

    def chosen(self, name: str) -> int:
        """Read the id in a form's field. Raise Invalid if it is not one."""
        found = _id(self.field(name))
        if found is None:
            raise Invalid("Choose one from the list.")
        return found

    async def listing(
        self,
        ask: Callable[[Page[str]], Awaitable[Sequence[T]]],
        key: Callable[[T], str],
        search: str = "",
        *,
        jumps: bool = False,
    ) -> Listing[T]:
        """Read the page of a list that the address names: past its ``after``, or up to its ``before``.

        With ``jumps`` it may name a page by its number, too. Entries before that are skipped in an index. If nothing is
        left there, for example after the last entry was deleted, it is the first page.
        """
        after, before, number = self.query("after"), self.query("before"), self.number("page") or 1
        skipped = 0 if after or before or not jumps else min(number - 1, MOST_SEARCHED // PAGE_SIZE - 1) * PAGE_SIZE
        wanted = Page(PAGE_SIZE + 1, after or None, before or None, offset=max(skipped, 0), search=search)
        found = await ask(wanted)
        if (
            not found
            and (after or before or skipped)
            and not (isinstance(found, Entries) and found.reached is not None)
        ):
            after, before, number, skipped = "", "", 1, 0
            found = await ask(Page(PAGE_SIZE + 1, search=search))
        listing = self._cut(found, key, before) if before else Listing.cut(found, key)
        if (after or skipped) and listing.items:
            listing = replace(listing, preceding=key(listing.items[0]))
        return replace(listing, number=number) if jumps else listing

    def _cut(self, found: Sequence[T], key: Callable[[T], str], before: str) -> Listing[T]:
        """Make a page of a service's answer to what is before a key."""
        if isinstance(found, Entries) and found.reached is not None:
            return Listing(found, before, str(found.reached), searched=MOST_SEARCHED)
        items, is_first = found[-PAGE_SIZE:], len(found) <= PAGE_SIZE
        if not items:
            return Listing((), None)
        return Listing(items, key(items[-1]), None if is_first else key(items[0]))

    def mistake(self, error: OCIError) -> str:
        """Set the status and return the text for a form that is shown again. Raise an error of the service (5xx)."""
        if error.answer_status >= 500:
            raise error
        self.set_status(error.answer_status)
        return self.said(error)

    async def settle(self, doing: Awaitable[object], done: str, to: str) -> None:
        """Run a form's action, then redirect to a page with a message on its result.

        Raise 401 and errors of the service (5xx).
        """
        await self.settle_with(doing, [done], to)

    async def settle_with(self, doing: Awaitable[object], done: Sequence[str], to: str) -> None:
        """Do as `settle`; the action may add sentences to the message ``done``."""
        try:
            await doing
        except OCIError as error:
            if error.answer_status >= 500 or error.answer_status == 401:
                raise
            self.flash("danger", self.said(error))
        else:
            self.flash("success", " ".join(done))
        self.redirect(self.returning(to), status=303)

    @property
    def came_from(self) -> str:
        """Return the page of ours that the request was sent from, with its query; "/" if the browser does not say."""
        try:
            named = urlsplit(self.request.headers.get("Referer", ""))
        except ValueError:
            return "/"
        if named.netloc != self.request.host:
            return "/"
        return own_page(named.path + (f"?{named.query}" if named.query else ""))

    def returning(self, to: str) -> str:
        """Return the page ``to`` as the visitor saw it before a form was sent: at its place, searched and ordered."""
        seen = self.came_from
        return seen if seen.partition("?")[0] == to else to

    def note(self, operation: str, resource_type: str, resource: str, project: tuple[int, str] | None = None) -> None:
        """Write an action to the audit log, under the page's own project or the one that is given."""
        of = project or (None if self.project is None else (self.project.id, self.project.name))
        self.services.audit.note(self.principal, self.request.remote_ip or "", operation, resource_type, resource, of)

    def flash(self, kind: str, text: str) -> None:
        """Leave a message (success, warning, danger) for the next page of this browser session."""
        cut = text.encode(errors="replace")[:_LONGEST_FLASH].decode(errors="ignore")
        packed = json.dumps([self._whose, kind, cut], ensure_ascii=False)
        cookies = self.browsers.cookies
        cookies.set(self, _FLASH, self.create_signed_value(cookies.name(_FLASH), packed), seconds=_FLASH_SECONDS)

    def _take_flash(self) -> tuple[str, str] | None:
        cookies = self.browsers.cookies
        if cookies.get(self, _FLASH) is None:
            return None
        packed = self.get_signed_cookie(cookies.name(_FLASH), max_age_days=_FLASH_SECONDS / 86400)
        cookies.clear(self, _FLASH)
        # The message is signed, and bound to this session. So nobody can show their own words on our pages by planting
        # a cookie, not even a message that was once signed for themselves.
        whose, kind, text = json.loads(packed) if packed else ("", "", "")
        return (kind, text) if whose and whose == self._whose else None

    @property
    def _whose(self) -> str:
        return self.session.id if self.session is not None else ""

    async def or_missing(self, found: Awaitable[T | None]) -> T:
        """Return the value that was looked for. Raise Missing if it is None."""
        there = await found
        if there is None:
            raise Missing
        return there

    # Rendering

    def get_user_locale(self) -> Locale:
        return texts.choose(
            self.browsers.cookies.get(self, texts.COOKIE), self.request.headers.get("Accept-Language", "")
        )

    def _(self, message: str, plural: str | None = None, count: int | None = None) -> str:
        return self.locale.translate(message, plural, count)

    def said(self, error: OCIError) -> str:
        """Return an error's text in the visitor's language."""
        return texts.said(error, self.locale)

    def show(self, template: str, **values: object) -> None:
        """Render a template as the answer."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store" if not self.principal.is_anonymous else "private, no-cache")
        _ = self.render(template, **values)

    def get_template_path(self) -> str:
        return str(_TEMPLATES)

    def get_template_namespace(self) -> dict[str, Any]:
        language = self.locale.code.partition("_")[0]
        return {
            **super().get_template_namespace(),
            "services": self.services,
            "host": self.services.host,
            "principal": self.principal,
            "project": self.project,
            "may": self.may,
            "section": self.section,
            "language": language,
            "languages": texts.NAMES,
            "message": self._message,
            "here": self.request.uri or "/",
            "static": static.address,
            "size": shapes.size,
            "number": shapes.number,
            "counted": shapes.counted,
            "browser": shapes.browser,
            "short": shapes.short,
            "short_names": shapes.short_names,
            "in_path": shapes.in_path,
            "moment": shapes.moment,
            "icon_html": shapes.icon_html,
            "dot_html": shapes.dot_html,
            "when_html": lambda seconds: shapes.when_html(seconds, self.locale),
            "copy_html": lambda text, what="": shapes.copy_html(text, self.locale, what),
            "copy_from_html": lambda element, what: shapes.copy_from_html(element, self.locale, what),
            "confirm_html": self.confirm_html,
            "with_query": self.with_query,
        }

    def confirm_html(
        self,
        action: str,
        label: str,
        what: str,
        question: str,
        icon: str = "trash",
        look: str = "icon",
        /,
        **fields: object,
    ) -> str:
        """Return a control that asks first: a fold with the question and the form.

        ``what`` is the thing that it acts on. It tells the controls of a list apart for those who do not see them.
        ``look`` is a key of `_LOOKS`.
        """
        hidden = "".join(
            f'<input type="hidden" name="{xhtml_escape(name)}" value="{xhtml_escape(str(value))}">'
            for name, value in fields.items()
        )
        name = xhtml_escape(label)
        rest = f'<span class="visually-hidden"> {xhtml_escape(what)}</span>' if what else ""
        shown = f'<span class="visually-hidden">{name}</span>' if look == "icon" else name
        form = (
            f'<form method="post" action="{xhtml_escape(action)}">{self.xsrf_form_html()}{hidden}'
            f'<p>{xhtml_escape(question)}</p><button class="btn btn-sm btn-bad">{name}</button></form>'
        )
        body = form if look == "entry" else f'<div class="drop-body">{form}</div>'
        fold, summary = _LOOKS[look]
        return (
            f'<details class="{fold}"><summary class="{summary}" title="{name}">{shapes.icon_html(icon)}{shown}{rest}'
            f"</summary>{body}</details>"
        )

    def may(self, right: str) -> bool:
        """Return whether the visitor has a right in this project. Pages show no control without its right."""
        return self.project is not None and self.project.may(right)

    def with_query(self, **changes: object) -> str:
        """Return this page's address with other parameters. Empty ones are left out."""
        now = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        merged: Mapping[str, object] = {**now, **changes}
        query = urlencode({name: value for name, value in merged.items() if value not in ("", None)})
        return self.request.path + (f"?{query}" if query else "")

    # Errors

    @property
    def browsers(self) -> BrowserSessions:
        return self.services.browsers

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        said = self.said(error) if isinstance(error, OCIError) else ""
        if isinstance(error, HTTPError) and status_code == 403:
            said = self._(
                "This form was open for too long, or came from another site. Open the page again and try once more."
            )
        self.set_header("X-Request-Id", self.request_id)
        if isinstance(error, OCIError):
            for name, value in error.headers.items():
                self.set_header(name, value)
        self.show("error.html", status=status_code, said=said, request_id=self.request_id)


def _id(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS else None


def whole(key: str) -> int:
    """Read a list's key that is an id. Raise Invalid if it is not one."""
    found = _id(key)
    if found is None:
        raise checks.no_position(key)
    return found


class NotFoundPage(PageHandler):
    """Every path that has no other handler.

    People may type an image's address into the browser, so HOST/project/repository leads to its page. Programs get
    JSON, as from everything outside the pages.
    """

    needs = "nothing"

    def check_xsrf_cookie(self) -> None:
        """Skip the check, because nothing is done here."""

    async def admit(self) -> None:
        await self._recognise()
        if self.method in ("GET", "HEAD") and self._is_browser and _ADDRESS.match(self.request.path):
            project, _, name = self.request.path[1:].partition("/")
            try:
                found = await self.services.access_control.open(self.principal, project, READ_PROJECT)
            except (Missing, Unauthorized):
                raise HTTPError(404) from None
            self.redirect(f"/projects/{found.name}" + (f"/repositories/{name}" if name else ""), status=303)
            raise Finish
        raise HTTPError(404)

    @property
    def _is_browser(self) -> bool:
        return "text/html" in self.request.headers.get("Accept", "")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if self._is_browser:
            super().write_error(status_code, **kwargs)
        else:
            Handler.write_error(self, status_code, **kwargs)
