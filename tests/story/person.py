"""Somebody of the university with a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from playwright.sync_api import ConsoleMessage, Page, expect

from tests.web.person import Visitor


class Person(Visitor):
    """A visitor who can also log in at the identity provider; what that one's own pages complain of is not counted."""

    def __init__(self, page: Page, screens: Path | None, home: str, *, scripts: bool) -> None:
        super().__init__(page, screens)
        self._home, self._scripts = home, scripts

    def _heard(self, message: ConsoleMessage) -> None:
        if self.page.url.startswith(self._home):
            super()._heard(message)

    def screen(self, name: str) -> Self:
        return super().screen(f"story-{name}")

    def at_university(self, username: str) -> Self:
        """Fill in the identity provider's form and come back."""
        page = self.page
        page.locator("input[name=username]").fill(username)
        page.locator("input[name=password]").fill(f"{username}pass")
        page.locator("input[name=password]").press("Enter")
        return self.back_home()

    def back_home(self) -> Self:
        """Wait until the browser is at one of our pages again; without scripts the answer is sent by a button."""
        if not self._scripts:
            # The form's other button is the script's, and hidden as soon as the style is there.
            self.page.locator("form[action$='/saml/acs'] noscript button").click()
        self.page.wait_for_url(re.compile(re.escape(self._home) + r"/(?!saml/)"))
        return self

    def figure(self, name: str) -> int:
        """Read the number in one of the mirror's figures."""
        card = self.page.locator(".figure-card").filter(has_text=name)
        return int(re.sub(r"\D", "", card.locator("dd").inner_text().split("\n")[0]))

    def enter(self, username: str, page: str = "/") -> Self:
        """Open a page that takes somebody, and log in with the university to see it."""
        self.go(page if page != "/" else "/login")
        self.click("Log in with the university account", role="link")
        return self.at_university(username)

    def copy(self, line: str) -> str:
        """Press the copy button of the line with this text; gives what is on the clipboard then."""
        place = self.page.locator(".copy-line:visible").filter(has_text=line).first
        place.get_by_role("button").click()
        expect(self.page.locator("#announce")).to_have_text("Copied")
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    def tick_role(self, name: str) -> Self:
        """Choose a role in the open form."""
        role = self.page.get_by_role("radio", name=re.compile(f"^{name}"))
        role.locator("visible=true").first.check()
        return self

    def until(self, path: str, text: str, *, row: str = "") -> Self:
        """Open a page again and again until it, or the ``row`` of its list with this in it, has ``text``.

        What is counted or noted is written a few seconds later, off the path of the request.
        """
        for _ in range(20):
            self.go(path)
            if text in (self.row(row).inner_text() if row else self.text()):
                return self
            self.page.wait_for_timeout(500)
        raise AssertionError(f"{path} never said {text!r}: {self.text()[:2000]}")
