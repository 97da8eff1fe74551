"""Shows a new secret, on a page of its own that can be reloaded for a few minutes.

A form that creates a secret is answered by a redirect, as every form is. So reloading the page creates nothing. The
secret waits in a cookie of this browser session, encrypted, and nowhere on our side.
"""

from __future__ import annotations

import base64
import hmac
import json

from cryptography.fernet import Fernet, InvalidToken

from .base import PageHandler

_COOKIE = "shown"
_SECONDS = 300
ADDRESS = "/secret"


class SecretPage(PageHandler):
    """The secret that this browser session created last, for `_SECONDS` after that."""

    needs = "person"
    # The page holds a secret.
    compressed = False

    async def get(self) -> None:
        sealed = self.browsers.cookies.get(self, _COOKIE)
        try:
            opened = _box(self).decrypt(sealed or "", ttl=_SECONDS)
        except InvalidToken:
            self.show("secret-gone.html")
            return
        username, secret, back, expires_at = json.loads(opened)
        host = self.services.host
        file = json.dumps({"registry": host, "username": username, "secret": secret}, indent=2) + "\n"
        self.show(
            "secret.html",
            username=username,
            secret=secret,
            back=back,
            minutes=_SECONDS // 60,
            expires_at=expires_at,
            # Both ask for the secret or read it from a file. A secret in a command line stays in the shell's history.
            # The name has no character that is special in a shell.
            login=f"docker login {host} --username '{username}'",
            script=f"docker login {host} --username '{username}' --password-stdin < secret.txt",
            download="data:application/json;base64," + base64.b64encode(file.encode()).decode(),
        )


def show_secret(page: PageHandler, username: str, secret: str, back: str, *, expires_at: float | None) -> None:
    """Answer a form with a redirect to the page with the secret that it created; ``back`` is the page after that."""
    sealed = _box(page).encrypt(json.dumps([username, secret, back, expires_at]).encode())
    page.browsers.cookies.set(page, _COOKIE, sealed, seconds=_SECONDS)
    page.redirect(ADDRESS, status=303)


def _box(page: PageHandler) -> Fernet:
    """Return the lock of this browser session. Nobody opens it in another one."""
    session = page.session.id if page.session is not None else ""
    key = page.application.settings["cookie_secret"].encode()
    return Fernet(base64.urlsafe_b64encode(hmac.digest(key, f"shown {session}".encode(), "sha256")))
