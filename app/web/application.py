"""Make the Tornado application: pages, the REST API, log-in, tokens, health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, cast

from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine, ResponseStartLine
from tornado.routing import URLSpec
from tornado.web import Application, RequestHandler, _HandlerDelegate, url

from app.access.service import TokenService

from .address import Addresses
from .api.document import document
from .api.routes import compiled as api_compiled
from .api.routes import routes as api_routes
from .base import Handler
from .ops import HealthHandler, MetricsHandler, ReadyHandler
from .pages.routes import NOT_FOUND
from .pages.routes import compiled as pages_compiled
from .pages.routes import routes as page_routes
from .services import Services
from .token import TokenHandler


class _Delegate(_HandlerDelegate):
    """Runs a handler as soon as the head of a request has arrived. The handler asks for the body itself."""

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        # Tornado would make every handler wait for the body, also one that takes none.
        nothing = self.request._body_future = asyncio.get_running_loop().create_future()
        nothing.set_result(None)
        return self.execute()

    def finish(self) -> None:
        cast("Handler", self.handler).arrived()


def prepare_application() -> None:
    """Read and compile what all workers share, before they are forked: it takes a third of a worker's start."""
    document()
    api_compiled()
    pages_compiled()


class _Application(Application):
    def get_handler_delegate(
        self,
        request: HTTPServerRequest,
        target_class: type[RequestHandler],
        target_kwargs: dict[str, Any] | None = None,
        path_args: list[bytes] | None = None,
        path_kwargs: dict[str, bytes] | None = None,
    ) -> _HandlerDelegate:
        return _Delegate(self, request, target_class, target_kwargs, path_args, path_kwargs)


def make_application(
    services: Services,
    *,
    login: Sequence[URLSpec],
    tokens: TokenService,
    addresses: Addresses,
    cookie_secret: str,
) -> Application:
    """Return the application with its route table.

    ``cookie_secret`` signs the values that one page leaves for the next. All workers of all hosts need the same.
    """
    shared = {"observer": services.observer}
    token = {"credentials": services.credentials, "tokens": tokens, "addresses": addresses, **shared}
    return _Application(
        [
            url(r"(?:/[a-z0-9._-]+)?/service/token", TokenHandler, token),
            url(r"/healthz", HealthHandler, shared),
            url(r"/readyz", ReadyHandler, {"required": services.required, "optional": services.optional, **shared}),
            url(r"/metrics", MetricsHandler, shared),
            *login,
            *api_routes(services),
            *page_routes(services),
        ],
        default_handler_class=NOT_FOUND,
        default_handler_args={"services": services},
        cookie_secret=cookie_secret,
        # Tornado calls `check_xsrf_cookie` of every handler before the body is read, and refuses a change at one
        # without a check of its own.
        xsrf_cookies=True,
        log_function=lambda handler: None,
    )
