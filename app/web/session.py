"""Read and write the session cookie, which holds a secret and nothing else, and find the account behind it."""

from __future__ import annotations

from tornado.web import RequestHandler

from app.access.people import People
from app.access.principal import Principal
from app.access.sessions import SamlSession, Session, Sessions

from .cookies import Cookies

COOKIE = "session"


class BrowserSessions:
    """Reads and writes the cookie for handlers; ``external_url`` is our address."""

    def __init__(self, sessions: Sessions, people: People, external_url: str) -> None:
        self._sessions = sessions
        self._people = people
        self.scheme = external_url.partition("://")[0]
        self.cookies = Cookies(secure=self.scheme == "https")

    async def signed_in(self, handler: RequestHandler) -> tuple[Session, Principal] | None:
        """Return the session and its principal; None if nobody is logged in, or if Redis is down.

        The account is read with every request, so changed rights and ended sessions take effect at once.
        Raises Unavailable if the database is down.
        """
        secret = self.cookies.get(handler, COOKIE)
        session = await self._sessions.find(secret) if secret else None
        if session is None:
            return None
        principal = await self._people.principal_of(session.account_id, session.generation)
        return None if principal is None else (session, principal)

    async def begin(
        self,
        handler: RequestHandler,
        account_id: int,
        generation: int,
        saml: SamlSession | None = None,
        not_after: float | None = None,
    ) -> None:
        """Log a browser in under a new secret, and end the session that it had before.

        ``generation`` is the account's, for `Sessions.begin`. Raises Unavailable if the session can't be stored.
        """
        before = self.cookies.get(handler, COOKIE)
        address, agent = handler.request.remote_ip or "", handler.request.headers.get("User-Agent", "")
        secret = await self._sessions.begin(account_id, generation, address, agent, saml, not_after)
        if before:
            await self._sessions.end(before)
        self.cookies.set(handler, COOKIE, secret)

    async def end(self, handler: RequestHandler) -> Session | None:
        """Log a browser out and return the ended session. Raises Unavailable if the session may still live."""
        secret = self.cookies.get(handler, COOKIE)
        self.cookies.clear(handler, COOKIE)
        if not secret:
            return None
        session = await self._sessions.find(secret)
        await self._sessions.end(secret)
        return session
