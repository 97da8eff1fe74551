"""What browsers bring from the university, in process: answers to an open log-in, logout messages, and metadata."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.sax.saxutils import escape

import pytest
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.utils import OneLogin_Saml2_Utils as Utils

from app.access.computations import Computations
from app.access.people import Identity, SignedIn
from app.access.saml import Refused, University
from app.access.saml.metadata import IdentityProvider, read_metadata
from app.access.saml.university import Finished, LoggedOut
from app.config import Saml
from tests.sso.forge import Claims, Forger, encoded, inflated, xmlsec

from .inputs import edit, edited, example, fuzz, one_of, text

URL = "https://registry.example.org"


class _Cache:
    """Has each log-in and logout that anybody asks for, again and again."""

    def __init__(self) -> None:
        self.kept = b""

    async def set(self, _: str, value: str | bytes, __: int) -> bool:
        self.kept = value if isinstance(value, bytes) else value.encode()
        return True

    async def script(self, *_: object) -> bytes:
        return self.kept


class _People:
    async def signed_in(self, identity: Identity) -> SignedIn:
        identity.username.encode("ascii")
        json.dumps([identity.full_name, identity.email, identity.groups], ensure_ascii=False).encode()
        return SignedIn(cast("Any", None), ())


class _Sessions:
    async def end_saml(self, name_id: str, indexes: list[str]) -> set[int]:
        "".join([name_id, *indexes]).encode()
        return set()


@dataclass
class Scene:
    """A university whose identity provider is the forger, and a log-in that is open."""

    runner: asyncio.Runner
    university: University
    forger: Forger
    claims: Claims
    cookies: dict[str, str]

    def post(self, *answers: str) -> None:
        with suppress(Refused):
            assert isinstance(self.runner.run(self._finish(answers)), Finished)

    async def _finish(self, answers: Sequence[str]) -> Finished:
        return await self.university.finish(answers, await self.university.begun(self.cookies), _ADDRESS)

    def log_out(self, query: str) -> None:
        with suppress(Refused):
            assert isinstance(self.runner.run(self.university.logged_out(query, _ADDRESS)), LoggedOut)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("saml")
    forger, cache = Forger(folder), _Cache()
    idp = IdentityProvider(forger.metadata_url, None, folder)
    university = University(
        Saml(), URL, [forger.other_pair], idp=idp, cache=cast("Any", cache), people=cast("Any", _People()),
        sessions=cast("Any", _Sessions()), computations=Computations(),
    )  # fmt: skip
    with asyncio.Runner() as runner:
        begun = runner.run(university.begin("/"))
        forger.know(URL, forger.other_pair.certificate)
        request = inflated(dict(parse_qsl(urlsplit(begun.url).query))["SAMLRequest"])
        yield Scene(runner, university, forger, forger.claims(request.get("ID")), {begun.cookie: begun.secret})


_ADDRESS = "192.0.2.1"
_PIECES = (
    "<!-- -->", "<a/>", "<?x y?>", "&amp;", "&#0;", "&x;", "<![CDATA[x]]>", "]]>", "<saml:NameID>x</saml:NameID>", '"',
    "<ds:Object/>", ' ID="_1"', ' xml:id="_1"', ' NotOnOrAfter="soon"', "9999-99-99T99:99:99Z", "PT9999999999S",
    "\u212a", "'", "<!DOCTYPE a>", "<saml:Assertion", "</saml:Assertion>", "xmlns:saml=", "urn:oid:2.5.4.3",
)  # fmt: skip


def _edited(chance: Random, valid: str) -> str:
    """Edit XML. What UTF-8 does not have comes with bytes that are no XML."""
    return edit(chance, valid, _PIECES).encode(errors="replace").decode()


def _seed(chance: Random) -> int:
    return chance.randrange(2**64)


def _claims(chance: Random) -> dict[str, Any]:
    words = ("mari@ut.ee", "mari@other.example", "\u212aari@ut.ee", "x" * 300, text(chance), "")
    said = {
        name: escape(chance.choice(words).encode(errors="replace").decode(), {'"': "&quot;"})
        for name in ("username", "name_id", "issuer", "audience", "recipient", "status")
    }
    moments = {name: chance.randrange(-(10**6), 10**6) for name in ("not_before", "not_on_or_after", "confirmed_until")}
    every: dict[str, Any] = said | moments | {"destination": None}
    return {name: every[name] for name in chance.sample(sorted(every), chance.randrange(4))}


@fuzz(_seed, costs=20)
def test_answers(scene: Scene, seed: int) -> None:
    """The identity provider's own key signs half of them, after the edits inside."""
    chance = Random(seed)
    forger, said = scene.forger, scene.claims.changed(**_claims(chance))
    assertion = forger.assertion(said)
    if chance.random() < 0.5:
        assertion = _edited(chance, assertion)
    if chance.random() < 0.5:
        with suppress(Exception):  # what is no XML cannot be signed
            assertion = forger.encrypt(forger.sign(assertion))
    answer = forger.response(said, assertion)
    scene.post(encoded(answer if chance.random() < 0.5 else _edited(chance, answer)))


def _encoded(chance: Random) -> str:
    return base64.b64encode(_edited(chance, "<samlp:Response/>").encode()).decode()


@fuzz(edited(_encoded, " ", "=", "\r\n", "é"), costs=4)
@example(base64.b64encode(b"<a/>").decode())
@example(base64.b64encode(b"<!-- -->").decode())
def test_what_is_no_answer(scene: Scene, answer: str) -> None:
    scene.post(answer)


def _deflated(text: str) -> str:
    packed = zlib.compress(text.encode())[2:-4]
    return base64.b64encode(packed).decode()


_logout = (
    '<samlp:LogoutRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="_1" Version="2.0" '
    'xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" IssueInstant="2026-01-01T00:00:00Z">'
    "<saml:Issuer>https://idp.forged.example/idp</saml:Issuer><saml:NameID>x</saml:NameID>"
    "<samlp:SessionIndex>1</samlp:SessionIndex></samlp:LogoutRequest>"
)


@fuzz(_seed, costs=20)
def test_logout_messages(scene: Scene, seed: int) -> None:
    """The identity provider's own key signs half of them."""
    chance = Random(seed)
    kind = chance.choice(["SAMLRequest", "SAMLResponse"])
    message = _edited(chance, _logout.replace("LogoutRequest", kind.replace("SAML", "Logout")))
    query = urlencode({kind: _deflated(message), "SigAlg": Constants.RSA_SHA256})
    if chance.random() < 0.5:
        signature = Utils.sign_binary(query, scene.forger.pair.private_key, xmlsec.Transform.RSA_SHA256)
        query += "&" + urlencode({"Signature": base64.b64encode(signature).decode()})
    else:
        query = edit(chance, f"{query}&Signature=AAAA", ("&", "=", "%ff", "SigAlg=", "SAMLRequest="))
    scene.log_out(query)


@fuzz(_seed, costs=4)
def test_metadata(scene: Scene, seed: int) -> None:
    text = Path(scene.forger.file).read_text().replace(" entityID", ' validUntil="2099-01-01T00:00:00Z" entityID')
    with suppress(Refused):
        assert read_metadata(_edited(Random(seed), text).encode(), None).certificates


_scopes = edited(one_of("ut.ee", "(a|b).ee", "a{3}", "a{99999999999999999999}", "(" * 500), *"(){}[]|*+?\\^$.,:<=!P9")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@fuzz(_scopes, costs=4)
def test_scopes_of_metadata(scene: Scene, scope: str) -> None:
    text = Path(scene.forger.file).read_text()
    spelled = f'<shibmd:Scope regexp="true">{escape(scope)}</shibmd:Scope>'.encode(errors="replace")
    with suppress(Refused):
        read_metadata(text.encode().replace(b"<shibmd:Scope>ut.ee</shibmd:Scope>", spelled), None)
