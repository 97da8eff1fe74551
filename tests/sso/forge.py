"""Answers of an identity provider that were never its, made with its own keys or with others."""

from __future__ import annotations

import base64
import time
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import xmlsec as typed_xmlsec
from lxml import etree
from onelogin.saml2.utils import OneLogin_Saml2_Utils as Utils

from app.access.saml.key_pairs import KeyPair, self_signed

ENTITY = "https://idp.forged.example/idp"
EPPN, SCOPED_AFFILIATION = "urn:oid:1.3.6.1.4.1.5923.1.1.1.6", "urn:oid:1.3.6.1.4.1.5923.1.1.1.9"
SCOPE = "ut.ee"
# Its type stubs lack what it has.
xmlsec: Any = typed_xmlsec

_PROTOCOL, _ASSERTION = "urn:oasis:names:tc:SAML:2.0:protocol", "urn:oasis:names:tc:SAML:2.0:assertion"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_DS = "http://www.w3.org/2000/09/xmldsig#"


@dataclass(frozen=True)
class Claims:
    """What an answer says; times in seconds from now. What is None is left out."""

    request_id: str
    acs: str
    service: str
    username: str | None = "mari@ut.ee"
    name_id: str = "_transient-1"
    assertion_id: str = "_assertion-1"
    issuer: str = ENTITY
    audience: str | None = ""  # the service's own
    recipient: str | None = ""
    confirmed_request: str | None = ""
    answered_request: str | None = ""
    destination: str | None = ""
    not_before: float = -60
    not_on_or_after: float = 300
    confirmed_until: float | None = 300
    status: str = "urn:oasis:names:tc:SAML:2.0:status:Success"
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def changed(self, **values: Any) -> Claims:
        return replace(self, **values)


class Forger:
    """Has an identity provider's metadata, and its keys."""

    def __init__(self, folder: Path) -> None:
        self.pair, self.other_pair = self_signed("idp.forged.example"), self_signed("somebody.example")
        self.file = folder / "idp.xml"
        self.metadata_url = self.file.as_uri()
        self.announce(self.pair)
        self._encrypt_for = ""

    def announce(self, *pairs: KeyPair, scopes: Sequence[str] = (SCOPE,)) -> None:
        """Write metadata with the certificates of these pairs."""
        self.file.write_text(idp_metadata(pairs, scopes))

    def serve(self, service_url: str) -> None:
        """Learn a service's certificate, to encrypt for it."""
        with urllib.request.urlopen(f"{service_url}/saml/metadata", timeout=10) as answer:
            root = etree.fromstring(answer.read())
        (found, *_) = root.xpath(
            "//*[local-name()='KeyDescriptor'][@use='encryption']//*[local-name()='X509Certificate']"
        )
        self.know(service_url, Utils.format_cert(found.text))

    def know(self, service_url: str, certificate: str) -> None:
        """Answer the service at this address, and encrypt for its certificate, in PEM."""
        self._service, self._encrypt_for = service_url, certificate

    def claims(self, request_id: str) -> Claims:
        return Claims(request_id, f"{self._service}/saml/acs", f"{self._service}/saml/metadata")

    def assertion(self, claims: Claims) -> str:
        """Write an assertion, not signed."""
        confirmation = {
            "NotOnOrAfter": None if claims.confirmed_until is None else _time(claims.confirmed_until),
            "Recipient": claims.acs if claims.recipient == "" else claims.recipient,
            "InResponseTo": claims.request_id if claims.confirmed_request == "" else claims.confirmed_request,
        }
        audience = claims.service if claims.audience == "" else claims.audience
        restriction = f"<saml:AudienceRestriction><saml:Audience>{audience}</saml:Audience></saml:AudienceRestriction>"
        attributes = ({EPPN: [claims.username]} if claims.username else {}) | dict(claims.attributes)
        return (
            f'<saml:Assertion xmlns:saml="{_ASSERTION}" ID="{claims.assertion_id}" Version="2.0" '
            f'IssueInstant="{_time(0)}"><saml:Issuer>{claims.issuer}</saml:Issuer><saml:Subject>'
            f'<saml:NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:transient">{claims.name_id}</saml:NameID>'
            f'<saml:SubjectConfirmation Method="{_BEARER}"><saml:SubjectConfirmationData {_attributes(confirmation)}/>'
            f'</saml:SubjectConfirmation></saml:Subject><saml:Conditions NotBefore="{_time(claims.not_before)}" '
            f'NotOnOrAfter="{_time(claims.not_on_or_after)}">{restriction if audience else ""}</saml:Conditions>'
            f'<saml:AuthnStatement AuthnInstant="{_time(0)}" SessionIndex="_session-1"><saml:AuthnContext>'
            "<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef>"
            "</saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement>"
            + "".join(_attribute(name, values) for name, values in (attributes or {"urn:oid:2.5.4.3": ["x"]}).items())
            + "</saml:AttributeStatement></saml:Assertion>"
        )

    def sign(self, xml: str, pair: KeyPair | None = None, algorithm: str | None = None) -> str:
        """Sign an assertion or a response, by default with the key of the metadata."""
        pair = pair or self.pair
        more = {"sign_algorithm": algorithm} if algorithm else {}
        signed: bytes = Utils.add_sign(xml, pair.private_key, pair.certificate, **more)
        return signed.decode()

    def encrypt(self, xml: str, transport: Any = xmlsec.Transform.RSA_OAEP) -> str:
        """Encrypt one element for the service."""
        holder = etree.fromstring(f'<saml:EncryptedAssertion xmlns:saml="{_ASSERTION}">{xml}</saml:EncryptedAssertion>')
        manager = xmlsec.KeysManager()
        manager.add_key(xmlsec.Key.from_memory(self._encrypt_for, xmlsec.KeyFormat.CERT_PEM, None))
        data = xmlsec.template.encrypted_data_create(
            holder, xmlsec.Transform.AES128, type=xmlsec.EncryptionType.ELEMENT, ns="xenc"
        )
        xmlsec.template.encrypted_data_ensure_cipher_value(data)
        info = xmlsec.template.encrypted_data_ensure_key_info(data, ns="dsig")
        key = xmlsec.template.add_encrypted_key(info, transport)
        xmlsec.template.encrypted_data_ensure_cipher_value(key)
        context = xmlsec.EncryptionContext(manager)
        context.key = xmlsec.Key.generate(xmlsec.KeyData.AES, 128, xmlsec.KeyDataType.SESSION)
        context.encrypt_xml(data, holder[0])
        return str(etree.tostring(holder).decode())

    def response(self, claims: Claims, *inside: str) -> str:
        """Put assertions, encrypted or not, and whatever else, into a response."""
        attributes = {
            "ID": "_response-1",
            "Version": "2.0",
            "IssueInstant": _time(0),
            "Destination": claims.acs if claims.destination == "" else claims.destination,
            "InResponseTo": claims.request_id if claims.answered_request == "" else claims.answered_request,
        }
        return (
            f'<samlp:Response xmlns:samlp="{_PROTOCOL}" xmlns:saml="{_ASSERTION}" {_attributes(attributes)}>'
            f"<saml:Issuer>{claims.issuer}</saml:Issuer>"
            f'<samlp:Status><samlp:StatusCode Value="{claims.status}"/></samlp:Status>'
            + "".join(inside)
            + "</samlp:Response>"
        )

    def answer(self, claims: Claims) -> str:
        """Make the answer that a good identity provider would give, but for what the claims say."""
        return self.response(claims, self.encrypt(self.sign(self.assertion(claims))))


def _key_descriptor(pair: KeyPair) -> str:
    certificate = Utils.format_cert(pair.certificate, False)
    return (
        f'<md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="{_DS}"><ds:X509Data><ds:X509Certificate>{certificate}'
        "</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
    )


def idp_metadata(pairs: Sequence[KeyPair], scopes: Sequence[str] = (SCOPE,), entity_id: str = ENTITY) -> str:
    """Write the metadata of an identity provider at addresses that nobody answers."""
    redirect = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
    keys = "".join(map(_key_descriptor, pairs))
    spelled = "".join(f"<shibmd:Scope>{scope}</shibmd:Scope>" for scope in scopes)
    return (
        '<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" '
        f'xmlns:shibmd="urn:mace:shibboleth:metadata:1.0" entityID="{entity_id}">'
        f'<md:IDPSSODescriptor protocolSupportEnumeration="{_PROTOCOL}"><md:Extensions>{spelled}</md:Extensions>{keys}'
        f'<md:SingleLogoutService Binding="{redirect}" Location="https://idp.forged.example/slo"/>'
        f'<md:SingleSignOnService Binding="{redirect}" Location="https://idp.forged.example/sso"/>'
        "</md:IDPSSODescriptor></md:EntityDescriptor>"
    )


def encoded(xml: str) -> str:
    """Spell a response as the POST binding does."""
    return base64.b64encode(xml.encode()).decode()


def inflated(message: str) -> Any:
    """Read a message of the redirect binding."""
    return etree.fromstring(zlib.decompress(base64.b64decode(message), -15))


def _attribute(name: str, values: Sequence[str]) -> str:
    spelled = "".join(f"<saml:AttributeValue>{value}</saml:AttributeValue>" for value in values)
    uri = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"
    return f'<saml:Attribute Name="{name}" NameFormat="{uri}">{spelled}</saml:Attribute>'


def _attributes(values: Mapping[str, str | None]) -> str:
    return " ".join(f'{name}="{escape(value)}"' for name, value in values.items() if value is not None)


def _time(seconds_from_now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds_from_now))
