"""Identify the caller of the REST API: by HTTP Basic, by the cookie of a browser session, or as anonymous.

A browser also sends the cookie with requests that other sites cause. So a request that changes something with a cookie
must carry the token of `app.web.csrf`, under Harbor's name.
"""

from __future__ import annotations

from dataclasses import dataclass

from tornado.web import RequestHandler

from app.access.authorization import Basic, parse_authorization
from app.access.principal import ANONYMOUS, Principal
from app.access.sessions import Session
from app.oci.errors import Unauthorized
from app.web.services import Services


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller; ``session`` is set only if a browser session calls."""

    principal: Principal
    session: Session | None = None


async def identify(handler: RequestHandler, services: Services) -> Caller:
    """Return the caller; raises Unauthorized for invalid credentials, TooManyRequests, Unavailable."""
    given = parse_authorization(handler.request.headers.get("Authorization"))
    if given is None:
        signed_in = await services.browsers.signed_in(handler)
        return Caller(signed_in[1], signed_in[0]) if signed_in else Caller(ANONYMOUS)
    if not isinstance(given, Basic):
        raise Unauthorized("use HTTP Basic with a user name and password, or with a robot account's name and secret")
    address = handler.request.remote_ip or ""
    return Caller(await services.credentials.authenticate(given.username, given.password, address))
