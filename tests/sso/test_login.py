"""Logging in through a real identity provider, walking its pages and forms."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

import pytest
from lxml import etree

from tests.parts.idp import IdentityProvider
from tests.parts.process import eventually
from tests.parts.service import PASSWORD, Service
from tests.parts.valkey import Valkey

from .browser import Browser, Page
from .forge import inflated
from .noted import noted


async def test_a_person_is_made_at_the_first_log_in(browser: Browser, site: Service) -> None:
    assert await browser.me() is None
    done = await browser.log_in("mari", "/projects?page=2")
    assert (done.status, done.headers["Location"]) == (303, "/projects?page=2")
    me = await browser.me()
    assert me is not None
    told = {key: me[key] for key in ("username", "realname", "email", "sysadmin_flag", "source")}
    own = [("login", "user", "person:mari@ut.ee"), ("create", "account", "system:university")]
    assert await noted(site, "mari@ut.ee", until="login") == own
    assert told == {
        "username": "mari@ut.ee",
        "realname": "Mari Maasikas",
        "email": "mari@ut.ee",
        "sysadmin_flag": False,
        "source": "saml",
    }


async def test_rules_over_attributes_say_who_is_an_admin(browser: Browser, site: Service) -> None:
    await browser.log_in("tiina")
    me = await browser.me()
    assert me is not None
    assert me["sysadmin_flag"] is True
    assert ("promote", "account", "system:university") in await noted(site, "tiina@ut.ee", until="login")


async def test_the_request_is_signed_and_names_us(
    browser: Browser, site: Service, university: IdentityProvider
) -> None:
    begun = await browser.get("/saml/login")
    request = inflated(begun.query["SAMLRequest"])
    assert request.findtext("{*}Issuer") == f"{site.url}/saml/metadata"
    assert request.get("AssertionConsumerServiceURL") == f"{site.url}/saml/acs"
    assert {"Signature", "SigAlg"} <= set(begun.query)
    # This identity provider checks it: what is changed is refused there.
    changed = begun.location.replace("SigAlg=", "RelayState=x&SigAlg=")
    assert "Unable to validate signature on query string" in (await browser.follow(await browser.get(changed))).text
    assert (await browser.follow(begun)).forms


async def test_the_session_cookie_is_for_our_pages_alone_and_is_new_each_time(browser: Browser) -> None:
    browser.plant(session="A" * 43)
    first = await browser.log_in("mari")
    (cookie,) = [line for line in first.headers.getall("Set-Cookie") if line.startswith("session=")]  # type: ignore[attr-defined]  # a multidict
    assert re.search(r"; HttpOnly", cookie)
    assert re.search(r"; SameSite=Lax", cookie)
    before = browser.cookies()["session"]
    assert before != "A" * 43
    await browser.log_in("mari")
    after = browser.cookies()["session"]
    assert after != before
    browser.plant(session=before)
    assert await browser.me() is None


async def test_two_log_ins_begun_in_two_tabs_both_end(browser: Browser) -> None:
    first = await browser.at_identity_provider("mari", "/first")
    second = await browser.at_identity_provider("mari", "/second")
    assert (await browser.send(first)).headers["Location"] == "/first"
    assert (await browser.send(second)).headers["Location"] == "/second"


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "x:y"],
)
async def test_a_log_in_never_leads_elsewhere(browser: Browser, elsewhere: str) -> None:
    done = await browser.log_in("mari", elsewhere)
    assert done.headers["Location"] == "/"
    page = await browser.at_identity_provider("mari")
    forged = await browser.send(page, RelayState="https://evil.example/")
    assert forged.headers["Location"] == "/"


@pytest.mark.parametrize(
    ("username", "reason"),
    [("nimetu", "has no identity attribute"), ("voora", "'voora@elsewhere.example' has no scope of this")],
)
async def test_who_is_not_the_universitys_own_does_not_get_in(
    browser: Browser, site: Service, username: str, reason: str
) -> None:
    assert reason in await refused(browser, site, await browser.log_in(username))


async def test_a_student_of_the_second_scope_gets_in(browser: Browser) -> None:
    await browser.log_in("juri")
    me = await browser.me()
    assert me is not None
    assert (me["username"], me["realname"]) == ("juri@taltech.ee", "Jüri Juurikas")


async def test_another_browser_cannot_end_what_this_one_began(
    browser: Browser, other_browser: Browser, site: Service
) -> None:
    page = await browser.at_identity_provider("mari")
    assert "this browser has begun no log-in" in await refused(other_browser, site, await other_browser.send(page))
    # Nor can it spend the answer, because nothing of it is read.
    assert (await browser.send(page)).status == 303


async def test_an_answer_counts_once(browser: Browser, site: Service) -> None:
    page = await browser.at_identity_provider("mari")
    assert (await browser.send(page)).status == 303
    browser.forget("session")
    assert "this browser has begun no log-in" in await refused(browser, site, await browser.send(page))


async def test_redis_flushed_means_logging_in_again(browser: Browser, redis: Valkey) -> None:
    await browser.log_in("mari")
    redis.flush()
    assert await browser.me() is None
    await browser.log_in("mari")
    assert await browser.me()


async def test_redis_away_is_said_in_words(browser: Browser, redis: Valkey) -> None:
    await browser.log_in("mari")
    page = await browser.at_identity_provider("mari")
    redis.stop()
    try:
        assert await browser.me() is None
        for answer in (await browser.get("/saml/login"), await browser.send(page), await local(browser, PASSWORD)):
            assert answer.status == 503
            assert "nobody can log in right now" in answer.text
            assert answer.headers["Retry-After"]
    finally:
        redis.start()
        await eventually(lambda: _begins(browser), what="the service to ask Redis again")


async def test_a_start_without_the_identity_provider_knows_it_all_the_same(
    browser: Browser, site: Service, university: IdentityProvider
) -> None:
    await browser.log_in("mari")
    university.stop()
    try:
        site.restart()
        assert (await browser.get("/saml/login")).location.startswith(university.url)
    finally:
        university.start()
    await browser.log_in("mari")
    assert await browser.me()


async def test_the_local_admin_gets_in_by_password_and_not_by_cross_site_forms(browser: Browser, site: Service) -> None:
    foreign = await browser.post("/login", {"username": "admin", "password": PASSWORD})
    assert foreign.status == 403
    assert "came from another site" in foreign.text
    wrong = await local(browser, "wrong")
    assert wrong.status == 403
    assert "wrong user name or password" in wrong.text
    assert await browser.me() is None
    right = await local(browser, PASSWORD, next="/admin")
    assert (right.status, right.headers["Location"]) == (303, "/admin")
    me = await browser.me()
    assert me is not None
    assert (me["username"], me["sysadmin_flag"]) == ("admin", True)
    assert (await browser.get("/login?next=//evil.example/")).headers["Location"] == "/"


def test_our_metadata_says_what_an_identity_provider_needs(site: Service) -> None:
    with urllib.request.urlopen(f"{site.url}/saml/metadata", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "application/samlmetadata+xml"
        root = etree.fromstring(answer.read())
    role = root.find("{*}SPSSODescriptor")
    assert root.get("entityID") == f"{site.url}/saml/metadata"
    assert (role.get("AuthnRequestsSigned"), role.get("WantAssertionsSigned")) == ("true", "true")
    assert [one.get("use") for one in role.findall("{*}KeyDescriptor")] == ["signing", "encryption"]
    assert role.find("{*}AssertionConsumerService").get("Location") == f"{site.url}/saml/acs"
    assert role.find("{*}SingleLogoutService").get("Location") == f"{site.url}/saml/sls"


def test_the_key_we_made_up_is_closed_to_others(site: Service) -> None:
    assert (site.folder / "data" / "saml.pem").stat().st_mode & 0o777 == 0o600


async def _begins(browser: Browser) -> bool:
    return (await browser.get("/saml/login")).status == 303


async def local(browser: Browser, password: str, **more: str) -> Page:
    """Send the form for the local admin."""
    page = await browser.get("/login")
    if page.status == 303:  # somebody is logged in already: the token is what counts
        forms = (await browser.get("/")).forms
        token = next(form.fields["_xsrf"] for form in forms if "_xsrf" in form.fields)
        return await browser.post("/login", {"_xsrf": token, "username": "admin", "password": password})
    return await browser.send(page, username="admin", password=password, **more)


async def refused(browser: Browser, site: Service, page: Page) -> str:
    """Check that a log-in was refused without a word to the browser; gives the reason in the log."""
    assert page.status == 403
    assert await browser.me() is None
    request_id = page.headers["X-Request-Id"]
    assert f"tell the operators this code and the request id {request_id}" in page.text
    lines: list[dict[str, Any]] = [json.loads(line) for line in site.log().splitlines() if request_id in line]
    (reason,) = [line["message"] for line in lines if line["logger"] == "app.web.login"]
    assert reason.partition("refused: ")[2] not in page.text
    return str(reason)
