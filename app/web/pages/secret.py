"""Shows a secret once, in the answer to the form that created it and nowhere else."""

from __future__ import annotations

import base64
import json

from .base import PageHandler


def show_secret(page: PageHandler, username: str, secret: str, back: str, *, expires_at: float | None) -> None:
    """Answer a form with the secret that it created, ready to copy, to download and to log in with."""
    host = page.services.host
    file = json.dumps({"registry": host, "username": username, "secret": secret}, indent=2) + "\n"
    page.set_header("Cache-Control", "no-store")
    page.show(
        "secret.html",
        username=username,
        secret=secret,
        back=back,
        expires_at=expires_at,
        # The name has no character that is special in a shell. Docker reads the secret from standard input.
        login=f"echo '{secret}' | docker login {host} --username '{username}' --password-stdin",
        download="data:application/json;base64," + base64.b64encode(file.encode()).decode(),
    )
