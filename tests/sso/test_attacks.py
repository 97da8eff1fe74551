"""Answers that no identity provider of ours gave, or not for this: each refused, its reason in the log alone.

The forger has the identity provider's own key where an attack is about something else than the signature: an answer
that differs in nothing but what is attacked is accepted (the first test), so that each refusal is for its own reason.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable

import pytest
import xmlsec as typed_xmlsec
from lxml import etree
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants

from app.access.saml import KeyPair, documents
from tests.parts.process import eventually
from tests.parts.service import Service

from .browser import Browser, Page
from .forge import EPPN, SCOPED_AFFILIATION, Claims, Forger, encoded, inflated
from .noted import entries, noted
from .test_login import refused

Forgery = Callable[[Forger, Claims], str]
_DS = "{http://www.w3.org/2000/09/xmldsig#}"
_RSA_1_5 = getattr(typed_xmlsec, "Transform").RSA_PKCS1  # noqa: B009 - its stubs lack it
_SHA1 = "http://www.w3.org/2000/09/xmldsig#rsa-sha1"


@pytest.fixture
async def browser(forged_site: Service) -> AsyncIterator[Browser]:
    """A browser at the service whose identity provider is the forger."""
    async with Browser(forged_site.url) as browser:
        yield browser


async def begun(browser: Browser, forger: Forger) -> Claims:
    """Begin a log-in and give what a good answer to it says."""
    request = inflated((await browser.get("/saml/login")).query["SAMLRequest"])
    return forger.claims(request.get("ID"))


async def posted(browser: Browser, xml: str) -> Page:
    return await browser.post("/saml/acs", {"SAMLResponse": encoded(xml), "RelayState": ""})


async def test_an_answer_with_nothing_wrong_is_accepted(browser: Browser, forger: Forger) -> None:
    claims = await begun(browser, forger)
    assert (await posted(browser, forger.answer(claims))).status == 303
    assert (await browser.me() or {})["username"] == "mari@ut.ee"


async def test_what_was_refused_is_in_the_audit_log_without_its_reason(
    browser: Browser, forger: Forger, forged_site: Service
) -> None:
    for _ in range(3):
        claims = await begun(browser, forger)
        await refused(
            browser, forged_site, await posted(browser, forger.answer(claims.changed(username="a@b.example")))
        )
    assert (await browser.get("/saml/sls?SAMLRequest=x")).status == 403
    await noted(forged_site, until="reject")
    forged_site.restart()
    told = [entry for entry in entries(forged_site) if entry["operation"] == "reject"]
    counted = {
        kind: sum(entry["times"] for entry in told if entry["resource_type"] == f"university {kind}")
        for kind in ("log-in", "logout")
    }
    assert counted == {"log-in": 3, "logout": 1}
    for entry in told:
        who = entry["username"], entry["client_address"], entry["resource"]
        assert who == ("anonymous", "127.0.0.1", "")


async def test_a_signed_response_around_the_signed_assertion_is_accepted(browser: Browser, forger: Forger) -> None:
    claims = await begun(browser, forger)
    assert (await posted(browser, forger.sign(forger.answer(claims)))).status == 303


def says(**changes: object) -> Forgery:
    """Say something else, under good signatures."""
    return lambda forger, claims: forger.answer(claims.changed(**changes))


def made(forge: Callable[[Forger, Claims, str], str]) -> Forgery:
    """Do something with a good signed assertion."""
    return lambda forger, claims: forge(forger, claims, forger.sign(forger.assertion(claims)))


def evil(forger: Forger, claims: Claims, **changes: object) -> str:
    """Write the assertion that an attacker would like to be read: an admin's, not signed."""
    return forger.assertion(claims.changed(username="admin@ut.ee", **{"assertion_id": "_evil", **changes}))


def _tampered(forger: Forger, claims: Claims, good: str) -> str:
    return forger.response(claims, forger.encrypt(good.replace("mari@ut.ee", "tiina@ut.ee")))


def _beside(forger: Forger, claims: Claims, good: str) -> str:
    """XSW3: the evil assertion before the good one."""
    return forger.response(claims, evil(forger, claims), forger.encrypt(good))


def _around(forger: Forger, claims: Claims, good: str) -> str:
    """XSW4: the good assertion within the evil one."""
    wrapped = evil(forger, claims).replace("</saml:Assertion>", f"{good}</saml:Assertion>")
    return forger.response(claims, forger.encrypt(wrapped))


def _split(good: str) -> tuple[str, str]:
    """Take the signature out of an assertion; gives both."""
    root = etree.fromstring(good)
    signature = root.find(f"{_DS}Signature")
    root.remove(signature)
    return etree.tostring(signature).decode(), etree.tostring(root).decode()


def _signature_in_evil(forger: Forger, claims: Claims, good: str) -> str:
    """XSW5: the good one's signature in the evil one, and the good one without it elsewhere."""
    signature, bare = _split(good)
    wrapped = evil(forger, claims).replace("</saml:Issuer>", f"</saml:Issuer>{signature}")
    return forger.response(claims, forger.encrypt(wrapped), bare)


def _good_in_signature(forger: Forger, claims: Claims, good: str, *, in_object: bool) -> str:
    """XSW6 and XSW8: the good one within its own signature, and that in the evil one."""
    signature, bare = _split(good)
    inside = f'<ds:Object xmlns:ds="{_DS[1:-1]}">{bare}</ds:Object>' if in_object else bare
    filled = signature.replace("</ds:Signature>", f"{inside}</ds:Signature>")
    wrapped = evil(forger, claims).replace("</saml:Issuer>", f"</saml:Issuer>{filled}")
    return forger.response(claims, forger.encrypt(wrapped))


def _in_extensions(forger: Forger, claims: Claims, good: str) -> str:
    """XSW7: the evil assertion among the response's extensions."""
    text = forger.response(claims, forger.encrypt(good))
    extensions = f"<samlp:Extensions>{evil(forger, claims)}</samlp:Extensions><samlp:Status>"
    return text.replace("<samlp:Status>", extensions, 1)


def _same_id(forger: Forger, claims: Claims, good: str) -> str:
    """The evil one under the id of the good one, which its signature refers to, both encrypted as one."""
    signature, bare = _split(good)
    wrapped = evil(forger, claims, assertion_id=claims.assertion_id).replace(
        "</saml:Issuer>", f"</saml:Issuer>{signature}"
    )
    return forger.response(claims, forger.encrypt(wrapped.replace("</saml:Assertion>", f"{bare}</saml:Assertion>")))


def _wrapped_response(forger: Forger, claims: Claims, good: str) -> str:
    """XSW1: a signed response within the signature of an evil one."""
    signed = forger.sign(forger.response(claims, forger.encrypt(good)))
    signature, bare = _split(signed)
    filled = signature.replace(
        "</ds:Signature>", f'<ds:Object xmlns:ds="{_DS[1:-1]}">{bare}</ds:Object></ds:Signature>'
    )
    outside = forger.response(claims, forger.encrypt(evil(forger, claims))).replace("_response-1", "_response-2")
    return outside.replace("</saml:Issuer>", f"</saml:Issuer>{filled}", 1)


def _transformed(forger: Forger, claims: Claims, good: str) -> str:
    """A step that takes the tampered value out before the digest is made (XPath), as SAML forbids."""
    root = etree.fromstring(good.replace("mari@ut.ee", "tiina@ut.ee"))
    transforms = root.find(f".//{_DS}Transforms")
    step = etree.SubElement(transforms, f"{_DS}Transform", Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116")
    etree.SubElement(step, f"{_DS}XPath").text = "not(ancestor-or-self::saml:AttributeValue)"
    return forger.response(claims, forger.encrypt(etree.tostring(root).decode()))


def _reading_elsewhere(forger: Forger, claims: Claims, good: str) -> str:
    """A second reference, to a file of the server."""
    root = etree.fromstring(good)
    info = root.find(f".//{_DS}SignedInfo")
    reference = etree.fromstring(etree.tostring(info.find(f"{_DS}Reference")))
    reference.set("URI", "file:///etc/passwd")
    info.insert(2, reference)
    return forger.response(claims, forger.encrypt(etree.tostring(root).decode()))


def _cipher_elsewhere(forger: Forger, claims: Claims, good: str) -> str:
    text = forger.response(claims, forger.encrypt(good))
    root = etree.fromstring(text)
    value = root.findall(".//{*}CipherValue")[-1]
    reference = etree.SubElement(value.getparent(), value.tag.replace("CipherValue", "CipherReference"))
    reference.set("URI", "http://127.0.0.1:1/")
    value.getparent().remove(value)
    return str(etree.tostring(root).decode())


def _commented(forger: Forger, claims: Claims, good: str) -> str:
    """A name cut short by a comment, which signatures do not cover: read whole, it is no name of ours."""
    signed = forger.sign(forger.assertion(claims.changed(username="mari@ut.ee.elsewhere.example")))
    cut = signed.replace("mari@ut.ee.elsewhere", "mari@ut.ee<!-- -->.elsewhere")
    return forger.response(claims, forger.encrypt(cut))


def _inserted(inserted: str) -> Forgery:
    """A signed name with something in it, up to which a careless reader reads the name."""

    def forge(forger: Forger, claims: Claims) -> str:
        whole = forger.assertion(claims.changed(username="mari@ut.ee.elsewhere.example"))
        cut = whole.replace("mari@ut.ee.elsewhere", f"mari@ut.ee{inserted}.elsewhere")
        return forger.response(claims, forger.encrypt(forger.sign(cut)))

    return forge


def _with_entities(forger: Forger, claims: Claims, good: str) -> str:
    doctype = '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    return doctype + forger.answer(claims).replace("idp.forged", "&x;idp.forged", 1)


def _with_bombs(forger: Forger, claims: Claims, good: str) -> str:
    bombs = "".join(f'<!ENTITY b{n} "{f"&b{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE r [<!ENTITY b0 "x">{bombs}]>' + forger.answer(claims)


ATTACKS: list[tuple[str, Forgery, str]] = [
    ("unsigned", lambda f, c: f.response(c, f.encrypt(f.assertion(c))), "Assertion of the Response is not signed"),
    (
        "signed as a whole only",
        lambda f, c: f.sign(f.response(c, f.encrypt(f.assertion(c)))),
        "Assertion of the Response is not signed",
    ),
    ("not encrypted", made(lambda f, c, good: f.response(c, good)), "not encrypted"),
    ("tampered", made(_tampered), "Signature validation failed"),
    (
        "signed by somebody else",
        lambda f, c: f.response(c, f.encrypt(f.sign(f.assertion(c), f.other_pair))),
        "Signature validation failed",
    ),
    (
        "signed with SHA-1",
        lambda f, c: f.response(c, f.encrypt(f.sign(f.assertion(c), algorithm=_SHA1))),
        "Deprecated signature algorithm",
    ),
    (
        "key by RSA 1.5",
        made(lambda f, c, good: f.response(c, f.encrypt(good, _RSA_1_5))),
        "the key is encrypted by http://www.w3.org/2001/04/xmlenc#rsa-1_5",
    ),
    ("wrapped: beside", made(_beside), "must contain 1 assertion"),
    ("wrapped: around", made(_around), "must contain 1 assertion"),
    ("wrapped: signature moved", made(_signature_in_evil), "signature does not cover the element that contains it"),
    (
        "wrapped: in the signature",
        made(lambda f, c, good: _good_in_signature(f, c, good, in_object=False)),
        "signature does not cover the element that contains it",
    ),
    (
        "wrapped: in an object",
        made(lambda f, c, good: _good_in_signature(f, c, good, in_object=True)),
        "parts that SAML does not need",
    ),
    ("wrapped: in extensions", made(_in_extensions), "must contain 1 assertion"),
    ("wrapped: the same id", made(_same_id), "have the same id"),
    ("wrapped: the response", made(_wrapped_response), "parts that SAML does not need"),
    ("transformed", made(_transformed), "steps that SAML does not allow"),
    ("reads a file", made(_reading_elsewhere), "signature does not cover the element that contains it"),
    ("asks another host", made(_cipher_elsewhere), "parts that SAML does not need"),
    ("a comment in a name", made(_commented), "'mari@ut.ee.elsewhere.example' has no scope"),
    ("an element in a name", _inserted("<x/>"), "is not plain text"),
    ("an instruction in a name", _inserted("<?x y?>"), "'mari@ut.ee.elsewhere.example' has no scope"),
    ("a name in a name", _inserted("<saml:NameID>x</saml:NameID>"), "is not plain text"),
    ("expired", says(not_on_or_after=-400), "expired"),
    ("confirmed until a while ago", says(confirmed_until=-1), "valid SubjectConfirmation was not found"),
    ("confirmed for ever", says(confirmed_until=None), "does not confirm its subject"),
    ("not yet valid", says(not_before=400), "not yet valid"),
    ("another audience", says(audience="https://other.example/saml"), "is not a valid audience"),
    ("no audience", says(audience=None), "does not say whom it is for"),
    ("another recipient", says(recipient="https://other.example/saml/acs"), "valid SubjectConfirmation was not found"),
    ("no recipient", says(recipient=None), "does not confirm its subject"),
    ("another destination", says(destination="https://other.example/saml/acs"), "received at"),
    ("longer destination", says(destination="{acs}/x"), "sent to another address"),
    ("another identity provider", says(issuer="https://idp.other.example/idp"), "Invalid issuer"),
    ("another request", says(answered_request="_never-made"), "no log-in of this browser"),
    ("no request", says(answered_request=None), "no log-in of this browser"),
    ("assertion for another request", says(confirmed_request="_another"), "valid SubjectConfirmation was not found"),
    ("assertion for no request", says(confirmed_request=None), "does not confirm its subject"),
    (
        "failed",
        says(status="urn:oasis:names:tc:SAML:2.0:status:Responder"),
        "status code of the Response was not Success",
    ),
    ("no identity", says(username=None), "has no identity attribute"),
    ("two identities", says(username=None, attributes={EPPN: ["mari@ut.ee", "juri@ut.ee"]}), "has 2 values"),
    ("foreign scope", says(username="mari@taltech.ee"), "'mari@taltech.ee' has no scope of this"),
    ("foreign scope after ours", says(username="mari@taltech.ee@ut.ee"), "has no scope of this"),
    ("no scope", says(username="admin"), "'admin' has no scope of this"),
    ("odd name", says(username="ma ri@ut.ee"), "cannot be a user name here"),
    ("a robot's name", says(username="robot-x@ut.ee"), "begins with the prefix of robot accounts"),
    ("entities", made(_with_entities), "document type or entities"),
    ("billion laughs", made(_with_bombs), "document type or entities"),
    ("no XML", lambda f, c: "<samlp:Response", "not well-formed XML"),
    ("another message", lambda f, c: "<samlp:AuthnRequest xmlns:samlp='x'/>", "not a SAML response"),
]


@pytest.mark.parametrize(("forge", "reason"), [pytest.param(*rest, id=name) for name, *rest in ATTACKS])
async def test_an_attack_is_refused(
    browser: Browser, forger: Forger, forged_site: Service, forge: Forgery, reason: str
) -> None:
    claims = await begun(browser, forger)
    xml = forge(forger, claims).replace("{acs}", claims.acs)
    said = await refused(browser, forged_site, await posted(browser, xml))
    assert reason in said
    assert "Assertion>" not in forged_site.log()


async def test_an_answer_for_one_log_in_does_not_end_another(
    browser: Browser, forger: Forger, forged_site: Service
) -> None:
    first, second = await begun(browser, forger), await begun(browser, forger)
    assertion = forger.encrypt(forger.sign(forger.assertion(first)))
    said = await refused(browser, forged_site, await posted(browser, forger.response(second, assertion)))
    assert "valid SubjectConfirmation was not found" in said


async def test_a_browser_without_its_cookie_is_another_one(
    browser: Browser, forger: Forger, forged_site: Service
) -> None:
    claims = await begun(browser, forger)
    browser.forget("saml-")
    assert "this browser has begun no log-in" in await refused(
        browser, forged_site, await posted(browser, forger.answer(claims))
    )


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({}, "0 SAML responses"),
        ({"SAMLResponse": "!"}, "not base64"),
        ({"SAMLResponse": base64.b64encode(b"x").decode()}, "not well-formed XML"),
        ({"SAMLResponse": "A" * 300_000}, "longer than"),
    ],
)
async def test_what_is_no_answer_at_all_is_refused(
    browser: Browser, forged_site: Service, form: dict[str, str], reason: str
) -> None:
    await browser.get("/saml/login")
    assert reason in await refused(browser, forged_site, await browser.post("/saml/acs", form))


@pytest.mark.parametrize("cookies", [{}, {"saml-0123456789abcdef": "made-up"}, {"saml-x": ""}])
async def test_nothing_is_parsed_for_a_browser_that_has_begun_no_log_in(
    browser: Browser, forged_site: Service, cookies: dict[str, str]
) -> None:
    browser.plant(**cookies)
    page = await browser.post("/saml/acs", {"SAMLResponse": "not even base64"})
    assert "this browser has begun no log-in" in await refused(browser, forged_site, page)


def test_a_message_of_many_attributes_is_checked_in_a_time_that_grows_with_it() -> None:
    def attributes(count: int) -> bytes:
        many = " ".join(f'a{number}="{number}"' for number in range(count))
        return f'<samlp:Response xmlns:samlp="{Constants.NS_SAMLP}" {many}/>'.encode()

    def cost(count: int) -> float:
        document = documents.parse(attributes(count))
        begun = time.process_time()
        documents.check(document)
        return time.process_time() - begun

    # Eight times as many: 64 times the work with a square, so that half of it tells the two apart on a busy machine.
    least = min(cost(2_000) for _ in range(5))
    assert min(cost(16_000) for _ in range(3)) < 32 * max(least, 0.0002)


async def test_a_local_account_is_nobody_elses(browser: Browser, forger: Forger, forged_site: Service) -> None:
    # Its name has no scope, so that not even an identity provider without any could say it.
    claims = await begun(browser, forger)
    said = await refused(browser, forged_site, await posted(browser, forger.answer(claims.changed(username="admin"))))
    assert "has no scope" in said


async def test_a_foreign_affiliation_counts_for_nothing(browser: Browser, forger: Forger) -> None:
    attributes = {SCOPED_AFFILIATION: ["employee@elsewhere.example"]}
    claims = (await begun(browser, forger)).changed(attributes=attributes)
    assert (await posted(browser, forger.answer(claims))).status == 303


async def test_an_identity_provider_changes_its_key(forger: Forger, forged_site: Service, browser: Browser) -> None:
    async def with_old(claims: Claims) -> Page:
        return await posted(browser, forger.answer(claims))

    async def with_new(claims: Claims) -> Page:
        signed = forger.sign(forger.assertion(claims), forger.other_pair)
        return await posted(browser, forger.response(claims, forger.encrypt(signed)))

    try:
        await _announce(forger, forged_site, forger.pair, forger.other_pair)
        assert (await with_old(await begun(browser, forger))).status == 303
        assert (await with_new(await begun(browser, forger))).status == 303
        await _announce(forger, forged_site, forger.other_pair)
        browser.forget("session")
        said = await refused(browser, forged_site, await with_old(await begun(browser, forger)))
        assert "Signature validation failed" in said
        assert (await with_new(await begun(browser, forger))).status == 303
    finally:
        await _announce(forger, forged_site, forger.pair)


async def _announce(forger: Forger, site: Service, *pairs: KeyPair) -> None:
    """Change the metadata, and have it read now rather than within the hour."""
    forger.announce(*pairs)
    before = site.log().count("certificates")
    site.restart()

    async def read() -> bool:
        return site.log().count("certificates") > before

    await eventually(read, what="the new metadata to be read")
