"""The university log-in: it begins here, continues at the identity provider, and ends here.

    r:saml-request:ID    the browser that began it (SHA-256 of its cookie) and its next page; removed by the answer.
                         ID is the hash of the request's id that the cookie has in its name
    r:saml-logout:ID     a logout that we asked for, until it is answered

An answer counts once, for a request of ours that is minutes old, in the browser that made it. No part of the answer
decides where the browser goes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from onelogin.saml2.authn_request import OneLogin_Saml2_Authn_Request as AuthnRequest
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants

from app.access.computations import Computations
from app.access.people import People, SignedIn
from app.access.principal import address_block
from app.access.sessions import SamlSession, Sessions
from app.cache import AWAY, Cache
from app.config import Saml
from app.database.accounts import Person
from app.kit.threads import in_thread
from app.oci.errors import Denied, Unavailable

from . import logout
from .documents import parse_message
from .key_pairs import KeyPair
from .metadata import IdentityProvider, IdpMetadata
from .refused import Code, Refused
from .response import Assertion, verify
from .rules import Rules
from .settings import ServiceProvider

log = logging.getLogger(__name__)

# Long enough to look for a password or a second factor.
REQUEST_SECONDS = 15 * 60
_LOGOUT_SECONDS = 5 * 60
_SECRET_BYTES = 32

_COOKIE = re.compile(r"saml-([0-9a-f]{16})\Z")
# A browser begins a log-in in each of some tabs. Redis is asked for each of their cookies.
_MOST_COOKIES = 20

# A script, because it tells a Redis that is down from one that has no such key.
_LOOK = "return redis.call('GET', KEYS[1])"
_TAKE = """
local value = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return value
"""


@dataclass(frozen=True, slots=True)
class Begun:
    """A log-in that has begun: the address to send the browser to, and the cookie that it has to bring back."""

    url: str
    cookie: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """A person who has logged in, and the page they wanted; ``not_after`` (Unix seconds) ends a limited log-in."""

    person: Person
    session: SamlSession
    not_after: float | None
    return_to: str
    cookie: str
    # The effects of the log-in on the account (`SignedIn`).
    changes: tuple[str, ...]
    former: str | None


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """The address to which the browser takes our answer, if any, and the accounts whose sessions have ended."""

    url: str | None
    account_ids: frozenset[int] = frozenset()


class University:
    """Logs people in and out with the university's identity provider."""

    def __init__(
        self,
        config: Saml,
        external_url: str,
        pairs: Sequence[KeyPair],
        *,
        idp: IdentityProvider,
        cache: Cache,
        people: People,
        sessions: Sessions,
        computations: Computations,
    ) -> None:
        """Use our key ``pairs``: the one in use, and the next one if there is one (`own_keys`)."""
        self._sp = ServiceProvider(external_url, config.entity_id, encrypted=config.encrypted_assertions)
        self._pairs = pairs
        self._rules = Rules(config)
        self._idp = idp
        self._cache = cache
        self._people = people
        self._sessions = sessions
        self._computations = computations

    async def metadata(self) -> bytes:
        """Return our metadata for the identity provider, with two certificates during a key rollover."""
        next_pair = self._pairs[1] if len(self._pairs) > 1 else None
        settings = self._sp.metadata_settings(self._pairs[0], next_pair)
        text: bytes = await in_thread(None, settings.get_sp_metadata)
        return text

    async def begin(self, return_to: str) -> Begun:
        """Begin a log-in that leads to a page of ours; raises Unavailable if it could not be finished."""
        idp = await self._idp.current()
        url, request_id = await in_thread(None, self._request, idp)
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        remembered = json.dumps({"browser": _hash(secret), "return_to": own_page(return_to)})
        if not await self._cache.set(_request_key(_cookie(request_id)), remembered, REQUEST_SECONDS):
            raise _redis_down()
        return Begun(url, _cookie(request_id), secret)

    async def begun(self, cookies: Mapping[str, str]) -> Mapping[str, str]:
        """Return the page that each open log-in of a browser leads to, by its cookie's name.

        Raises Refused if there is none, and Unavailable.
        """
        names = [name for name in cookies if _COOKIE.match(name)][:_MOST_COOKIES]
        begun = {}
        for name in names:
            kept = await self._look(_request_key(name))
            remembered = json.loads(kept) if kept else {"browser": ""}
            if hmac.compare_digest(_hash(cookies[name]), remembered["browser"]):
                begun[name] = own_page(remembered["return_to"])
        if not begun:
            raise Refused(
                "this browser has begun no log-in that is still open: never, too long ago, or it was answered",
                Code.BROWSER,
            )
        return begun

    async def finish(self, answers: Sequence[str], begun: Mapping[str, str], address: str) -> Finished:
        """Verify the identity provider's one answer, for a browser at an ``address`` with these open log-ins (`begun`).

        Raises Refused with the reason, which is for the log alone, and Unavailable.
        """
        if len(answers) != 1:
            raise Refused(f"the form has {len(answers)} SAML responses, not one")
        encoded = answers[0]
        document = await self._computations.run(address_block(address), parse_message, encoded)
        request_id = document.get("InResponseTo") or ""
        name = _cookie(request_id)
        if name not in begun:
            raise Refused("the response answers no log-in of this browser that is still open", Code.BROWSER)
        if await self._take(_request_key(name)) is None:
            raise Refused("the response was answered before", Code.BROWSER)
        idp = await self._idp.current()
        assertion = await self._computations.run(
            address_block(address), verify, encoded, request_id, self._sp, idp, self._pairs
        )
        signed_in = await self._person(assertion, idp)
        effects = signed_in.changes, signed_in.former
        return Finished(signed_in.person, assertion.session, assertion.not_after, begun[name], name, *effects)

    async def log_out(self, session: SamlSession) -> str | None:
        """Return the address that ends the log-in at the university as well; None if there is none, or none now.

        There is none for a session without a NameID, because that is what a logout names.
        """
        try:
            idp = await self._idp.current()
        except Unavailable:
            return None
        if idp.slo_url is None or not session.name_id:
            return None
        url, request_id = await in_thread(None, logout.ask, self._sp, idp, self._pairs[0], session)
        kept = await self._cache.set(f"saml-logout:{request_id}", b"1", _LOGOUT_SECONDS)
        return url if kept else None

    async def logged_out(self, query: str, address: str) -> LoggedOut:
        """Read a logout message that a browser at an ``address`` brought.

        It ends the sessions that it names, or answers a logout of ours.

        Raises Refused with the reason, which is for the log alone, and Unavailable.
        """
        idp = await self._idp.current()
        message = await self._computations.run(address_block(address), logout.read, query, self._sp, idp, self._pairs)
        if isinstance(message, logout.LogoutAnswered):
            if await self._take(f"saml-logout:{message.in_response_to}") is None:
                raise Refused("the response answers no logout of ours that is still open")
            if message.status != Constants.STATUS_SUCCESS:
                log.warning("the identity provider could not log somebody out everywhere: %s", message.status)
            return LoggedOut(None)
        try:
            account_ids = frozenset(await self._sessions.end_saml(message.name_id, message.indexes))
            succeeded = True
        except Unavailable:
            if idp.slo_url is None:
                raise
            account_ids, succeeded = frozenset(), False
        if idp.slo_url is None:
            return LoggedOut(None, account_ids)
        answer = partial(logout.answer, self._sp, idp, self._pairs[0], message, succeeded=succeeded)
        url = await in_thread(None, answer)
        return LoggedOut(url, account_ids)

    async def _person(self, assertion: Assertion, idp: IdpMetadata) -> SignedIn:
        identity = self._rules.identify(assertion.by_name, assertion.by_friendly_name, idp.scopes)
        try:
            return await self._people.signed_in(identity)
        except Denied as error:
            raise Refused(error.message, Code.ACCOUNT) from error

    def _request(self, idp: IdpMetadata) -> tuple[str, str]:
        settings = self._sp.settings(idp, self._pairs[0])
        request = AuthnRequest(settings)
        url = logout.signed_redirect(settings, idp.sso_url, logout.REQUEST, request.get_request())
        return url, str(request.get_id())

    async def _look(self, key: str) -> bytes | None:
        return await self._run(_LOOK, key)

    async def _take(self, key: str) -> bytes | None:
        return await self._run(_TAKE, key)

    async def _run(self, script: str, key: str) -> bytes | None:
        value = await self._cache.script(script, [key], list)
        if value is AWAY:
            raise _redis_down()
        return value if isinstance(value, bytes) else None


def own_page(path: str | None) -> str:
    """Return a path of this host, or that of the front page for any other text; it never leads elsewhere."""
    fine = path is not None and path.startswith("/") and not path.startswith("//")
    if path is None or not fine or "\\" in path or any(character <= " " or character == "\x7f" for character in path):
        return "/"
    return path


def _cookie(request_id: str) -> str:
    """Return the name of one log-in's cookie; a browser may have begun several, in as many tabs."""
    return f"saml-{_hash(request_id)[:16]}"


def _request_key(cookie: str) -> str:
    return f"saml-request:{cookie.removeprefix('saml-')}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _redis_down() -> Unavailable:
    return Unavailable(
        "nobody can log in right now: Redis, which keeps log-ins, is down; try again in a moment",
        headers={"Retry-After": "5"},
    )
