"""After all others in this folder, for which its name sees: nothing that a page showed was left unused.

What was used had its effect looked at where it was used.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.web.controls import Account, pages

HERE = Path(__file__).parent
# Nobody clicks them: what scripts ask for, an address that leads on, a file.
NO_PAGES = {
    "/addresses",
    "/projects/PROJECT/cache/fills",
    "/projects/PROJECT/repositories/NAME:TAG",
    "/administration/audit.csv",
}
# The address helper's, which are sent without scripts only or by one.
NO_FORMS = {"/", "/addresses"}


@pytest.fixture(autouse=True)
def _after_the_others(request: pytest.FixtureRequest) -> None:
    missing = {path.name for path in HERE.glob("test_*.py")} - {item.path.name for item in request.session.items}
    if missing:
        pytest.skip(f"says something after {', '.join(sorted(missing))} only: run all of tests/web")


def test_every_control_that_was_shown_was_used(account: Account) -> None:
    assert not account.unused(), "\n".join(account.unused())


def test_every_page_was_shown(account: Account) -> None:
    seen = {name.partition(":")[0] for name in account.shown} | {
        name.partition(" link ")[2].partition(" ")[0] for name in account.used
    }
    assert pages("get") - NO_PAGES - seen == set()


def test_every_form_was_sent(account: Account) -> None:
    sent = {found[1] for name in account.used if (found := re.search(r": form (\S+) post", name))}
    assert pages("post") - NO_FORMS - sent == set()
