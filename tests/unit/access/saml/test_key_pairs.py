"""Our own key pairs: configured, or made up once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from app.access.saml.key_pairs import KeyPair, own_keys, self_signed
from app.config import Saml


@pytest.fixture(scope="module")
def pairs() -> tuple[KeyPair, KeyPair]:
    return self_signed("one.example"), self_signed("two.example")


def configured(pair: KeyPair, next_pair: KeyPair | None = None) -> Saml:
    config = Saml(certificate=pair.certificate, private_key=pair.private_key)
    if next_pair is None:
        return config
    return replace(config, next_certificate=next_pair.certificate, next_private_key=next_pair.private_key)


def test_a_pair_is_made_up_once_and_closed_to_others(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as starts:
        made = [*starts.map(lambda _: own_keys(Saml(), tmp_path, "registry.example"), range(4))]
    assert all(pairs == made[0] for pairs in made)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    certificate = x509.load_pem_x509_certificate(made[0][0].certificate.encode())
    assert certificate.subject.rfc4514_string() == "CN=registry.example"


def test_what_is_configured_counts(tmp_path: Path, pairs: tuple[KeyPair, KeyPair]) -> None:
    assert own_keys(configured(*pairs), tmp_path, "x") == [*pairs]
    assert [*tmp_path.iterdir()] == []


def test_the_next_pair_may_follow_a_made_up_one(tmp_path: Path, pairs: tuple[KeyPair, KeyPair]) -> None:
    config = Saml(next_certificate=pairs[1].certificate, next_private_key=pairs[1].private_key)
    assert own_keys(config, tmp_path, "x")[1] == pairs[1]


def test_what_cannot_be_used_is_named_and_not_quoted(tmp_path: Path, pairs: tuple[KeyPair, KeyPair]) -> None:
    first, second = pairs
    for config, reason in [
        (Saml(certificate=first.certificate), "saml.certificate: a certificate and its private key go together"),
        (replace(configured(first), private_key="secret"), "saml.certificate: not a certificate and its RSA key"),
        (
            replace(configured(first), private_key=second.private_key),
            "saml.certificate: the certificate is for another",
        ),
        (replace(configured(first), next_certificate="x", next_private_key="secret"), "saml.next_certificate: not a"),
    ]:
        with pytest.raises(ValueError, match=reason) as caught:
            own_keys(config, tmp_path, "x")
        assert "secret" not in str(caught.value)


def test_a_secret_is_not_in_what_is_printed(pairs: tuple[KeyPair, KeyPair]) -> None:
    assert "PRIVATE" not in repr(pairs)
