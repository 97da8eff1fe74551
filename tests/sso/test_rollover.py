"""Our keys are rolled over without a log-in failing: two certificates in the metadata, then the next one in use."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest
import yaml
from lxml import etree

from app.access.saml.key_pairs import KeyPair, self_signed
from tests.parts.idp import IdentityProvider
from tests.parts.service import Service
from tests.parts.valkey import Valkey

from .browser import Browser


@pytest.fixture(scope="module")
def pairs() -> tuple[KeyPair, KeyPair]:
    return self_signed("old.example"), self_signed("new.example")


@pytest.fixture(scope="module")
def rolling(
    tmp_path_factory: pytest.TempPathFactory,
    redis: Valkey,
    university: IdentityProvider,
    pairs: tuple[KeyPair, KeyPair],
) -> Iterator[Service]:
    """A service with an old pair in use and a new one that comes next."""
    old, new = pairs
    saml = {
        "enabled": True,
        "idp_metadata_url": university.metadata_url,
        "certificate": old.certificate,
        "private_key": old.private_key,
        "next_certificate": new.certificate,
        "next_private_key": new.private_key,
    }
    with Service(tmp_path_factory.mktemp("rolling"), redis=redis.url, overrides={"saml": saml}) as service:
        yield service


async def test_keys_are_rolled_over(
    rolling: Service, university: IdentityProvider, pairs: tuple[KeyPair, KeyPair]
) -> None:
    metadata = _metadata(rolling)
    assert _certificates(metadata, "signing") == _certificates(metadata, "encryption")
    old, new = _certificates(metadata, "signing")
    assert old in "".join(pairs[0].certificate.split())
    assert new in "".join(pairs[1].certificate.split())

    university.trust(rolling.url, metadata)
    await _logs_in(rolling)
    # One that encrypts for the new certificate while we still sign with the old key.
    university.trust(rolling.url, _without(metadata, old))
    await _logs_in(rolling)
    # And then we do sign with the new one, and have forgotten the old.
    config = yaml.safe_load(rolling.config.read_text())
    config["saml"] |= {"certificate": pairs[1].certificate, "private_key": pairs[1].private_key}
    del config["saml"]["next_certificate"], config["saml"]["next_private_key"]
    rolling.config.write_text(yaml.safe_dump(config))
    rolling.restart()
    assert _certificates(_metadata(rolling), "signing") == [new]
    await _logs_in(rolling)


async def _logs_in(site: Service) -> None:
    async with Browser(site.url) as browser:
        await browser.log_in("mari")
        assert await browser.me() is not None


def _metadata(site: Service) -> bytes:
    with urllib.request.urlopen(f"{site.url}/saml/metadata", timeout=10) as answer:
        return bytes(answer.read())


def _certificates(metadata: bytes, use: str) -> list[str]:
    found = etree.fromstring(metadata).xpath(f"//*[local-name()='KeyDescriptor'][@use='{use}']")
    return ["".join(one.findtext(".//{*}X509Certificate").split()) for one in found]


def _without(metadata: bytes, certificate: str) -> bytes:
    """Leave out that a certificate is for encryption."""
    root = etree.fromstring(metadata)
    for one in root.xpath("//*[local-name()='KeyDescriptor'][@use='encryption']"):
        if "".join(one.findtext(".//{*}X509Certificate").split()) == certificate:
            one.getparent().remove(one)
    return bytes(etree.tostring(root))
