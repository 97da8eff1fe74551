"""The routes outside the distribution API."""

from __future__ import annotations

from collections.abc import Mapping

from tornado.web import Application, url

from app.access.accounts import Accounts
from app.access.service import TokenService

from .address import Addresses
from .base import Handler, NotFound
from .observe import Observer
from .ops import Check, HealthHandler, MetricsHandler, ReadyHandler
from .token import TokenHandler


class FrontHandler(Handler):
    """Says what this is to who types the bare address."""

    needs = "nothing"

    def initialize(  # type: ignore[override]  # the route table gives each handler what it uses
        self, *, external_url: str, observer: Observer
    ) -> None:
        super().initialize(observer=observer)
        self._host = external_url.partition("://")[2].rstrip("/")

    async def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        await self.finish(
            f"{self._host} is a container registry and a cache of Docker Hub.\n\n"
            f"    docker pull {self._host}/mirror/library/redis\n"
        )


def make_application(
    *,
    observer: Observer,
    accounts: Accounts,
    tokens: TokenService,
    addresses: Addresses,
    external_url: str,
    required: Mapping[str, Check],
    optional: Mapping[str, Check],
) -> Application:
    """Draw the route table."""
    shared = {"observer": observer}
    token = {"accounts": accounts, "tokens": tokens, "addresses": addresses, **shared}
    return Application(
        [
            url(r"/", FrontHandler, {"external_url": external_url, **shared}),
            url(r"(?:/[a-z0-9._-]+)?/service/token", TokenHandler, token),
            url(r"/healthz", HealthHandler, shared),
            url(r"/readyz", ReadyHandler, {"required": required, "optional": optional, **shared}),
            url(r"/metrics", MetricsHandler, shared),
        ],
        default_handler_class=NotFound,
        default_handler_args=shared,
        log_function=lambda handler: None,
    )
