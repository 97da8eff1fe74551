"""Verifies a response of the identity provider, and returns its assertion.

python3-saml checks signatures, times, schema, issuer and audience, and knows the usual attacks. But it accepts a
response without some parts (audience, InResponseTo, recipient). Here none of them may be missing, and only a document
that passes `documents` is decrypted or verified at all.

Source: SAML profiles section 4.1.4.2 and 4.1.4.3 (the parts of a bearer assertion, and the checks on them).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import xmlsec
from lxml import etree
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.errors import OneLogin_Saml2_Error as LibraryError
from onelogin.saml2.errors import OneLogin_Saml2_ValidationError as ValidationError
from onelogin.saml2.response import OneLogin_Saml2_Response

from app.access.sessions import SamlSession

from .documents import Element, check, find, moment, parse, text_of
from .key_pairs import KeyPair
from .metadata import IdpMetadata
from .refused import Code, Refused
from .rules import Values
from .settings import ACS, ServiceProvider


@dataclass(frozen=True, slots=True)
class Assertion:
    """The identity provider's statement on a person who has just logged in; ``not_after`` is in Unix seconds."""

    by_name: Values
    by_friendly_name: Values
    session: SamlSession
    not_after: float | None


class _Response(OneLogin_Saml2_Response):  # type: ignore[misc]  # of a library without types
    """Decrypts as the library does, and checks the decrypted part as strictly as the message."""

    def _decrypt_assertion(self, xml: Element) -> Element:
        # Parsed again, because the encrypted part has not passed the strict parser yet (comments, instructions).
        decrypted = parse(etree.tostring(super()._decrypt_assertion(xml)))
        check(decrypted)
        return decrypted

    def assertion(self) -> Element:
        """Return the one assertion; it is signed if `is_valid` has returned True."""
        (found,) = self._query_assertion("")
        return found


def verify(encoded: str, request_id: str, sp: ServiceProvider, idp: IdpMetadata, pairs: Sequence[KeyPair]) -> Assertion:
    """Verify the response to the request of that id; raises Refused. Takes tens of milliseconds of the processor."""
    response = _open(encoded, sp, idp, pairs)
    if sp.encrypted and not response.encrypted:
        raise Refused(
            "the assertion is not encrypted; let the identity provider encrypt for this service, or see "
            "saml.encrypted_assertions",
            Code.ENCRYPTION,
        )
    if not response.is_valid(sp.request(ACS), request_id):
        reason = str(response.get_error())
        raise Refused(reason, Code.TIME if "timestamp" in reason else Code.ANSWER)
    try:
        _check_nothing_is_left_out(response, request_id, sp)
        return _read(response)
    except (ValidationError, LibraryError) as error:
        raise Refused(str(error)) from error


def _open(encoded: str, sp: ServiceProvider, idp: IdpMetadata, pairs: Sequence[KeyPair]) -> _Response:
    """Decrypt with the one of our keys that it was encrypted for."""
    for pair in pairs:
        try:
            return _Response(sp.settings(idp, pair), encoded)
        except (xmlsec.Error, etree.LxmlError, TypeError):
            continue
        except (ValidationError, LibraryError) as error:
            raise Refused(str(error)) from error
    raise Refused("the assertion cannot be decrypted with any of our keys")


def _check_nothing_is_left_out(response: _Response, request_id: str, sp: ServiceProvider) -> None:
    if response.document.get("InResponseTo") != request_id:
        raise Refused("the response does not say which request it answers")
    if response.document.get("Destination", sp.acs) != sp.acs:
        raise Refused("the response was sent to another address")
    assertion = response.assertion()
    _check_values(assertion)
    restrictions = find(assertion, "./saml:Conditions/saml:AudienceRestriction")
    if not restrictions:
        raise Refused("the assertion does not say whom it is for")
    for restriction in restrictions:
        if sp.entity_id not in map(text_of, find(restriction, "./saml:Audience")):
            raise Refused("the assertion is for another service")
    path = f"./saml:Subject/saml:SubjectConfirmation[@Method='{Constants.CM_BEARER}']/saml:SubjectConfirmationData"
    if not any(_confirms(data, request_id, sp.acs) for data in find(assertion, path)):
        raise Refused("the assertion does not confirm its subject for this request, at this address and time")


def _check_values(assertion: Element) -> None:
    """Raise Refused for a value with an element in its text; the library reads the text up to there only.

    A NameID that is the whole value is left, because some attributes have one. The parser drops comments and
    instructions, so that a text around them is read whole.
    """
    for value in find(assertion, ".//saml:AttributeValue | .//saml:NameID"):
        parts = list(value)
        if parts and (text_of(value) or len(parts) > 1 or not find(value, "./saml:NameID")):
            raise Refused("a value of the assertion is not plain text")


def _confirms(data: Element, request_id: str, acs: str) -> bool:
    until = data.get("NotOnOrAfter")
    return (
        data.get("InResponseTo") == request_id
        and data.get("Recipient") == acs
        and until is not None
        and moment(until) > time.time()
    )


def _read(response: _Response) -> Assertion:
    name: dict[str, Any] = response.get_nameid_data()
    attributes = find(response.assertion(), "./saml:AttributeStatement/saml:Attribute")
    return Assertion(
        _values(attributes, "Name"),
        _values(attributes, "FriendlyName"),
        SamlSession(
            str(name.get("Value", "")),
            name.get("Format", ""),
            name.get("NameQualifier", ""),
            name.get("SPNameQualifier", ""),
            response.get_session_index() or "",
        ),
        response.get_session_not_on_or_after(),
    )


def _values(attributes: Sequence[Element], called: str) -> Values:
    """Return the values of attributes by their ``called``, without those that are no text (such as a NameID).

    An identity provider may spread an attribute over several elements of one name, and give one friendly name to
    several attributes. The library takes neither.
    """
    found: dict[str, list[str]] = {}
    for attribute in attributes:
        if name := attribute.get(called):
            values = [text_of(one) for one in find(attribute, "./saml:AttributeValue") if not len(one)]
            found.setdefault(name, []).extend(filter(None, values))
    return found
