"""Manage the webhooks of projects; callers decide who may do so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from yarl import URL

from app.access.errors import Conflict, Invalid, Missing
from app.access.principal import Principal
from app.database import Database, Transaction, projects, webhooks
from app.database.keyset import Count, Entries, Page
from app.database.webhooks import Delivery, EventType, Webhook
from app.kit.ids import is_id
from app.mirror.address_guard import AddressGuard
from app.oci.errors import OCIError, Term
from app.projects import checks

from .payloads import PayloadFormat

_MOST_WEBHOOKS = 20
_MOST_URL = 2000
_MOST_HEADER = 1000


@dataclass(frozen=True, slots=True)
class Target:
    """The address and form of what a webhook sends; ``auth_header`` is "" for none, None for the one that is set."""

    url: str
    auth_header: str | None
    payload_format: str


@dataclass(frozen=True, slots=True)
class Content:
    """The fields of a webhook that people write."""

    name: str
    description: str
    enabled: bool
    target: Target
    event_types: Sequence[str]


class Webhooks:
    """Makes, changes and removes webhooks, and shows their deliveries."""

    def __init__(
        self, database: Database, guard: AddressGuard, encrypt: Callable[[str], str], decrypt: Callable[[str], str]
    ) -> None:
        self._database = database
        self._guard = guard
        self._encrypt = encrypt
        self._decrypt = decrypt

    async def page(self, project_id: int, page: Page[str]) -> tuple[Entries[Webhook], Count]:
        """List a project's webhooks, and count them."""
        async with self._database.reading() as transaction:
            rows = await webhooks.page(transaction, project_id, page)
            return rows, await webhooks.total(transaction, project_id, page.search)

    async def find(self, project_id: int, webhook_id: int) -> Webhook:
        """Read a webhook of a project; raises Missing."""
        return await self._database.read(_find, project_id, webhook_id)

    def auth_header(self, webhook: Webhook) -> str:
        """Return the header that a webhook sends, "" for none; also if it was encrypted with another key."""
        try:
            return "" if webhook.auth_header is None else self._decrypt(webhook.auth_header)
        except ValueError:
            return ""

    async def create(self, by: Principal, project_id: int, content: Content) -> Webhook:
        """Make a webhook; raises Invalid, Missing, and Conflict for a name that is taken or too many webhooks."""
        values = self._checked(content)

        async def create(transaction: Transaction) -> Webhook:
            if await projects.keep(transaction, project_id, None) is None:
                raise Missing("the project has been deleted")
            if await webhooks.count(transaction, project_id) >= _MOST_WEBHOOKS:
                raise Conflict("a project can have %(most)s webhooks; delete one first", most=_MOST_WEBHOOKS)
            made = await webhooks.create(transaction, project_id, created_by=by.name, **values)
            if made is None:
                raise _taken(content.name)
            return await _find(transaction, project_id, made)

        return await self._database.transact(create)

    async def update(self, project_id: int, webhook_id: int, content: Content) -> Webhook:
        """Change a webhook; raises as `create` does."""
        values = self._checked(content)

        async def change(transaction: Transaction) -> Webhook:
            before = await _find(transaction, project_id, webhook_id)
            if not await webhooks.change(transaction, before, **values):
                raise _taken(content.name)
            return await _find(transaction, project_id, webhook_id)

        return await self._database.transact(change)

    async def switch(self, project_id: int, webhook_id: int, *, enabled: bool) -> Webhook:
        """Enable or disable a webhook, and return it; raises Missing."""

        async def switch(transaction: Transaction) -> Webhook:
            before = await _find(transaction, project_id, webhook_id)
            await webhooks.change(transaction, before, enabled=enabled)
            return before

        return await self._database.transact(switch)

    async def remove(self, project_id: int, webhook_id: int) -> Webhook:
        """Remove a webhook with its deliveries, and return it; raises Missing."""

        async def remove(transaction: Transaction) -> Webhook:
            found = await _find(transaction, project_id, webhook_id)
            await webhooks.remove(transaction, found)
            return found

        return await self._database.transact(remove)

    async def deliveries(self, webhook: Webhook, page: Page[int], status: str = "") -> tuple[Entries[Delivery], Count]:
        """List the deliveries of a webhook, or those with a status, the newest first, and count them."""
        async with self._database.reading() as transaction:
            rows = await webhooks.deliveries(transaction, webhook.id, page, status)
            return rows, await webhooks.deliveries_total(transaction, webhook.id, status)

    async def delivery(self, webhook: Webhook, delivery_id: int) -> Delivery:
        """Read a delivery of a webhook; raises Missing."""
        found = None
        if is_id(delivery_id):
            found = await self._database.read(webhooks.find_delivery, webhook.id, delivery_id)
        if found is None:
            raise _no_delivery()
        return found

    async def send_again(self, webhook: Webhook, delivery_id: int) -> None:
        """Send a delivery now, whether it has ended or not; raises Missing if there is no such one."""
        sent = False
        if is_id(delivery_id):
            async with self._database.transaction() as transaction:
                sent = await webhooks.send_again(transaction, webhook.id, delivery_id)
        if not sent:
            raise _no_delivery()

    def _checked(self, content: Content) -> dict[str, Any]:
        event_types, target = content.event_types, content.target
        if unknown := sorted(set(event_types) - set(EventType)):
            raise Invalid(
                "there are no events %(unknown)s here; choose from %(known)s",
                unknown=", ".join(unknown)[:200],
                known=", ".join(EventType),
            )
        if not event_types:
            raise Invalid("choose at least one event")
        if target.payload_format not in set(PayloadFormat):
            raise Invalid("the payload format must be one of %(known)s", known=", ".join(PayloadFormat))
        header = target.auth_header or ""
        check_target(target.url, header, self._guard)
        return {
            "name": checks.word(content.name, Term("name")),
            "description": checks.text(content.description, Term("description")),
            "enabled": content.enabled,
            "url": target.url,
            **({} if target.auth_header is None else {"auth_header": self._encrypt(header) if header else None}),
            "payload_format": target.payload_format,
            "event_types": tuple(event for event in EventType if event in event_types),
        }


def check_target(url: str, header: str, guard: AddressGuard) -> None:
    """Raise Invalid for an address that nothing can be sent to, or a header that cannot be sent."""
    if len(header) > _MOST_HEADER or not (header.isascii() and (header.isprintable() or not header)):
        raise Invalid("the header needs printable ASCII characters, at most %(most)s", most=_MOST_HEADER)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and parts.username is None and url.isascii() and url.isprintable()
        address = URL(url) if usable and len(url) <= _MOST_URL else None
    except ValueError:
        address = None
    if address is None:
        raise Invalid(
            "the target must be an http:// or https:// address of at most %(most)s characters, without a user name",
            most=_MOST_URL,
        )
    try:
        guard.check(address)
    except OCIError:
        raise Invalid("the target must be a public address; nothing is sent to private networks") from None


async def _find(transaction: Transaction, project_id: int, webhook_id: int) -> Webhook:
    found = await webhooks.find(transaction, project_id, webhook_id) if is_id(webhook_id) else None
    if found is None:
        raise Missing("there is no such webhook here")
    return found


def _taken(name: str) -> Conflict:
    return Conflict("the project has a webhook %(name)r already; choose another name", name=name)


def _no_delivery() -> Missing:
    return Missing("there is no such delivery here")
