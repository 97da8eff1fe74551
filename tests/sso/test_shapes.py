"""Answers and metadata as real identity providers send them, each tried as a whole log-in."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing

import pytest

from tests.parts.service import Service
from tests.parts.valkey import Valkey

from .browser import Browser, Page
from .forge import EPPN, Claims, Forger, _attribute
from .test_attacks import begun, posted
from .test_login import refused

GROUPS = "urn:oid:1.3.6.1.4.1.5923.1.5.1.1"
END = "</saml:AttributeStatement>"
Change = Callable[[str], str]


@pytest.fixture
async def browser(forged_site: Service) -> AsyncIterator[Browser]:
    async with Browser(forged_site.url) as browser:
        yield browser


@pytest.fixture(scope="module")
def plain_site(tmp_path_factory: pytest.TempPathFactory, redis: Valkey, forger: Forger) -> Iterator[Service]:
    """A service that takes assertions which are signed only."""
    saml = {"enabled": True, "idp_metadata_url": forger.metadata_url, "encrypted_assertions": False}
    with Service(tmp_path_factory.mktemp("plain"), redis=redis.url, overrides={"saml": saml}) as service:
        yield service


def adding(*attributes: str) -> Change:
    return lambda xml: xml.replace(END, "".join(attributes) + END)


def friendly(name: str, called: str, *values: str) -> str:
    return _attribute(name, values).replace(" NameFormat", f' FriendlyName="{called}" NameFormat')


def group_values(*values: str) -> list[str]:
    return [_attribute(GROUPS, [value]) for value in values]


def answer(forger: Forger, claims: Claims, change: Change) -> str:
    return forger.response(claims, forger.encrypt(forger.sign(change(forger.assertion(claims)))))


ACCEPTED: dict[str, Change] = {
    "groups in several elements of one name (Keycloak)": adding(*group_values("a", "b", "c")),
    "one name with two friendly names": adding(friendly(GROUPS, "one", "a"), friendly(GROUPS, "two", "b")),
    "two attributes of one friendly name (Shibboleth)": adding(
        friendly("urn:oid:2.5.4.4", "sn", "Maasikas"), friendly("sn", "sn", "Maasikas")
    ),
    "the identity in two elements, equal": adding(_attribute(EPPN, ["mari@ut.ee"])),
    "no NameID": lambda xml: re.sub(r"<saml:NameID.*?</saml:NameID>", "", xml),
    "an attribute without a value": adding(_attribute(GROUPS, [])),
    "an empty value": adding(_attribute(GROUPS, ["", " "])),
    "a name that is empty": adding(_attribute("", ["x"])),
    "blanks around the identity": lambda xml: xml.replace(">mari@ut.ee<", ">\n  mari@ut.ee  <"),
    "the identity by its friendly name": lambda xml: xml.replace(
        f'Name="{EPPN}"', 'Name="urn:x" FriendlyName="eduPersonPrincipalName"'
    ),
    "milliseconds in the times": lambda xml: re.sub(r"(\d\d:\d\d:\d\d)Z", r"\1.123Z", xml),
}
REFUSED: dict[str, tuple[Change, str]] = {
    "the identity in two elements, different": (adding(_attribute(EPPN, ["tiina@ut.ee"])), "identity"),
    "two friendly names of the identity, different": (
        lambda xml: adding(friendly("urn:y", "eduPersonPrincipalName", "tiina@ut.ee"))(
            xml.replace(f'Name="{EPPN}"', 'Name="urn:x" FriendlyName="eduPersonPrincipalName"')
        ),
        "identity",
    ),
    "no identity": (lambda xml: xml.replace(EPPN, "urn:nothing"), "identity"),
    "an identity of somewhere else": (lambda xml: xml.replace("mari@ut.ee", "mari@elsewhere.example"), "identity"),
    "an old answer": (
        lambda xml: re.sub(r'NotOnOrAfter="[^"]*">', 'NotOnOrAfter="2020-01-01T00:00:00Z">', xml), "time",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
async def test_it_is_accepted(browser: Browser, forger: Forger, name: str) -> None:
    claims = await begun(browser, forger)
    page = await posted(browser, answer(forger, claims, ACCEPTED[name]))
    assert page.status == 303
    assert (await browser.me() or {})["username"] == "mari@ut.ee"


async def test_all_groups_of_several_elements_count(browser: Browser, forger: Forger, forged_site: Service) -> None:
    claims = await begun(browser, forger)
    change = adding(*group_values("readers", "writers"), _attribute(GROUPS, ["a, b", "õppejõud ✓"]))
    assert (await posted(browser, answer(forger, claims, change))).status == 303
    with closing(sqlite3.connect(forged_site.folder / "data" / "registry.sqlite")) as database:
        (groups,) = database.execute("SELECT groups FROM account WHERE username = 'mari@ut.ee'").fetchone()
    assert json.loads(groups) == ["a, b", "readers", "writers", "õppejõud ✓"]


@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_refused_with_a_code_for_the_person_and_a_reason_for_the_operator(
    browser: Browser, forger: Forger, forged_site: Service, name: str
) -> None:
    change, code = REFUSED[name]
    claims = await begun(browser, forger)
    page = await posted(browser, answer(forger, claims, change))
    await told(browser, page, forged_site, code)


async def told(browser: Browser, page: Page, site: Service, code: str) -> None:
    """Expect the code on the page, and in the log the reason with the same code."""
    assert await refused(browser, site, page)
    assert f"({code})" in page.text
    (line,) = [
        line for line in site.log().splitlines() if page.headers["X-Request-Id"] in line and "app.web.login" in line
    ]
    assert json.loads(line)["code"] == code


async def test_a_browser_that_began_nothing(forged_site: Service, forger: Forger) -> None:
    async with Browser(forged_site.url) as browser:
        page = await posted(browser, forger.answer(forger.claims("_never")))
        await told(browser, page, forged_site, "browser")


async def test_an_assertion_that_is_not_encrypted_is_refused_by_default(
    browser: Browser, forger: Forger, forged_site: Service
) -> None:
    claims = await begun(browser, forger)
    page = await posted(browser, forger.response(claims, forger.sign(forger.assertion(claims))))
    await told(browser, page, forged_site, "encryption")


async def test_it_is_accepted_where_the_setting_says_so(
    plain_site: Service, forged_site: Service, forger: Forger
) -> None:
    try:
        forger.serve(plain_site.url)
        for encrypt in (False, True):
            async with Browser(plain_site.url) as browser:
                claims = await begun(browser, forger)
                signed = forger.sign(forger.assertion(claims))
                page = await posted(browser, forger.response(claims, forger.encrypt(signed) if encrypt else signed))
                assert page.status == 303
                assert (await browser.me() or {})["username"] == "mari@ut.ee"
    finally:
        forger.serve(forged_site.url)


@pytest.mark.parametrize("how", ["not signed", "changed", "evil beside", "evil around", "only the response is signed"])
async def test_without_encryption_a_signature_is_needed_all_the_more(
    plain_site: Service, forged_site: Service, forger: Forger, how: str
) -> None:
    try:
        forger.serve(plain_site.url)
        async with Browser(plain_site.url) as browser:
            claims = await begun(browser, forger)
            good = forger.sign(forger.assertion(claims))
            evil = forger.assertion(claims.changed(username="admin@ut.ee", assertion_id="_evil"))
            forged = {
                "not signed": lambda: forger.response(claims, evil),
                "changed": lambda: forger.response(claims, good.replace("mari@ut.ee", "tiina@ut.ee")),
                "evil beside": lambda: forger.response(claims, evil, good),
                "evil around": lambda: forger.response(
                    claims, evil.replace("</saml:Assertion>", f"{good}</saml:Assertion>")
                ),
                "only the response is signed": lambda: forger.sign(forger.response(claims, evil)),
            }[how]()
            assert (await posted(browser, forged)).status == 403
            assert await browser.me() is None
    finally:
        forger.serve(forged_site.url)


async def test_a_log_out_without_a_name_ends_here_alone(browser: Browser, forger: Forger) -> None:
    """Single logout names the person by the NameID, which this one never had."""
    claims = await begun(browser, forger)
    await posted(browser, answer(forger, claims, ACCEPTED["no NameID"]))
    page = await browser.get("/")
    (form,) = [form for form in page.forms if form.action.endswith("/logout")]
    done = await browser.post("/logout", form.fields)
    assert (done.status, done.headers.get("Refresh")) == (303, None)
    assert await browser.me() is None


def _spoilt(text: str) -> str:
    """Put a certificate that nobody can read before the good one."""
    (key,) = re.findall(r"<md:KeyDescriptor.*?</md:KeyDescriptor>", text)
    return text.replace(key, re.sub(r"(<ds:X509Certificate>).*?(<)", r"\1AAAA\2", key) + key, 1)


async def test_one_unreadable_certificate_among_good_ones(
    browser: Browser, forger: Forger, forged_site: Service
) -> None:
    good = forger.file.read_text()
    try:
        forger.file.write_text(_spoilt(good))
        forged_site.restart()
        claims = await begun(browser, forger)
        assert (await posted(browser, forger.answer(claims))).status == 303
        assert "certificate of the identity provider's metadata cannot be read" in forged_site.log()
    finally:
        forger.file.write_text(good)
        forged_site.restart()
