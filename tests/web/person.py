"""Somebody with a browser, and everything a browser complains about."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Self

from playwright.sync_api import ConsoleMessage, Locator, Page

Opener = Callable[..., "Visitor"]


class Visitor:
    """A page, with a few words for what people do; what it complained about is in ``complaints``."""

    def __init__(self, page: Page, screens: Path | None) -> None:
        self.page, self._screens = page, screens
        self.complaints: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))

    def _heard(self, message: ConsoleMessage) -> None:
        # An error page is no complaint: tests say which status they expect.
        if message.type in ("error", "warning") and "the server responded with a status of" not in message.text:
            self.complaints.append(f"{self.page.url}: {message.text}")

    def go(self, path: str, status: int = 200) -> Self:
        """Open a page; fails where it answers otherwise."""
        answer = self.page.goto(path)
        assert answer is not None
        assert answer.status == status, f"{path} answered {answer.status}: {self.text()[:400]}"
        return self

    def log_in(self, username: str, password: str) -> Self:
        """Log in by what the form sends, without drawing its page: `tests.story` types into it."""
        request = self.page.context.request
        token = re.search(r'name="_xsrf" value="([^"]+)"', request.get("/login").text())
        assert token
        form: dict[str, str | float | bool] = {"username": username, "password": password, "_xsrf": token[1]}
        answer = request.post("/login", form=form, max_redirects=0)
        assert answer.status == 303, answer.text()[:2000]
        return self

    def click(self, name: str, *, role: str = "button", exact: bool = True) -> Self:
        """Click what is called that."""
        self.page.get_by_role(role, name=name, exact=exact).first.click()  # type: ignore[arg-type]  # a role's name
        return self

    def open(self, name: str) -> Self:
        """Open a fold by its name."""
        self.page.locator("summary:visible").filter(has_text=name).first.click()
        return self

    def fill(self, label: str, text: str) -> Self:
        self.page.get_by_label(label, exact=True).locator("visible=true").first.fill(text)
        return self

    def row(self, text: str) -> Locator:
        """Find a list's row that has this in it."""
        return self.page.locator("table.list tbody tr").filter(has_text=text).first

    def act_on(self, text: str, action: str) -> Self:
        """Choose an action from the menu of a list's row; most of them ask once more."""
        menu = self.row(text).locator("details.drop").first
        menu.locator("summary").first.click()
        ask = menu.locator("details.ask").filter(has_text=action)
        if ask.count():
            ask.locator("summary").click()
        menu.get_by_role("button", name=action).locator("visible=true").first.click()
        return self

    def confirm(self, action: str) -> Self:
        """Click the control of that name, and then the button that it asks with."""
        return self.open(action).click(action)

    def text(self) -> str:
        return self.page.locator("body").inner_text()

    def told(self) -> str:
        """Read the message that the last form left."""
        return self.page.locator(".note").first.inner_text()

    def screen(self, name: str) -> Self:
        """Keep a picture of the whole page, if somebody wants to look at them."""
        if self._screens is not None:
            self.page.screenshot(path=self._screens / f"{name}.png", full_page=True)
        return self
