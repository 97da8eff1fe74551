"""The key pairs that sign our messages and decrypt those to us: one in use, and another during a key rollover."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from app.config import Saml

_FILE = "saml.pem"
_BITS = 3072
_YEARS = 10


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both as PEM."""

    certificate: str
    private_key: str = field(repr=False)


def own_keys(config: Saml, data_dir: Path, host: str) -> Sequence[KeyPair]:
    """Return the pair in use and the next one, if there is one. If none is configured, generate it in ``data_dir``.

    A generated pair is this host's own, so several hosts need a configured one. Raises OSError, and ValueError with
    the name of the configuration's key.
    """
    own, following = configured_keys(config)
    return [own or _generated(data_dir / _FILE, host), *([following] if following else [])]


def configured_keys(config: Saml) -> tuple[KeyPair | None, KeyPair | None]:
    """Return the pair in use and the next one, each None if not configured; raises ValueError as `own_keys` does."""
    return (
        _configured("saml.certificate", config.certificate, config.private_key),
        _configured("saml.next_certificate", config.next_certificate, config.next_private_key),
    )


def _configured(name: str, certificate: str | None, private_key: str | None) -> KeyPair | None:
    if certificate is None and private_key is None:
        return None
    if certificate is None or private_key is None:
        raise ValueError(f"{name}: a certificate and its private key go together, and one of the two is missing")
    try:
        return _pair(certificate, private_key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # Not chained, because the parser's error may quote the text that it could not read.
        raise ValueError(f"{name}: {_reason(error)}") from None


class _Mismatch(ValueError):
    """An error with a message of ours, which quotes nothing."""


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _Mismatch) else "not a certificate and its RSA key, without password, in PEM"


def _pair(certificate: str, private_key: str) -> KeyPair:
    key = load_pem_private_key(private_key.encode(), password=None)
    known = x509.load_pem_x509_certificate(certificate.encode())
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _Mismatch("the private key is not an RSA key")
    if known.public_key() != key.public_key():
        raise _Mismatch("the certificate is for another private key")
    return _as_pair(known, key)


def _as_pair(certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> KeyPair:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(certificate.public_bytes(Encoding.PEM).decode(), pem.decode())


def _generated(path: Path, host: str) -> KeyPair:
    """Return the pair of an earlier start, or generate it; workers that start together all use the same one."""
    if not path.exists():
        pair = self_signed(host)
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(pair.private_key + pair.certificate)
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, a link never replaces a pair that another worker has written meanwhile.
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink()
    text = path.read_text()
    try:
        return _pair(text, text)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path}: {_reason(error)}; remove it to get a new pair") from None


def self_signed(host: str) -> KeyPair:
    """Generate a new pair; SAML trusts the certificate itself, so nobody need sign it."""
    key = rsa.generate_private_key(65537, _BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * _YEARS))
        .sign(key, hashes.SHA256())
    )
    return _as_pair(certificate, key)
