"""axe-core, as a wheel has it: the rules of WCAG that a program can check, run in a page."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page

# The rules of WCAG 2.2 up to AA, and axe's own of good practice.
_RUN = """(part) => axe.run(part ?? document, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"],
})"""


def _script() -> Path | None:
    found = importlib.util.find_spec("axe_playwright_python")
    return Path(found.origin).with_name("axe.min.js") if found is not None and found.origin else None


def missing() -> str | None:
    return None if _script() else "no axe-core here (pip: axe-playwright-python)"


@cache
def _source() -> str:
    script = _script()
    assert script is not None
    return script.read_text()


def violations(page: Page, part: Locator | None = None) -> list[str]:
    """List what breaks a rule on the page as it is, or in a part of it: the rule, and the first few elements."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(_source())
    found: list[dict[str, Any]] = (page.evaluate(_RUN) if part is None else part.evaluate(_RUN))["violations"]
    return [f"{one['id']}: " + " | ".join(node["html"][:160] for node in one["nodes"][:3]) for one in found]
