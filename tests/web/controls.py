"""Keeps the account of controls: which ones pages showed, and which of them somebody used.

A script in every page names its controls and notes each click, each typing and each sending of a form, as it happens.
A control's name is stable: the page, and what it does (where a link leads, which form a button sends, what is copied),
never its words, which depend on the language. What the menu, the tabs and the foot have is theirs on every page.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import BrowserContext, ConsoleMessage, Page
from tornado.web import RequestHandler

from app.web.pages import routes as table

KINDS = {"link": "a[href]", "copy": "button.copy"}
_MARK = "controls "
# The pages of the log-in have a route table of their own.
_PATTERNS = [
    *((pattern, re.compile(pattern)) for pattern, _ in table._PAGES),
    *((path, re.compile(path)) for path in ("/login", "/logout")),
]
_NAMED = re.compile(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)")

_WATCH = Path(__file__).with_name("controls.js")


class Account:
    """What all browsers of a run were shown and did, by the controls' names."""

    def __init__(self) -> None:
        self.shown: set[str] = set()
        self.used: set[str] = set()

    def watch(self, context: BrowserContext) -> None:
        """Note what happens in a browser from now on; nothing of one without scripts."""
        context.add_init_script(path=_WATCH)
        context.on("console", self._heard)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "debug" and message.text.startswith(_MARK):
            what, told = json.loads(message.text.removeprefix(_MARK))
            names = {_name(*one) for one in told}
            self.shown |= names
            if what == "used":
                self.used |= names

    def unused(self) -> list[str]:
        """List what was shown and not used."""
        return sorted(self.shown - self.used)

    def waiting(self, page: Page, kind: str) -> list[tuple[str, int]]:
        """List the links or copy buttons on a page that nobody has used so far, each with its place among `KINDS`."""
        told = page.locator(KINDS[kind]).evaluate_all("elements => elements.map(window.nameOfControl)")
        found: dict[str, int] = {}
        for place, one in enumerate(told):
            if one and one[1] == kind and _name(*one) not in self.used:
                found.setdefault(_name(*one), place)
        return list(found.items())


def pages(method: str) -> set[str]:
    """Name the pages of the route table that answer a method."""
    found = {pattern for pattern, page in table._PAGES if getattr(page, method) is not getattr(RequestHandler, method)}
    return {page_of(_spelled(pattern)) for pattern in found}


def page_of(path: str) -> str:
    """Spell a path as a page of the route table, ``/projects/PROJECT/members``; any other stays as it is."""
    if path == "/administration":
        return "/administration/users"
    return next((_spelled(pattern) for pattern, compiled in _PATTERNS if compiled.fullmatch(path)), path)


def _spelled(pattern: str) -> str:
    return _NAMED.sub(lambda found: found[1].upper(), pattern).replace("\\", "")


def _name(zone: str, kind: str, address: str, *details: str) -> str:
    page = page_of(zone)
    return " ".join(filter(None, (f"{page}:", kind, page_of(address) if address else "", *details)))
