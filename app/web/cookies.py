"""Names and rules of our cookies.

Over https each name begins with ``__Host-``. A browser takes such a cookie from our own host only. Without it, any host
of the same domain, such as a student's page at the university, could set a cookie of ours.

Source: RFC 6265bis, 4.1.3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tornado.web import RequestHandler


class Cookies:
    """Reads and writes cookies for handlers. No script can read them (HttpOnly)."""

    def __init__(self, *, secure: bool) -> None:
        """``secure``: our address is https, so no cookie is ever sent over http."""
        self.secure = secure

    def name(self, plain: str) -> str:
        """Return a cookie's name as browsers see it."""
        return f"__Host-{plain}" if self.secure else plain

    def get(self, handler: RequestHandler, plain: str) -> str | None:
        """Return a cookie's value, None without one."""
        return handler.get_cookie(self.name(plain))

    def all(self, handler: RequestHandler) -> Mapping[str, str]:
        """Return all cookies of ours by their plain names."""
        prefix = self.name("")
        return {
            name.removeprefix(prefix): morsel.value
            for name, morsel in handler.request.cookies.items()
            if name.startswith(prefix)
        }

    def set(
        self,
        handler: RequestHandler,
        plain: str,
        value: str | bytes,
        *,
        seconds: int | None = None,
        same_site: Literal["Lax", "None"] = "Lax",
    ) -> None:
        """Set a cookie for ``seconds``, or until the browser is closed.

        With ``same_site`` Lax, a browser sends it with requests of our own pages, and with links to them.
        """
        handler.set_cookie(
            self.name(plain),
            value,
            path="/",
            max_age=seconds,
            httponly=True,
            samesite=same_site,
            secure=self.secure,
        )

    def clear(self, handler: RequestHandler, plain: str) -> None:
        """Remove a cookie."""
        handler.clear_cookie(self.name(plain), path="/", httponly=True, secure=self.secure)
