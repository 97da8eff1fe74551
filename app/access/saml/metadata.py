"""The identity provider's metadata, which is read from a URL or a file, again every hour.

The last good copy stays in the data folder, for a start while the identity provider is down. Its name has a hash of its
address, so an old copy is never used for another address in the configuration.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import random
import re
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryptography import x509
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants

from app.kit.jobs import repeat
from app.kit.single_flight import SingleFlight
from app.kit.threads import in_thread
from app.oci.errors import Unavailable

from .documents import Element, find, moment, parse, text_of
from .refused import Refused
from .rules import Scope

log = logging.getLogger(__name__)

_EVERY = 3600.0
_AGAIN_AFTER = 60.0
_TIMEOUT = 10.0
_DEADLINE = 60.0
# A federation's aggregate is larger; ask the federation for the one entity instead (MDQ).
_LONGEST = 16 * 1024 * 1024
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class IdpMetadata:
    """One identity provider; certificates are base64 of DER, and ``valid_until`` is in Unix seconds."""

    entity_id: str
    sso_url: str
    slo_url: str | None
    slo_answer_url: str | None
    certificates: tuple[str, ...]
    scopes: tuple[Scope, ...]
    valid_until: float | None


def read_metadata(text: bytes, entity_id: str | None) -> IdpMetadata:
    """Return the identity provider of a document; raises Refused with the missing part."""
    root = parse(text)
    path = "descendant-or-self::md:EntityDescriptor[md:IDPSSODescriptor]"
    entities = [one for one in find(root, path) if entity_id is None or one.get("entityID") == entity_id]
    if not entities:
        raise Refused("the metadata has no identity provider" + (f" {entity_id}" if entity_id else ""))
    if len(entities) > 1:
        raise Refused("the metadata has several identity providers; say which one in saml.idp_entity_id")
    role = find(entities[0], "./md:IDPSSODescriptor")[0]
    sso = _endpoints(role, "SingleSignOnService")
    slo = _endpoints(role, "SingleLogoutService")
    certificates = _certificates(role)
    if not sso or not certificates or not entities[0].get("entityID"):
        raise Refused("the metadata lacks an entity id, a log-in address for redirects or a certificate for signing")
    return IdpMetadata(
        str(entities[0].get("entityID")),
        str(sso[0].get("Location")),
        str(slo[0].get("Location")) if slo else None,
        slo[0].get("ResponseLocation") if slo else None,
        certificates,
        _scopes(entities[0]),
        _valid_until(root, entities[0], role),
    )


class IdentityProvider:
    """Keeps the metadata of the configured identity provider; call `start`, then keep `run` running."""

    def __init__(self, url: str, entity_id: str | None, data_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self._url = url
        self._entity_id = entity_id
        name = hashlib.sha256(f"{url}\n{entity_id or ''}".encode()).hexdigest()[:16]
        self._copy = data_dir / f"saml-idp-{name}.xml"
        self._clock = clock
        self._known: IdpMetadata | None = None
        self._asking: SingleFlight[bool] = SingleFlight()

    async def start(self) -> None:
        """Read the last good copy, if there is one, without any request."""
        if urlsplit(self._url).scheme == "http":
            log.warning("saml.idp_metadata_url is http://: anybody who can change it in transit can log in as anybody")
        if not self._copy.exists():
            return
        try:
            self._known = await in_thread(None, lambda: read_metadata(self._copy.read_bytes(), self._entity_id))
        except (Refused, OSError) as error:
            log.warning("the copy of the identity provider's metadata cannot be used: %s", error)

    async def run(self) -> None:
        """Fetch the metadata now and every hour, sooner after a failure, until cancelled."""
        due = 0.0

        async def keep_current() -> None:
            nonlocal due
            if time.monotonic() >= due and await self.refresh():
                # Random, so that workers do not ask at the same time.
                due = time.monotonic() + _EVERY * random.uniform(0.9, 1.1)  # noqa: S311

        await repeat("fetching the identity provider's metadata", keep_current, _AGAIN_AFTER, now=True)

    async def current(self) -> IdpMetadata:
        """Return the known metadata; fetch it first if there is none. Raises Unavailable if none is valid."""
        if self._known is None:
            await self._asking.join(None, self.refresh)
        known = self._known
        if known is None or (known.valid_until is not None and known.valid_until <= self._clock()):
            raise Unavailable(
                "the university's log-in cannot be reached right now; try again in a few minutes",
                headers={"Retry-After": "60"},
            )
        return known

    async def refresh(self) -> bool:
        """Fetch the metadata once. Return whether it was good, and keep it then; bad metadata changes nothing."""
        try:
            known = await in_thread(None, self._ask)
        except (Refused, OSError, HTTPException, ValueError) as error:
            effect = "the known metadata stays in use" if self._known else "nobody can log in with a university account"
            log.warning("the identity provider's metadata cannot be fetched (%s); %s", error, effect)
            return False
        if known != self._known:
            log.info("identity provider %s: %d certificates", known.entity_id, len(known.certificates))
        self._known = known
        return True

    def _ask(self) -> IdpMetadata:
        text = _fetch(self._url)
        known = read_metadata(text, self._entity_id)
        if known.valid_until is not None and known.valid_until <= self._clock():
            raise Refused("the metadata has expired: its validUntil has passed")
        if not self._copy.exists() or self._copy.read_bytes() != text:
            _replace(self._copy, text)
        return known


def _fetch(url: str) -> bytes:
    """Return the whole content of a URL, within a size and a time; raises OSError and ValueError."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        with Path(unquote(parts.path)).open("rb") as file:
            return _bounded(file.read)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"saml.idp_metadata_url: {url!r} is not http://, https:// or file://")
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310 - the scheme was checked
        return _bounded(answer.read)


def _bounded(read: Callable[[int], bytes]) -> bytes:
    end, pieces, size = time.monotonic() + _DEADLINE, [], 0
    while piece := read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > _LONGEST:
            raise ValueError(f"more than {_LONGEST} bytes; set an address that has this identity provider only")
        if time.monotonic() > end:
            raise TimeoutError(f"not read within {_DEADLINE:g} s")
    return b"".join(pieces)


def _replace(path: Path, text: bytes) -> None:
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _endpoints(role: Element, name: str) -> list[Element]:
    return [
        one
        for one in find(role, f"./md:{name}[@Binding='{Constants.BINDING_HTTP_REDIRECT}']")
        if _is_http(one.get("Location", ""))
    ]


def _is_http(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False


def _certificates(role: Element) -> tuple[str, ...]:
    path = "./md:KeyDescriptor[not(@use) or @use='signing']/ds:KeyInfo/ds:X509Data/ds:X509Certificate"
    found = []
    for certificate in ("".join(text_of(one).split()) for one in find(role, path)):
        try:
            x509.load_der_x509_certificate(base64.b64decode(certificate, validate=True))
        except (ValueError, x509.InvalidVersion) as error:
            # The other ones still say who signs.
            log.warning("a certificate of the identity provider's metadata cannot be read, and is left out: %s", error)
        else:
            found.append(certificate)
    return tuple(found)


def _scopes(entity: Element) -> tuple[Scope, ...]:
    path = "./md:Extensions/shibmd:Scope | ./md:IDPSSODescriptor/md:Extensions/shibmd:Scope"
    scopes = []
    for one in find(entity, path):
        scope = Scope(text_of(one), one.get("regexp") in ("true", "1"))
        try:
            re.compile(scope.text if scope.is_pattern else "")
        except (re.error, OverflowError, RecursionError) as error:
            raise Refused("a scope of the metadata is not a valid regular expression") from error
        if scope.text:
            scopes.append(scope)
    return tuple(scopes)


def _valid_until(*elements: Element) -> float | None:
    times: Collection[str] = [one.get("validUntil") for one in elements if one.get("validUntil")]
    return min(map(moment, times), default=None)
