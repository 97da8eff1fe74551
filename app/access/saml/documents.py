"""Parses XML that anybody may have sent, and refuses the parts that attacks use and SAML does not need.

A document has no document type, no entities, no reference to another file or host, and no id twice. Its signatures are
of the one kind that SAML allows: enveloped, over the element that contains them. A document that passes is still not
trusted.

Source: SAML core section 5.4 (signature profile); "On Breaking SAML: Be Whoever You Want to Be" (signature wrapping).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from lxml import etree
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.utils import OneLogin_Saml2_Utils as Utils
from onelogin.saml2.xml_utils import OneLogin_Saml2_XML as Xml
from onelogin.saml2.xmlparser import DTDForbidden, EntitiesForbidden

from .refused import Refused

# An element of lxml, which has no types.
Element = Any

NAMES = {**Constants.NSMAP, "shibmd": "urn:mace:shibboleth:metadata:1.0"}
# In characters. An answer of an identity provider has about fifteen thousand.
_LONGEST_MESSAGE = 256 * 1024

_EXCLUSIVE_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
_CANONICAL = {_EXCLUSIVE_C14N, f"{_EXCLUSIVE_C14N}WithComments"}
_TRANSFORMS = _CANONICAL | {"http://www.w3.org/2000/09/xmldsig#enveloped-signature"}
# A key that RSA 1.5 encrypts can be found out from the errors of the decrypting side (Bleichenbacher).
_KEY_TRANSPORTS = {"http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p", "http://www.w3.org/2009/xmlenc11#rsa-oaep"}
_SIGNABLE = {f"{{{Constants.NS_SAMLP}}}Response", f"{{{Constants.NS_SAML}}}Assertion"}


def parse(text: bytes) -> Element:
    """Parse a document; raises Refused if it is not XML, or has a document type or entities."""
    try:
        return Xml.to_etree(text)
    except (DTDForbidden, EntitiesForbidden):
        raise Refused("the XML has a document type or entities, which are never accepted") from None
    except etree.XMLSyntaxError as error:
        raise Refused(f"not well-formed XML: {error.msg}") from None
    except ValueError as error:
        raise Refused(f"not XML that can be read: {error}") from None


def parse_message(encoded: str) -> Element:
    """Parse a message of the POST binding, in base64, and check it; raises Refused as `check` does.

    A long message takes tens of milliseconds of the processor.
    """
    if len(encoded) > _LONGEST_MESSAGE:
        raise Refused(f"the message is longer than {_LONGEST_MESSAGE} characters")
    try:
        text = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused("the message is not base64") from None
    document = parse(text)
    check(document)
    return document


def check(document: Element) -> None:
    """Raise Refused for anything that has no place in a SAML response, before other code reads the document."""
    root = document.getroottree().getroot()
    if root.tag != f"{{{Constants.NS_SAMLP}}}Response":
        raise Refused("the message is not a SAML response")
    _check_ids(root)
    if find(root, "//ds:Object | //xenc:CipherReference | //ds:Manifest"):
        raise Refused("the message has parts that SAML does not need")
    for reference in find(root, "//ds:RetrievalMethod | //xenc:DataReference | //xenc:KeyReference"):
        if not reference.get("URI", "").startswith("#"):
            raise Refused("the message refers to something outside itself")
    for method in find(root, "//xenc:EncryptedKey/xenc:EncryptionMethod"):
        if method.get("Algorithm") not in _KEY_TRANSPORTS:
            raise Refused(f"the key is encrypted by {method.get('Algorithm')}, which is not accepted")
    for signature in find(root, "//ds:Signature"):
        _check_signature(signature)


def find(element: Element, path: str) -> list[Element]:
    """Find elements by an XPath, with the prefixes of `NAMES`."""
    found: list[Element] = element.xpath(path, namespaces=NAMES)
    return found


def text_of(element: Element) -> str:
    """Return an element's text without the spaces around it."""
    return str(element.text or "").strip()


def moment(text: str) -> float:
    """Return a time of SAML in Unix seconds; raises Refused."""
    try:
        return float(Utils.parse_SAML_to_time(text))
    except Exception as error:  # the library raises nothing narrower
        raise Refused(f"{text[:100]!r} is not a time") from error


def _check_ids(root: Element) -> None:
    # By XPath, because lxml's own list of attributes takes a time that grows with the square of their number.
    ids = find(root, "//@*[translate(name(), 'ID', 'id') = 'id']")
    if len(ids) != len(set(ids)):
        raise Refused("two elements of the message have the same id")


def _check_signature(signature: Element) -> None:
    signed = signature.getparent()
    references = find(signature, "./ds:SignedInfo/ds:Reference")
    if signed is None or signed.tag not in _SIGNABLE or not signed.get("ID"):
        raise Refused("a signature is in an element that may not have one")
    if len(references) != 1 or references[0].get("URI") != f"#{signed.get('ID')}":
        raise Refused("a signature does not cover the element that contains it")
    transforms = {one.get("Algorithm") for one in find(references[0], "./ds:Transforms/ds:Transform")}
    canonical = {one.get("Algorithm") for one in find(signature, "./ds:SignedInfo/ds:CanonicalizationMethod")}
    if (
        not transforms <= _TRANSFORMS
        or not canonical <= _CANONICAL
        or find(signature, ".//ds:Transform/*[not(self::*[local-name()='InclusiveNamespaces'])]")
    ):
        raise Refused("a signature uses steps that SAML does not allow")
