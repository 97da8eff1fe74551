"""Answer a request of the distribution API: find its route, check its permission, run its handler, send its errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from functools import lru_cache

from tornado.iostream import StreamClosedError

from app.access.principal import address_block
from app.access.tokens import Grant, TokenOutdated
from app.config import Network
from app.database import DatabaseUnavailable
from app.kit.networks import in_networks
from app.oci.errors import NameUnknown, OCIError, Unsupported
from app.oci.reference import Name
from app.projects.audit import Audit
from app.registry.content import Client, ClientGone
from app.web.observe import Observer

from .authorizer import Authorizer
from .call import Call, reply_error
from .routes import Endpoint, Route

log = logging.getLogger(__name__)

# Clients repeat their requests, and machines of a class ask for the same. So the newest paths are kept, if short.
_KEPT, _LONGEST_KEPT = 4096, 512
# A phase that takes less is not worth a word in the log.
_NOTED_SECONDS = 0.0005
_parse_name = lru_cache(_KEPT)(Name.parse)


class Internal(OCIError):
    """An unforeseen failure. The client gets the request's id, and the log has the cause."""


class V2:
    """Answers calls; an anonymous client from ``fill_networks`` may start fills."""

    def __init__(
        self,
        routes: Sequence[Route],
        authorizer: Authorizer,
        observer: Observer,
        audit: Audit,
        fill_networks: Sequence[Network],
    ) -> None:
        self._routes = routes
        self._authorizer = authorizer
        self._observer = observer
        self._audit = audit
        self._fill_networks = tuple(fill_networks)
        self._anonymous = lru_cache(_KEPT)(self._client_at)
        self._matched = lru_cache(_KEPT)(self._match)

    def answer(self, call: Call) -> Awaitable[None] | None:
        """Begin to answer a call; return an awaitable if the connection must wait for it before it reads a body."""
        self._observer.began(call, call)
        if call.has_body and call.malformed is None:
            # The connection reads the body while the handler runs.
            call.task = asyncio.get_running_loop().create_task(self._run(call))
            return None
        # Without a body, the connection's own task runs the handler. A malformed body must not be read either: Tornado
        # would answer it itself, and not with the specification's JSON.
        call.task = asyncio.current_task()
        return self._run(call)

    async def _run(self, call: Call) -> None:
        try:
            await self._answer(call)
        except (ClientGone, StreamClosedError, ConnectionError, asyncio.CancelledError):
            call.status = call.status or 499
            call.cut()
        except OCIError as error:
            await self._fail(call, self._authorizer.challenged(error, call.address))
        except Exception as error:
            call.facts.error = error
            log.exception("request %s failed", call.request_id)
            await self._fail(
                call,
                Internal(
                    "the registry failed; tell its operators the id of this request: %(request)s",
                    request=call.request_id,
                ),
            )
        finally:
            self._observer.finished(call)

    async def _answer(self, call: Call) -> None:
        if call.malformed is not None:
            raise call.malformed
        call.address.require_mirrored()
        route, arguments = self._matched(call.path) if len(call.path) <= _LONGEST_KEPT else self._match(call.path)
        endpoint = _endpoint(route, call.method)
        call.route = route.noun
        name, facts = _parse_name(arguments[0]) if arguments else None, call.facts
        if len(arguments) > 1:
            facts.reference = arguments[1]
        if name is not None:
            facts.repository = name
        began = time.perf_counter()
        grant, name = await self._authorizer.admit(call, name, endpoint)
        if (seconds := time.perf_counter() - began) > _NOTED_SECONDS:
            facts.spend("auth", seconds)
        if name is not None:
            facts.repository = name
        call.admit(grant, self._client(grant, call.client_address))
        try:
            await endpoint.handler(call, *([name, *arguments[1:]] if name is not None else []))
        except TokenOutdated as error:
            self._authorizer.outdated(error, call, name, endpoint)
            raise
        finally:
            # Also if the client left before the answer.
            for change in call.changes:
                self._audit.note(grant.principal, call.client_address, *change)

    def _match(self, path: str) -> tuple[Route, tuple[str, ...]]:
        """Return the route of a path, and the path's groups; raises NameUnknown."""
        for route in self._routes:
            match = route.pattern.match(path)
            if match is not None:
                return route, match.groups()
        raise NameUnknown("the distribution API has no path %(path)r; check the address", path=path[:200])

    def _client(self, grant: Grant, client_address: str) -> Client:
        if not grant.is_anonymous:
            return Client(grant.subject, may_fill=True, address=client_address)
        return self._anonymous(client_address)

    def _client_at(self, address: str) -> Client:
        return Client(address_block(address), in_networks(address, self._fill_networks), address)

    async def _fail(self, call: Call, error: OCIError) -> None:
        call.facts.error = call.facts.error or error
        if call.status:
            # The head is sent: the client would take an error's text for bytes of the body.
            log.warning("request %s cut after its head: %s", call.request_id, error)
            call.cut()
            return
        # The room of the database logs its failures, once for many requests.
        own = error.__cause__ is not None and not isinstance(error, DatabaseUnavailable)
        if error.answer_status >= 500 and own:
            log.warning("request %s: %s, because of %r", call.request_id, error, error.__cause__)
        try:
            await reply_error(call, error)
        except (StreamClosedError, ConnectionError):
            call.cut()


def _endpoint(route: Route, method: str) -> Endpoint:
    """Return the endpoint of a method; raises Unsupported."""
    endpoint = route.methods.get(method)
    if endpoint is None:
        allowed = ", ".join(route.methods)
        raise Unsupported(
            "%(method)s is not allowed here; use one of: %(allowed)s",
            method=method,
            allowed=allowed,
            headers={"Allow": allowed},
        )
    return endpoint
