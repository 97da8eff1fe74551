"""Who a browser is logged in as: the one cookie of a session, and what it stands for right now.

The cookie holds a secret and nothing else. It is not for scripts (HttpOnly), is sent with requests of our own pages and
with links to them only (SameSite=Lax), and over https never without it (Secure).
"""

from __future__ import annotations

from tornado.web import RequestHandler

from app.access.people import People
from app.access.principal import Principal
from app.access.sessions import SamlSession, Session, Sessions

COOKIE = "session"


class BrowserSessions:
    """Reads and writes the cookie for handlers; ``secure`` where our address is https."""

    def __init__(self, sessions: Sessions, people: People, *, secure: bool) -> None:
        self._sessions = sessions
        self._people = people
        self.secure = secure

    async def signed_in(self, handler: RequestHandler) -> tuple[Session, Principal] | None:
        """Answer whose request this is; None for nobody's, and while Redis is away. Raises Unavailable without SQL.

        The account is read with every request: a changed right shows at once, and so does what ended its sessions.
        """
        secret = handler.get_cookie(COOKIE)
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
        """Log a browser in, under a secret nobody had before; what it was logged in as before ends.

        ``generation`` is the account's, as `Sessions.begin` wants it. Raises Unavailable where that cannot be kept.
        """
        before = handler.get_cookie(COOKIE)
        address, agent = handler.request.remote_ip or "", handler.request.headers.get("User-Agent", "")
        secret = await self._sessions.begin(account_id, generation, address, agent, saml, not_after)
        if before:
            await self._sessions.end(before)
        handler.set_cookie(COOKIE, secret, path="/", httponly=True, samesite="Lax", secure=self.secure)

    async def end(self, handler: RequestHandler) -> Session | None:
        """Log a browser out; answers the session that has ended. Raises Unavailable where it may go on."""
        secret = handler.get_cookie(COOKIE)
        handler.clear_cookie(COOKIE, path="/", httponly=True, samesite="Lax", secure=self.secure)
        if not secret:
            return None
        session = await self._sessions.find(secret)
        await self._sessions.end(secret)
        return session
