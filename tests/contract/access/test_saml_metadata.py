"""The identity provider's metadata: what it must have, and how the last good copy is kept."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from app.access.saml.key_pairs import KeyPair, self_signed
from app.access.saml.metadata import IdentityProvider, read_metadata
from app.access.saml.refused import Refused
from app.access.saml.rules import Scope
from app.oci.errors import Unavailable
from tests.sso.forge import ENTITY, idp_metadata


@pytest.fixture(scope="module")
def pair() -> KeyPair:
    return self_signed("idp.example")


@pytest.fixture
def good(pair: KeyPair) -> str:
    return idp_metadata([pair])


def test_what_is_needed_is_read(pair: KeyPair) -> None:
    known = read_metadata(idp_metadata([pair, pair], ["ut.ee", "taltech.ee"]).encode(), None)
    assert known.entity_id == ENTITY
    assert (known.sso_url, known.slo_url) == ("https://idp.forged.example/sso", "https://idp.forged.example/slo")
    assert len(known.certificates) == 2
    assert known.scopes == (Scope("ut.ee"), Scope("taltech.ee"))
    assert known.valid_until is None


def test_one_of_several_is_chosen_by_its_name(pair: KeyPair) -> None:
    both = "".join(idp_metadata([pair], entity_id=name) for name in ("urn:one", "urn:two"))
    text = f'<EntitiesDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata">{both}</EntitiesDescriptor>'.encode()
    assert read_metadata(text, "urn:two").entity_id == "urn:two"
    with pytest.raises(Refused, match="several identity providers"):
        read_metadata(text, None)
    with pytest.raises(Refused, match="no identity provider urn:three"):
        read_metadata(text, "urn:three")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<md:SingleSignOnService", "<md:Other", "lacks an entity id, a log-in address"),
        ("https://idp.forged.example/sso", "javascript:alert(1)", "lacks an entity id, a log-in address"),
        ('use="signing"', 'use="encryption"', "or a certificate for signing"),
        (f'entityID="{ENTITY}"', "", "lacks an entity id"),
        ("X509Certificate>MII", "X509Certificate>AAA", "or a certificate for signing"),
        ("<shibmd:Scope>ut.ee", '<shibmd:Scope regexp="true">(', "not a valid regular expression"),
        ("<shibmd:Scope>ut.ee", f'<shibmd:Scope regexp="true">a{{{10**20}}}', "not a valid regular expression"),
        ("<shibmd:Scope>ut.ee", f'<shibmd:Scope regexp="true">{"(" * 2000}', "not a valid regular expression"),
        ("https://idp.forged.example/sso", "https://[", "lacks an entity id, a log-in address"),
        ("<md:EntityDescriptor", '<md:EntityDescriptor validUntil="soon"', "'soon' is not a time"),
        ("<md:EntityDescriptor", '<!DOCTYPE x [<!ENTITY y "z">]><md:EntityDescriptor', "document type"),
        ("<md:EntityDescriptor", "<html>", "not well-formed"),
        ("IDPSSODescriptor", "SPSSODescriptor", "no identity provider"),
    ],
)
def test_what_cannot_be_used_is_refused(good: str, old: str, new: str, reason: str) -> None:
    assert old in good
    with pytest.raises(Refused, match=reason):
        read_metadata(good.replace(old, new).encode(), None)


class TestCopies:
    """A file at its source, and the copy that is kept of it."""

    @pytest.fixture
    def source(self, tmp_path: Path, good: str) -> Path:
        (tmp_path / "data").mkdir()
        source = tmp_path / "idp metadata.xml"
        source.write_text(good)
        return source

    def provider(self, source: Path) -> IdentityProvider:
        return IdentityProvider(source.as_uri(), None, source.parent / "data")

    async def test_it_is_asked_when_it_is_first_needed(self, source: Path) -> None:
        assert (await self.provider(source).current()).entity_id == ENTITY

    async def test_the_copy_serves_a_start_without_the_source(self, source: Path) -> None:
        assert await self.provider(source).refresh()
        (copy,) = (source.parent / "data").iterdir()
        assert copy.stat().st_mode & 0o777 == 0o600
        source.unlink()
        later = self.provider(source)
        await later.start()
        assert (await later.current()).entity_id == ENTITY

    async def test_what_is_bad_changes_nothing(self, source: Path, caplog: pytest.LogCaptureFixture) -> None:
        provider = self.provider(source)
        assert await provider.refresh()
        source.write_text("<html>an error page</html>")
        assert not await provider.refresh()
        assert "the known metadata stays in use" in caplog.text
        assert (await provider.current()).entity_id == ENTITY
        later = self.provider(source)
        await later.start()
        assert (await later.current()).entity_id == ENTITY

    async def test_another_address_is_not_answered_by_the_copy(self, source: Path) -> None:
        assert await self.provider(source).refresh()
        elsewhere = self.provider(source.with_name("elsewhere.xml"))
        await elsewhere.start()
        with pytest.raises(Unavailable, match="the university's log-in cannot be reached"):
            await elsewhere.current()

    async def test_what_has_run_out_is_good_for_nothing(self, source: Path, good: str) -> None:
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        source.write_text(good.replace("<md:EntityDescriptor", f'<md:EntityDescriptor validUntil="{until}"', 1))
        now = [time.time()]
        provider = IdentityProvider(source.as_uri(), None, source.parent / "data", lambda: now[0])
        assert (await provider.current()).valid_until
        now[0] += 3601
        assert not await provider.refresh()
        with pytest.raises(Unavailable):
            await provider.current()

    async def test_a_source_without_end_is_given_up(self, source: Path) -> None:
        source.unlink()
        with source.open("wb") as file:
            os.truncate(file.fileno(), 17 * 1024 * 1024)
        assert not await self.provider(source).refresh()

    async def test_another_scheme_is_refused(self, source: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert not await IdentityProvider("ftp://idp.example/x", None, source.parent).refresh()
        assert "not http://, https:// or file://" in caplog.text

    @pytest.mark.parametrize(
        "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<md"]
    )
    async def test_who_speaks_no_http_is_not_the_end(self, source: Path, answer: bytes) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            assert not await IdentityProvider(f"http://127.0.0.1:{port}/", None, source.parent).refresh()
