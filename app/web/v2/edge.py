"""Takes a request of the distribution API from its first line to its log line: route, permission, handler, error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from functools import lru_cache

from tornado.iostream import StreamClosedError

from app.access.principal import address_block
from app.access.tokens import Grant, TokenOutdated
from app.config import Network
from app.oci.errors import NameUnknown, OCIError, Unsupported
from app.oci.reference import Name
from app.projects.audit import Audit
from app.registry.content import Client, ClientGone
from app.web.observe import Observer, in_networks

from .call import Call, reply_error
from .gate import Gate
from .routes import Endpoint, Route

log = logging.getLogger(__name__)


class Internal(OCIError):
    """What nobody foresaw; the client is given the request's id to quote, the log has the rest."""


class V2:
    """Answers calls."""

    def __init__(
        self,
        routes: Sequence[Route],
        gate: Gate,
        observer: Observer,
        audit: Audit,
        fill_networks: Sequence[Network],
    ) -> None:
        self._routes = routes
        self._gate = gate
        self._observer = observer
        self._audit = audit
        self._fill_networks = tuple(fill_networks)
        self._anonymous = lru_cache(maxsize=4096)(self._client_at)

    def answer(self, call: Call) -> Awaitable[None] | None:
        """Begin to answer a call; return what its connection must await before it reads on, None for nothing."""
        self._observer.began(call, call)
        if call.has_body and call.malformed is None:
            # The connection reads the body meanwhile.
            call.task = asyncio.get_running_loop().create_task(self._run(call))
            return None
        # The task of the connection has nothing else to do. It must not read a malformed body either: Tornado would
        # answer that itself, and not in the specification's words.
        call.task = asyncio.current_task()
        return self._run(call)

    async def _run(self, call: Call) -> None:
        try:
            await self._answer(call)
        except (ClientGone, StreamClosedError, ConnectionError, asyncio.CancelledError):
            call.status = call.status or 499
            call.cut()
        except OCIError as error:
            await self._fail(call, self._gate.challenged(error, call.address))
        except Exception:
            log.exception("request %s failed", call.request_id)
            await self._fail(
                call,
                Internal("the registry failed; quote request %(request)s to its operators", request=call.request_id),
            )
        finally:
            self._observer.finished(call)

    async def _answer(self, call: Call) -> None:
        if call.malformed is not None:
            raise call.malformed
        route, arguments, endpoint = self._route(call)
        call.route = route.noun
        name = Name.parse(arguments[0]) if arguments else None
        grant = await self._gate.admit(call, name, endpoint)
        call.admit(grant, self._client(grant, call.client_address))
        try:
            await endpoint.handler(call, *([name, *arguments[1:]] if name is not None else []))
        except TokenOutdated as error:
            self._gate.outdated(error, call, name, endpoint)
            raise
        finally:
            # Also where the client did not wait to hear that it was done.
            for change in call.changes:
                self._audit.note(grant.principal, call.client_address, *change)

    def _route(self, call: Call) -> tuple[Route, tuple[str, ...], Endpoint]:
        for route in self._routes:
            match = route.pattern.match(call.path)
            if match is not None:
                endpoint = route.methods.get(call.method)
                if endpoint is None:
                    allowed = ", ".join(route.methods)
                    raise Unsupported(
                        "%(method)s is not served here; %(allowed)s are",
                        method=call.method,
                        allowed=allowed,
                        headers={"Allow": allowed},
                    )
                return route, match.groups(), endpoint
        raise NameUnknown("the distribution API has no %(path)r", path=call.path[:200])

    def _client(self, grant: Grant, client_address: str) -> Client:
        if not grant.is_anonymous:
            return Client(grant.subject, may_fill=True)
        return self._anonymous(client_address)

    def _client_at(self, address: str) -> Client:
        return Client(address_block(address), may_fill=in_networks(address, self._fill_networks))

    async def _fail(self, call: Call, error: OCIError) -> None:
        if call.status:
            # The head is out: an error page in the middle of a body would be taken for its bytes.
            log.warning("request %s cut after its head: %s", call.request_id, error)
            call.cut()
            return
        if error.answer_status >= 500 and error.__cause__ is not None:
            log.warning("request %s: %s, because of %r", call.request_id, error, error.__cause__)
        try:
            await reply_error(call, error)
        except (StreamClosedError, ConnectionError):
            call.cut()
