"""Refuse changes that another site asks for in the name of somebody who is logged in here.

A browser also sends the session's cookie with requests that pages of other hosts cause, if they are of our domain. So
each change has to pass two tests, neither of which trusts a value that another host can set:

- Where it comes from: ``Sec-Fetch-Site`` or ``Origin`` must name our own pages. A program without a browser sends
  neither.
- A token that only our pages contain. It is a keyed hash of the session's secret, so that it is of no use in another
  session. Before the log-in a secret cookie stands for the session.

Source: OWASP, "Cross-Site Request Forgery Prevention"; W3C, "Fetch Metadata Request Headers".
"""

from __future__ import annotations

import hmac
import secrets

from tornado.web import HTTPError

from .base import Handler
from .session import COOKIE, BrowserSessions

# The cookie of a browser without a session.
_VISITOR = "visitor"
_BYTES = 32


class ProtectedHandler(Handler):
    """A handler of requests that change something in the name of a browser's session."""

    _new_visitor: str | None = None

    @property
    def browsers(self) -> BrowserSessions:
        """Return the sessions that the handler reads."""
        raise NotImplementedError

    @property
    def xsrf_token(self) -> bytes:
        """Return the token for this browser's forms, masked in another way in each answer.

        So the size of a compressed answer tells nothing about it (the BREACH attack). Tornado's forms contain it. Sets
        a cookie if the browser has none.
        """
        mask = secrets.token_bytes(_BYTES)
        return (mask + _xor(mask, self._expected())).hex().encode()

    def check_xsrf_cookie(self) -> None:
        """Raise HTTPError (403) unless the request comes from our pages; Tornado calls this before the body is read."""
        if not self._is_own():
            raise HTTPError(403, "the request comes from another site")

    def check_token(self) -> None:
        """Raise HTTPError (403) unless the request has this session's token."""
        try:
            token = bytes.fromhex(self.given_token())
        except ValueError:
            token = b""
        expected = self._expected()
        if not hmac.compare_digest(_xor(token[:_BYTES], token[_BYTES:]), expected):
            raise HTTPError(403, "the token is of another session")

    async def examine(self) -> None:
        if self.method not in ("GET", "HEAD", "OPTIONS"):
            self.check_token()

    def given_token(self) -> str:
        """Return the token in the request, "" without one."""
        return self.get_body_argument("_xsrf", "")

    def _is_own(self) -> bool:
        site = self.request.headers.get("Sec-Fetch-Site")
        if site is not None and site not in ("same-origin", "none"):
            return False
        origin = self.request.headers.get("Origin")
        if origin is None:
            return True
        # Another page can choose neither our host name nor the scheme under which a browser found us. The text is
        # compared as it is, because a malformed one cannot be parsed.
        return origin.lower() == f"{self.browsers.scheme}://{self.request.host}".lower()

    def _expected(self) -> bytes:
        secret = self.browsers.cookies.get(self, COOKIE) or self._visitor()
        return hmac.digest(self.application.settings["cookie_secret"].encode(), b"form " + secret.encode(), "sha256")

    def _visitor(self) -> str:
        cookies = self.browsers.cookies
        known = cookies.get(self, _VISITOR)
        if known:
            return known
        # A cookie that this answer sets is not in the request, and an answer may have several forms.
        if self._new_visitor is None:
            self._new_visitor = secrets.token_urlsafe(_BYTES)
            cookies.set(self, _VISITOR, self._new_visitor)
        return self._new_visitor


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=False))
