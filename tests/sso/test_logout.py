"""Single logout, begun by us and by the identity provider, and messages that are not its."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode

import pytest
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.utils import OneLogin_Saml2_Utils as Utils

from app.access.saml import KeyPair
from tests.parts.idp import IdentityProvider
from tests.parts.service import Service

from .browser import Browser, Page
from .forge import ENTITY, Forger, inflated
from .noted import noted
from .test_attacks import begun, posted


async def test_logging_out_here_logs_out_at_the_university(browser: Browser, site: Service) -> None:
    await browser.log_in("mari")
    page = await browser.log_out()
    assert page.status == 200
    assert await browser.me() is None
    assert inflated(page.query["SAMLRequest"]).get("Destination") == page.location.partition("?")[0]
    back = await browser.get(page.location)
    while not back.location.startswith(site.url):
        back = await browser.get(back.location)
    assert back.location.startswith(f"{site.url}/saml/sls?SAMLResponse=")
    done = await browser.get(back.location)
    assert (done.status, done.headers["Location"]) == (303, "/")
    # The identity provider asks for the password again.
    again = await browser.follow(await browser.get("/saml/login"))
    assert "password" in again.forms[0].fields
    # And its answer counts once.
    assert "no logout of ours" in reason(site, await browser.get(back.location))


async def test_logging_out_at_the_university_logs_out_here(
    browser: Browser, other_browser: Browser, university: IdentityProvider, site: Service
) -> None:
    await browser.log_in("mari")
    await other_browser.log_in("mari")
    back = quote(f"{university.url}/", safe="")
    page = await browser.get(f"{university.url}/saml2/idp/SingleLogoutService.php?ReturnTo={back}")
    passed = []
    while page.headers.get("Location"):
        passed += [name for name in ("SAMLRequest", "SAMLResponse") if name in page.query]
        page = await browser.get(page.location)
    # It took our answer, and went on to where it was told.
    assert passed == ["SAMLRequest", "SAMLResponse"]
    assert (page.url.startswith(f"{university.url}/"), page.status) == (True, 200)
    assert await browser.me() is None
    await noted(site, "mari@ut.ee", until="logout", by="system:university")
    # It is this browser's log-in that has ended, not the person's.
    assert await other_browser.me() is not None


async def test_the_local_admin_logs_out_here_alone(browser: Browser) -> None:
    await browser.send(await browser.get("/login"), username="admin", password="tests-admin-password")
    assert await browser.me() is not None
    assert (await browser.log_out()).headers["Location"] == "/"
    assert await browser.me() is None


async def test_logging_out_takes_a_token_of_our_own_pages(browser: Browser) -> None:
    await browser.log_in("mari")
    assert (await browser.post("/logout", {})).status == 403
    assert await browser.me() is not None


class TestForged:
    """At the service whose identity provider is the forger, by its messages and by others'."""

    @pytest.fixture
    async def browser(self, forged_site: Service, forger: Forger) -> AsyncIterator[Browser]:
        """A browser that is logged in."""
        async with Browser(forged_site.url) as browser:
            claims = (await begun(browser, forger)).changed(name_id="_transient-logout")
            assert (await posted(browser, forger.answer(claims))).status == 303
            assert await browser.me() is not None
            yield browser

    async def test_the_identity_providers_own_is_obeyed(
        self, browser: Browser, forger: Forger, forged_site: Service
    ) -> None:
        page = await browser.get(_address(forger.pair, _request(forged_site), relay_state="x"))
        assert page.location.startswith("https://idp.forged.example/slo?SAMLResponse=")
        answer = inflated(page.query["SAMLResponse"])
        assert (answer.get("InResponseTo"), page.query["RelayState"]) == ("_logout-1", "x")
        assert answer.find(".//{*}StatusCode").get("Value") == Constants.STATUS_SUCCESS
        assert await browser.me() is None

    async def test_another_index_of_the_same_person_is_left_alone(
        self, browser: Browser, forger: Forger, forged_site: Service
    ) -> None:
        page = await browser.get(_address(forger.pair, _request(forged_site, index="_session-2")))
        assert page.status == 303
        assert await browser.me() is not None

    async def test_others_are_refused(self, browser: Browser, forger: Forger, forged_site: Service) -> None:
        good = _request(forged_site)
        signed = _address(forger.pair, good)
        evil = urlencode({"SAMLRequest": _deflated(_request(forged_site, name_id="_x"))})
        for address, expected in [
            (signed.partition("&SigAlg")[0], "not signed"),
            (_address(forger.other_pair, good), "Signature validation failed"),
            (_address(forger.pair, good, algorithm=Constants.RSA_SHA1), "Deprecated signature algorithm"),
            (signed.replace("SigAlg=", "RelayState=x&SigAlg="), "Signature validation failed"),
            (f"{signed}&{evil}", "not have exactly one logout message"),
            (f"{signed}&{evil.replace('SAML', '%53AML')}", "not have exactly one logout message"),
            (f"{signed}&{evil.replace('SAMLRequest', 'SAMLResponse')}", "not have exactly one logout message"),
            (_address(forger.pair, good.replace(ENTITY, "https://idp.other.example")), "Invalid issuer"),
            (_address(forger.pair, good.replace("/saml/sls", "/elsewhere")), "was received at"),
            (_address(forger.pair, "<!DOCTYPE x>" + good), "cannot be read"),
            ("/saml/sls", "not have exactly one logout message"),
        ]:
            assert expected in reason(forged_site, await browser.get(address)), address
            assert await browser.me() is not None


def reason(site: Service, page: Page) -> str:
    """Check that a logout message was refused without a word to the browser; gives the reason in the log."""
    assert page.status == 403
    request_id = page.headers["X-Request-Id"]
    lines = [json.loads(line) for line in site.log().splitlines() if request_id in line]
    (said,) = [line["message"] for line in lines if line["logger"] == "app.web.login"]
    assert said.startswith("logout refused: ")
    assert said.partition("refused: ")[2] not in page.text
    return str(said)


def _request(site: Service, name_id: str = "_transient-logout", index: str = "_session-1") -> str:
    return (
        '<samlp:LogoutRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" '
        'xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_logout-1" Version="2.0" '
        f'IssueInstant="2026-01-01T00:00:00Z" Destination="{site.url}/saml/sls"><saml:Issuer>{ENTITY}</saml:Issuer>'
        f"<saml:NameID>{name_id}</saml:NameID><samlp:SessionIndex>{index}</samlp:SessionIndex></samlp:LogoutRequest>"
    )


def _deflated(xml: str) -> str:
    return base64.b64encode(zlib.compress(xml.encode())[2:-4]).decode()


def _address(pair: KeyPair, xml: str, *, relay_state: str | None = None, algorithm: str = Constants.RSA_SHA256) -> str:
    parts = {"SAMLRequest": _deflated(xml), "RelayState": relay_state, "SigAlg": algorithm}
    query = urlencode({name: value for name, value in parts.items() if value is not None})
    signature = base64.b64encode(Utils.sign_binary(query, pair.private_key, _transform(algorithm))).decode()
    return f"/saml/sls?{query}&{urlencode({'Signature': signature})}"


def _transform(algorithm: str) -> object:
    import xmlsec

    transforms = getattr(xmlsec, "Transform")  # noqa: B009 - its stubs lack it
    return transforms.RSA_SHA1 if algorithm == Constants.RSA_SHA1 else transforms.RSA_SHA256
