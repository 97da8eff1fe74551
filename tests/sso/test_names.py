"""People whose name changes, and names that pass to somebody else, each as whole log-ins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from tests.parts.service import Service

from .browser import Browser
from .forge import Forger
from .test_attacks import begun, posted
from .test_shapes import told

PAIRWISE = "urn:oasis:names:tc:SAML:attribute:pairwise-id"


async def log_in(site: Service, forger: Forger, name: str, attributes: Mapping[str, Sequence[str]]) -> int | None:
    """Return the account's id, None if nobody was let in."""
    async with Browser(site.url) as browser:
        claims = (await begun(browser, forger)).changed(username=name, attributes=attributes)
        page = await posted(browser, forger.answer(claims))
        if page.status != 303:
            await told(browser, page, site, "account")
            return None
        me = await browser.me() or {}
        assert me["username"] == name
        return cast("int", me["user_id"])


async def test_a_new_name_opens_the_same_account_and_an_old_one_nobody_elses(
    forged_site: Service, forger: Forger
) -> None:
    liis, tiit = {PAIRWISE: ["liis77@ut.ee"]}, {PAIRWISE: ["tiit88@ut.ee"]}
    account = await log_in(forged_site, forger, "liis@ut.ee", liis)
    assert account is not None
    assert await log_in(forged_site, forger, "liis@ut.ee", tiit) is None
    assert await log_in(forged_site, forger, "liis@ut.ee", {}) is None
    assert await log_in(forged_site, forger, "liis.kask@ut.ee", liis) == account
    other = await log_in(forged_site, forger, "liis@ut.ee", tiit)
    assert other not in (None, account)
    assert await log_in(forged_site, forger, "liis.kask@ut.ee", liis) == account
