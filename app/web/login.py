"""Log people in and out in a browser: through the university, or with a password that the registry keeps.

The log has the reason for a refused university log-in, under the id of the request. The browser only gets the id and a
code.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote

from tornado.escape import xhtml_escape
from tornado.locale import Locale
from tornado.routing import URLSpec
from tornado.web import url

from app.access.people import People
from app.access.principal import UNIVERSITY, Principal, PrincipalKind
from app.access.refusals import FAILED, Refusals
from app.access.saml import Begun, Refused, University, own_page
from app.access.saml.university import REQUEST_SECONDS
from app.database import Database, accounts
from app.oci.errors import Denied, OCIError, Unauthorized
from app.projects.audit import Audit

from .base import MOST_OF_ANYBODY, Readable
from .csrf import ProtectedHandler
from .observe import Observer
from .pages import texts
from .session import BrowserSessions

log = logging.getLogger(__name__)

_TEMPLATES = Path(__file__).parent / "templates"
_ACS = "/saml/acs"
# In bytes. The longest answer that is parsed takes a little more than half of this, as browsers write it.
_MOST_ANSWER = 512 * 1024
_CLOSED = "password logins are turned off here; log in with your university account"
_FAILED = "the registry failed; tell its operators the id of this request: %(request)s"
_STALE = "this form was open for too long or came from another site; log in again"
_WRONG = "wrong user name or password; check both and log in again"
_LOGIN_REFUSED = (
    "the university's log-in was not accepted (%(code)s); "
    "try again, and if it fails again, tell the operators this code and the request id %(request)s"
)
_LOGOUT_REFUSED = (
    "the university's logout was not accepted; "
    "try again, and if it fails again, tell the operators the request id %(request)s"
)


class Passwords(Protocol):
    """Checks a password that the registry keeps."""

    async def authenticate(self, username: str, password: str, address: str) -> Principal: ...


class LoginPage(ProtectedHandler):
    """The base of every handler that may answer with the log-in page.

    ``passwords`` and ``university`` are None if they are turned off. The page gets ``next_page`` (a path of the
    registry), ``error`` (a text, or "") and ``username`` (as it was typed). ``local_login`` and ``university_login``
    tell it which log-ins there are.
    """

    needs = "nothing"
    most_body = MOST_OF_ANYBODY

    def initialize(  # type: ignore[override]  # the route table gives each handler what it uses
        self,
        *,
        browsers: BrowserSessions,
        database: Database,
        people: People,
        passwords: Passwords | None,
        university: University | None,
        refusals: Refusals,
        audit: Audit,
        observer: Observer,
    ) -> None:
        super().initialize(observer=observer)
        self._audit = audit
        self._refusals = refusals
        self._browsers = browsers
        self._database = database
        self._people = people
        self._passwords = passwords
        self._university = university

    @property
    def browsers(self) -> BrowserSessions:
        return self._browsers

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; font-src 'self'; "
            "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        )
        self.set_header("Cache-Control", "no-store")

    def get_template_path(self) -> str:
        return str(_TEMPLATES)

    def get_user_locale(self) -> Locale:
        return texts.choose(
            self.browsers.cookies.get(self, texts.COOKIE), self.request.headers.get("Accept-Language", "")
        )

    def show(self, next_page: str = "/", *, error: str = "", status: int = 200, username: str = "") -> None:
        """Answer with the log-in page."""
        self.set_status(status)
        _ = self.render(
            "login.html",
            next_page=next_page,
            error=error,
            username=username,
            local_login=self._passwords is not None,
            university_login=self._university is not None,
        )

    def show_error(self, error: OCIError, next_page: str = "/", *, username: str = "") -> None:
        """Answer with the log-in page and the error's text in the reader's language."""
        for name, value in error.headers.items():
            self.set_header(name, value)
        # A form is not HTTP authentication, so a wrong password is no 401.
        status = 403 if isinstance(error, Unauthorized) else error.answer_status
        self.show(next_page, error=texts.said(error, self.locale), status=status, username=username)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if not isinstance(error, OCIError):
            if status_code >= 500:
                error = OCIError(_FAILED, status=status_code, request=self.request_id)
            else:
                error = OCIError(_STALE if status_code == 403 else self._reason, status=status_code)
        self.set_header("X-Request-Id", self.request_id)
        self.show_error(error)

    def note(self, principal: Principal, operation: str, username: str, resource_type: str = "user") -> None:
        """Write a log-in, a logout or a change that came with one to the audit log."""
        self._audit.note(principal, self.request.remote_ip or "", operation, resource_type, username)

    def show_refused(self, what: str, reason: Refused, answer: OCIError) -> None:
        """Answer with ``answer`` and log the reason for a refusal, which neither the browser nor the audit log gets."""
        self._audit.refused_by_university(what, self.request.remote_ip or "")
        fields = {"request_id": self.request_id, "client": self.request.remote_ip, "code": reason.code}
        log.warning("%s refused: %s", what, reason, extra={"fields": fields})
        self.show_error(answer)


class LoginHandler(LoginPage, Readable):
    async def get(self) -> None:
        next_page = own_page(self.get_query_argument("next", "/"))
        if await self._browsers.signed_in(self) is not None:
            self.redirect(next_page, status=303)
            return
        self.show(next_page)

    async def post(self) -> None:
        next_page = own_page(self.get_body_argument("next", "/"))
        username = self.get_body_argument("username", "")
        # Not stripped, because a password may begin with a space.
        password = self.get_body_argument("password", "", strip=False)
        try:
            if self._passwords is None:
                raise Unauthorized(_CLOSED)
            principal = await self._passwords.authenticate(username, password, self.request.remote_ip or "")
            if principal.kind is not PrincipalKind.PERSON or principal.id is None or principal.limits is not None:
                raise Unauthorized(_WRONG)
            await self._browsers.begin(self, principal.id, principal.generation)
            await self._people.noted(principal.id)
        except OCIError as error:
            if isinstance(error, FAILED):
                await self._refusals.add(username, self.request.remote_ip or "")
            self.show_error(error, next_page, username=username)
            return
        self.subject = principal.subject
        self.note(principal, "login", principal.name)
        self.redirect(next_page, status=303)


class LogoutHandler(LoginPage):
    async def post(self) -> None:
        found = await self._browsers.signed_in(self)
        session = await self._browsers.end(self)
        if found is not None:
            self.note(found[1], "logout", found[1].name)
        url = None
        if session is not None and session.saml is not None and self._university is not None:
            url = await self._university.log_out(session.saml)
        if url is None:
            self.redirect("/", status=303)
            return
        # Not a redirect: form-action lets a form lead to our own pages only, and that includes redirects.
        self.set_header("Refresh", f"0; url={url}")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        link, text = xhtml_escape(url), xhtml_escape(self.locale.translate("Log out at the university"))
        await self.finish(f'<!doctype html><title>…</title><p><a href="{link}">{text}</a></p>\n')


class SamlPage(LoginPage):
    """A page that exists only if a university is configured."""

    @property
    def university(self) -> University:
        """Return the university; without one, the route table has no route to this handler."""
        assert self._university is not None  # noqa: S101 - for the types
        return self._university


class SamlLoginHandler(SamlPage):
    async def get(self) -> None:
        next_page = own_page(self.get_query_argument("next", "/"))
        begun = await self.university.begin(next_page)
        self._bind(begun)
        self.redirect(begun.url, status=303)

    def _bind(self, begun: Begun) -> None:
        # The identity provider's pages post the answer, and a browser sends no Lax cookies with a post from another
        # site. SameSite=None needs https. Over http only an identity provider on this same host can answer.
        cookies = self.browsers.cookies
        same_site: Literal["None", "Lax"] = "None" if cookies.secure else "Lax"
        cookies.set(self, begun.cookie, begun.secret, seconds=REQUEST_SECONDS, same_site=same_site)


class AcsHandler(SamlPage):
    """Takes the identity provider's answer, from a browser that has a log-in open."""

    most_body = _MOST_ANSWER
    # The open log-ins of the browser; see `University.begun`.
    begun: Mapping[str, str]

    def refuse(self, reason: Refused) -> None:
        self.show_refused("log-in", reason, Denied(_LOGIN_REFUSED, code=reason.code, request=self.request_id))

    def check_xsrf_cookie(self) -> None:
        """Skip the check: the identity provider's pages post here, and `University.finish` checks its own proof."""

    def check_token(self) -> None:
        """Skip the check, for the same reason."""

    async def admit(self) -> None:
        try:
            self.begun = await self.university.begun(self.browsers.cookies.all(self))
        except Refused as reason:
            self.refuse(reason)

    async def post(self) -> None:
        try:
            answers = self.get_body_arguments("SAMLResponse")
            finished = await self.university.finish(answers, self.begun, self.request.remote_ip or "")
        except Refused as reason:
            self.refuse(reason)
            return
        person = finished.person
        username = person.username
        principal = Principal(PrincipalKind.PERSON, username)
        self.subject = principal.subject
        for change in finished.changes:
            self.note(UNIVERSITY, change, username, "account")
        if finished.former is not None:
            self.note(principal, "rename", finished.former, "account")
        await self._browsers.begin(self, person.id, person.generation, finished.session, finished.not_after)
        self.note(principal, "login", username)
        self.browsers.cookies.clear(self, finished.cookie)
        self.redirect(finished.return_to, status=303)


class MetadataHandler(SamlPage, Readable):
    async def get(self) -> None:
        self.set_header("Content-Type", "application/samlmetadata+xml")
        await self.finish(await self.university.metadata())


class SlsHandler(SamlPage):
    async def get(self) -> None:
        try:
            done = await self.university.logged_out(self.request.query, self.request.remote_ip or "")
        except Refused as reason:
            self.show_refused("logout", reason, Denied(_LOGOUT_REFUSED, request=self.request_id))
            return
        for account_id in done.account_ids:
            person = await self._database.read(accounts.person, account_id)
            if person is not None:
                self.note(UNIVERSITY, "logout", person.username)
        self.redirect(done.url or "/", status=303)


def routes(*, university: University | None, **shared: Any) -> list[URLSpec]:
    """Return the routes; ``shared`` holds the other arguments of `LoginPage.initialize`."""
    given = {"university": university, **shared}
    found = [url("/login", LoginHandler, given), url("/logout", LogoutHandler, given)]
    if university is not None:
        found += [
            url("/saml/login", SamlLoginHandler, given),
            url(_ACS, AcsHandler, given),
            url("/saml/metadata", MetadataHandler, given),
            url("/saml/sls", SlsHandler, given),
        ]
    return found


def login_address(next_page: str) -> str:
    """Return the address of the log-in page that leads to ``next_page`` afterwards."""
    return f"/login?next={quote(own_page(next_page), safe='')}"
