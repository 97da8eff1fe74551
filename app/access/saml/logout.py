"""Single logout by the redirect binding: what we say to the identity provider, and what it says to us.

A message is looked at only once its signature, which is of the query, has been found to be the identity provider's.

Source: SAML bindings section 3.4.4.1 (signature), profiles section 4.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import xmlsec
from lxml import etree
from onelogin.saml2.auth import OneLogin_Saml2_Auth as Auth
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.errors import OneLogin_Saml2_Error as LibraryError
from onelogin.saml2.errors import OneLogin_Saml2_ValidationError as ValidationError
from onelogin.saml2.logout_request import OneLogin_Saml2_Logout_Request as LogoutRequest
from onelogin.saml2.logout_response import (
    OneLogin_Saml2_Logout_Response as LogoutResponse,
)
from onelogin.saml2.xml_utils import OneLogin_Saml2_XML as Xml

from app.access.sessions import SamlSession

from .documents import parse
from .key_pairs import KeyPair
from .metadata import IdpMetadata
from .refused import Refused
from .settings import SLS, Ourselves

REQUEST, RESPONSE = "SAMLRequest", "SAMLResponse"


@dataclass(frozen=True, slots=True)
class LogoutAsked:
    """The identity provider logs somebody out: all their sessions, or those of some indexes."""

    id: str
    name_id: str
    indexes: Sequence[str]
    relay_state: str | None


@dataclass(frozen=True, slots=True)
class LogoutAnswered:
    """The identity provider has done what we asked for, or says why not."""

    in_response_to: str
    status: str


def signed_redirect(settings: Any, url: str, kind: str, message: str, relay_state: str | None = None) -> str:
    """Spell the address that takes a signed message to the identity provider through the browser."""
    auth = Auth({"get_data": {}}, settings)
    parameters = {kind: message} | ({"RelayState": relay_state} if relay_state is not None else {})
    if kind == REQUEST:
        auth.add_request_signature(parameters)
    else:
        auth.add_response_signature(parameters)
    return str(auth.redirect_to(url, parameters))


def ask(ourselves: Ourselves, idp: IdpMetadata, pair: KeyPair, session: SamlSession) -> tuple[str, str]:
    """Make the address that logs somebody out at the identity provider; answers the request's id as well."""
    settings = ourselves.settings(idp, pair)
    request = LogoutRequest(
        settings,
        name_id=session.name_id,
        # The library puts the index into its XML as it is.
        session_index=escape(session.session_index) or None,
        nq=session.name_qualifier or None,
        name_id_format=session.name_id_format or None,
        spnq=session.sp_name_qualifier or None,
    )
    return signed_redirect(settings, settings.get_idp_slo_url(), REQUEST, request.get_request()), str(request.id)


def answer(ourselves: Ourselves, idp: IdpMetadata, pair: KeyPair, asked: LogoutAsked, *, succeeded: bool) -> str:
    """Make the address that tells the identity provider what became of the logout it asked for."""
    settings = ourselves.settings(idp, pair)
    response = LogoutResponse(settings)
    status = Constants.STATUS_SUCCESS if succeeded else Constants.STATUS_RESPONDER
    response.build(escape(asked.id, {'"': "&quot;"}), status)
    url = settings.get_idp_slo_response_url()
    return signed_redirect(settings, url, RESPONSE, response.get_response(), asked.relay_state)


def read(query: str, ourselves: Ourselves, idp: IdpMetadata, pairs: Sequence[KeyPair]) -> LogoutAsked | LogoutAnswered:
    """Read what came to our logout address; raises Refused for what is not the identity provider's."""
    pieces = parse_qsl(query, keep_blank_values=True)
    data = dict(pieces)
    # The signature is of the query as it was sent; what is read from it has to be the same, and there once.
    if len(pieces) != len(data) or (REQUEST in data) == (RESPONSE in data):
        raise Refused("not one logout message in the query")
    kind = REQUEST if REQUEST in data else RESPONSE
    settings = ourselves.settings(idp, pairs[0], signed_messages=True)
    request = ourselves.request(SLS, get_data=data, query_string=query, validate_signature_from_qs=True)
    auth = Auth(request, settings)
    valid = auth.validate_request_signature if kind == REQUEST else auth.validate_response_signature
    if not valid(data):
        raise Refused(auth.get_last_error_reason() or "the logout message's signature is not good")
    try:
        return _asked(settings, request, pairs) if kind == REQUEST else _answered(settings, request)
    except (ValidationError, LibraryError, xmlsec.Error, etree.LxmlError, ValueError) as error:
        raise Refused(f"the logout message cannot be read: {error}") from error


def _asked(settings: Any, request: Any, pairs: Sequence[KeyPair]) -> LogoutAsked:
    message = LogoutRequest(settings, request["get_data"][REQUEST])
    root = parse(message.get_xml().encode())
    if not message.is_valid(request):
        raise Refused(str(message.get_error()))
    if not message.id or LogoutRequest.get_issuer(root) is None:
        raise Refused("the logout request does not say who sends it")
    return LogoutAsked(
        message.id,
        _name_id(root, pairs),
        [index for index in LogoutRequest.get_session_indexes(root) if index],
        request["get_data"].get("RelayState"),
    )


def _name_id(root: Any, pairs: Sequence[KeyPair]) -> str:
    for pair in pairs:
        try:
            return str(LogoutRequest.get_nameid(Xml.to_etree(Xml.to_string(root)), pair.private_key))
        except xmlsec.Error:
            continue
    raise Refused("the logout request's NameID cannot be decrypted with any of our keys")


def _answered(settings: Any, request: Any) -> LogoutAnswered:
    message = LogoutResponse(settings, request["get_data"][RESPONSE])
    if not message.is_valid(request):
        raise Refused(str(message.get_error()))
    if message.get_issuer() is None or not message.get_in_response_to():
        raise Refused("the logout response does not say who sends it, or what it answers")
    return LogoutAnswered(str(message.get_in_response_to()), str(message.get_status()))
