"""Make the Tornado application: pages, the REST API, log-in, tokens, health and metrics."""

from __future__ import annotations

from collections.abc import Sequence

from tornado.routing import URLSpec
from tornado.web import Application, url

from app.access.service import TokenService

from .address import Addresses
from .api.routes import routes as api_routes
from .ops import HealthHandler, MetricsHandler, ReadyHandler
from .pages.routes import NOT_FOUND
from .pages.routes import routes as page_routes
from .services import Services
from .token import TokenHandler


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
    return Application(
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
        # Tornado calls `check_xsrf_cookie` of every handler, and refuses a change at one without a check of its own.
        xsrf_cookies=True,
        log_function=lambda handler: None,
    )
