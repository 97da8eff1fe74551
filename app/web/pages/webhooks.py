"""The pages of a project's webhooks: where its events are sent, what was sent, and what was answered.

The header that a webhook sends is a secret, so no page shows it. A form without a header keeps the one that is set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.access import roles
from app.database.keyset import Page
from app.database.webhooks import Delivery, DeliveryStatus, EventType, Webhook
from app.oci.errors import OCIError
from app.webhooks.payloads import PayloadFormat
from app.webhooks.service import Content, Target

from . import words
from .base import PageHandler, whole
from .shapes import beginning, short

# The statuses that a list of deliveries can be limited to, by their word in the address.
_SHOWN: Mapping[str, DeliveryStatus] = {"failed": DeliveryStatus.ERROR, "waiting": DeliveryStatus.PENDING}
_PROPOSED = (EventType.PUSH, EventType.DELETE)
_TAGS_NAMED = 5
# In bytes of HTML. The API has all of an answer.
_ROOM = 1500


@dataclass(frozen=True, slots=True)
class Typed:
    """The contents of a form's fields, without the header."""

    name: str = ""
    description: str = ""
    url: str = ""
    payload_format: str = PayloadFormat.DEFAULT
    event_types: Sequence[str] = _PROPOSED


class OfWebhooks(PageHandler):
    """The base of these pages."""

    section = "projects"

    @property
    def home(self) -> str:
        return f"/projects/{self.opened.name}/webhooks"

    def typed(self) -> Typed:
        """Read the fields that a form shows again if it has a mistake."""
        texts = {name: self.field(name) for name in ("name", "description", "url", "payload_format")}
        return Typed(**texts, event_types=self.get_body_arguments("event"))

    def show_in_frame(self, template: str, **values: object) -> None:
        """Render a template with the words that these pages have in common."""
        self.show(
            template,
            tab="webhooks",
            base=self.home,
            event_names=words.EVENTS,
            formats=list(PayloadFormat),
            beginning=beginning,
            **values,
        )


class WebhooksPage(OfWebhooks):
    """The list of webhooks."""

    needs = roles.LIST_WEBHOOKS

    async def get(self, project: str) -> None:
        async def ask(page: Page[str]) -> Sequence[Webhook]:
            return (await self.services.webhooks.page(self.opened.id, page))[0]

        self.show_in_frame("webhooks.html", listing=await self.listing(ask, lambda row: row.name))


class NewWebhookPage(OfWebhooks):
    """Creates a webhook."""

    needs = roles.CREATE_WEBHOOK

    async def get(self, project: str) -> None:
        self._form(Typed(), "")

    async def post(self, project: str) -> None:
        typed = self.typed()
        try:
            content = _content(typed, self.field("header"), enabled=True)
            made = await self.services.webhooks.create(self.principal, self.opened.id, content)
        except OCIError as error:
            self._form(typed, self.mistake(error))
            return
        self.note("create", "webhook", made.name)
        self.flash("success", self._("The webhook is made."))
        self.redirect(f"{self.home}/{made.id}", status=303)

    def _form(self, typed: Typed, error: str) -> None:
        self.show_in_frame("webhook-new.html", typed=typed, error=error, has_header=False)


class WebhookPage(OfWebhooks):
    """One webhook and its deliveries. Its form is sent here, and is shown again if it has a mistake."""

    needs = roles.READ_WEBHOOK
    needs_to_send = roles.UPDATE_WEBHOOK

    async def get(self, project: str, webhook: str) -> None:
        found = await self._find(webhook)
        texts = (found.name, found.description, found.url, found.payload_format)
        await self._show(found, Typed(*texts, found.event_types), "")

    async def post(self, project: str, webhook: str) -> None:
        found, typed = await self._find(webhook), self.typed()
        header = self.field("header") or ("" if self.ticked("no_header") else None)
        try:
            content = _content(typed, header, enabled=found.enabled)
            changed = await self.services.webhooks.update(self.opened.id, found.id, content)
        except OCIError as error:
            await self._show(found, typed, self.mistake(error))
            return
        self.note("update", "webhook", changed.name)
        self.flash("success", self._("The webhook is changed."))
        self.redirect(f"{self.home}/{found.id}", status=303)

    async def _find(self, webhook: str) -> Webhook:
        return await self.services.webhooks.find(self.opened.id, int(webhook))

    async def _show(self, found: Webhook, typed: Typed, error: str) -> None:
        chosen = self.query("show")

        async def ask(page: Page[str]) -> Sequence[Delivery]:
            status = _SHOWN.get(chosen, "")
            return (await self.services.webhooks.deliveries(found, page.with_keys(whole), status))[0]

        self.show_in_frame(
            "webhook.html",
            webhook=found,
            typed=typed,
            error=error,
            has_header=found.auth_header is not None,
            listing=await self.listing(ask, lambda row: str(row.id)),
            chosen=chosen if chosen in _SHOWN else "",
            statuses=words.DELIVERY_STATUSES,
            about=about,
            room=_ROOM,
        )


class SwitchWebhookPage(OfWebhooks):
    """Disables a webhook, or enables it again."""

    needs = roles.UPDATE_WEBHOOK

    async def post(self, project: str) -> None:
        off = self.field("disabled") == "yes"

        async def switch() -> None:
            changed = await self.services.webhooks.switch(self.opened.id, self.chosen("webhook"), enabled=not off)
            self.note("disable" if off else "enable", "webhook", changed.name)

        done = self._("The webhook is disabled.") if off else self._("The webhook is enabled.")
        await self.settle(switch(), done, self.home)


class DeleteWebhookPage(OfWebhooks):
    """Deletes a webhook with its deliveries."""

    needs = roles.DELETE_WEBHOOK

    async def post(self, project: str) -> None:
        async def remove() -> None:
            removed = await self.services.webhooks.remove(self.opened.id, self.chosen("webhook"))
            self.note("delete", "webhook", removed.name)

        await self.settle(remove(), self._("The webhook is deleted."), self.home)


class SendAgainPage(OfWebhooks):
    """Sends an event again."""

    needs = roles.UPDATE_WEBHOOK

    async def post(self, project: str) -> None:
        back = f"{self.home}/{self.chosen('webhook')}"

        async def send() -> None:
            found = await self.services.webhooks.find(self.opened.id, self.chosen("webhook"))
            await self.services.webhooks.send_again(found, self.chosen("delivery"))
            self.note("send", "webhook", found.name)

        await self.settle(send(), self._("It is sent within seconds."), back)


def about(event: Mapping[str, Any]) -> str:
    """Return what an event is about: an image with its first tags, or what was said of the project."""
    if "digest" not in event:
        return str(event.get("repository") or event.get("details") or event.get("project", ""))
    tags = event["tags"]
    more = f" +{len(tags) - _TAGS_NAMED}" if len(tags) > _TAGS_NAMED else ""
    named = ":" + ", ".join(tags[:_TAGS_NAMED]) + more if tags else "@" + short(event["digest"])
    return f"{event['repository']}{named}"


def _content(typed: Typed, header: str | None, *, enabled: bool) -> Content:
    target = Target(typed.url, header, typed.payload_format)
    return Content(typed.name, typed.description, enabled, target, typed.event_types)
