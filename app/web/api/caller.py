"""Who calls the REST API: by HTTP Basic, by the cookie of a browser session, or nobody in particular.

A browser sends the cookie along with requests that other sites make it send. So what changes something by it must
carry a token that only our own pages can read: Tornado's, as the forms of the pages do, here under Harbor's name.
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
    """Who asks; ``session`` only where a browser does."""

    principal: Principal
    session: Session | None = None


async def identify(handler: RequestHandler, services: Services) -> Caller:
    """Find out who asks; raises Unauthorized for credentials that are none, TooManyRequests, Unavailable."""
    header = handler.request.headers.get("Authorization")
    if header is None:
        signed_in = await services.browsers.signed_in(handler)
        return Caller(signed_in[1], signed_in[0]) if signed_in else Caller(ANONYMOUS)
    given = parse_authorization(header)
    if not isinstance(given, Basic):
        raise Unauthorized("send a user name and password, or a robot account's name and secret (Basic)")
    address = handler.request.remote_ip or ""
    return Caller(await services.credentials.authenticate(given.username, given.password, address))
