"""A headless Chromium that reaches nothing but loopback by itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, sync_playwright

_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
              "--disable-component-update", "--disable-sync")  # fmt: skip


def _binary() -> str | None:
    """Find the browser without a window of its own: a page costs half of what it costs the whole one."""
    return shutil.which("chromium-headless-shell")


def missing() -> str | None:
    return None if _binary() else "no browser here (apt: chromium-headless-shell fonts-inter)"


@contextmanager
def browser(*arguments: str) -> Iterator[Browser]:
    """Start it, with further arguments of Chromium; every context taken from it is a person of its own."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_binary(), args=[*_ARGUMENTS, *arguments])
        try:
            yield chromium
        finally:
            chromium.close()


def context(chromium: Browser, url: str, *, locale: str, width: int, theme: str, scripts: bool) -> BrowserContext:
    """Open a browser with no past; the caller closes it."""
    return chromium.new_context(
        base_url=url,
        locale=locale,
        viewport={"width": width, "height": 860},
        color_scheme="dark" if theme == "dark" else "light",
        java_script_enabled=scripts,
        permissions=["clipboard-read", "clipboard-write"],
        ignore_https_errors=True,
    )
