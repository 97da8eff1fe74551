"""Single logout by the redirect binding: the messages between us and the identity provider.

A message is read only after its signature, which covers the query, was verified as the identity provider's.

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
from .settings import SLS, ServiceProvider

REQUEST, RESPONSE = "SAMLRequest", "SAMLResponse"


@dataclass(frozen=True, slots=True)
class LogoutAsked:
    """The identity provider logs a person out: all their sessions, or those of some indexes."""

    id: str
    name_id: str
    indexes: Sequence[str]
    relay_state: str | None


@dataclass(frozen=True, slots=True)
class LogoutAnswered:
    """The identity provider's answer to a logout that we asked for: it succeeded, or ``status`` says why not."""

    in_response_to: str
    status: str


def signed_redirect(settings: Any, url: str, kind: str, message: str, relay_state: str | None = None) -> str:
    """Return the address that takes a signed message to the identity provider through the browser."""
    auth = Auth({"get_data": {}}, settings)
    parameters = {kind: message} | ({"RelayState": relay_state} if relay_state is not None else {})
    if kind == REQUEST:
        auth.add_request_signature(parameters)
    else:
        auth.add_response_signature(parameters)
    return str(auth.redirect_to(url, parameters))


def ask(sp: ServiceProvider, idp: IdpMetadata, pair: KeyPair, session: SamlSession) -> tuple[str, str]:
    """Return the address that logs a person out at the identity provider, and the request's id."""
    settings = sp.settings(idp, pair)
    request = LogoutRequest(
        settings,
        name_id=session.name_id,
        # The library puts the index into its XML without escaping it.
        session_index=escape(session.session_index) or None,
        nq=session.name_qualifier or None,
        name_id_format=session.name_id_format or None,
        spnq=session.sp_name_qualifier or None,
    )
    return signed_redirect(settings, settings.get_idp_slo_url(), REQUEST, request.get_request()), str(request.id)


def answer(sp: ServiceProvider, idp: IdpMetadata, pair: KeyPair, asked: LogoutAsked, *, succeeded: bool) -> str:
    """Return the address that tells the identity provider the result of the logout that it asked for."""
    settings = sp.settings(idp, pair)
    response = LogoutResponse(settings)
    status = Constants.STATUS_SUCCESS if succeeded else Constants.STATUS_RESPONDER
    response.build(escape(asked.id, {'"': "&quot;"}), status)
    url = settings.get_idp_slo_response_url()
    return signed_redirect(settings, url, RESPONSE, response.get_response(), asked.relay_state)


def read(query: str, sp: ServiceProvider, idp: IdpMetadata, pairs: Sequence[KeyPair]) -> LogoutAsked | LogoutAnswered:
    """Return the message in a query to our logout address; raises Refused unless the identity provider sent it."""
    pieces = parse_qsl(query, keep_blank_values=True)
    data = dict(pieces)
    # The signature covers the query as it was sent, so each name that is read from it must be there just once.
    if len(pieces) != len(data) or (REQUEST in data) == (RESPONSE in data):
        raise Refused("the query does not have exactly one logout message")
    kind = REQUEST if REQUEST in data else RESPONSE
    settings = sp.settings(idp, pairs[0], signed_messages=True)
    request = sp.request(SLS, get_data=data, query_string=query, validate_signature_from_qs=True)
    auth = Auth(request, settings)
    valid = auth.validate_request_signature if kind == REQUEST else auth.validate_response_signature
    if not valid(data):
        raise Refused(auth.get_last_error_reason() or "the logout message's signature is not valid")
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
