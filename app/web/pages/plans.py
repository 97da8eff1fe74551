"""The pages of plans: their list, a form that shows a plan before it is made, and the class's page for projection."""

from __future__ import annotations

from collections.abc import Mapping

from app.access.errors import Missing
from app.access.principal import address_block
from app.access.roles import READ_PROJECT
from app.kit.zones import zone_of
from app.mirror.statistics import RunningFill
from app.oci.errors import OCIError, Unauthorized
from app.plans.service import Preview, Proposal, State
from app.web.planning import Pasted, read_plan, require_pins

from .base import PageHandler, whole
from .times import read_moment

_FIELDS = ("title", "text", "platforms", "due_at", "ends_at", "pin_until", "zone")
_DEFAULT_PLATFORMS = "linux/amd64"
# In bytes, as that of the address helper.
_MOST_PASTED = 512 * 1024


class PlansPage(PageHandler):
    """The person's plans, the newest first; all plans for administrators."""

    needs = "person"
    section = "plans"

    async def get(self) -> None:
        after = whole(self.query("after")) if self.query("after") else None
        self.show("plans.html", states=await self.services.plans.newest(self.principal, after))


class NewPlanPage(PageHandler):
    """The form of a new plan. Sent with ``show``, it shows what the plan takes; with ``make``, it makes the plan."""

    needs = "person"
    section = "plans"
    most_body = _MOST_PASTED

    async def get(self) -> None:
        self.services.plans.require(self.principal)
        self._form({"platforms": _DEFAULT_PLATFORMS})

    async def post(self) -> None:
        self.services.plans.require(self.principal)
        values = {name: self.field(name) for name in _FIELDS} | {"weekly": self.field("weekly")}
        try:
            pasted = await read_plan(self.services, self.principal, address_block(self.client_address), values["text"])
            proposal = _proposal(values, pasted)
            await require_pins(self.services, self.principal, proposal)
            if self.field("do") == "make":
                plan_id = await self.services.plans.create(self.principal, proposal)
                self.note("create", "plan", proposal.title)
                self.flash("success", self._("The plan is made. This page shows how far it is."))
                self.redirect(f"/plans/{plan_id}", status=303)
                return
            preview = await self.services.plans.preview(self.principal, proposal)
        except OCIError as error:
            self._form(values, error=self.mistake(error))
            return
        self._form(values, preview, pasted)

    def _form(
        self, values: Mapping[str, str], preview: Preview | None = None, pasted: Pasted | None = None, error: str = ""
    ) -> None:
        self.show("plan-new.html", values=values, preview=preview, pasted=pasted, error=error)


class OfPlan(PageHandler):
    """A page about one plan."""

    needs = "person"
    section = "plans"

    async def fills(self, state: State) -> list[RunningFill]:
        """List the running fills of a plan's repositories."""
        mine = {f"{image.project}/{image.repository}" for image in state.images}
        return [fill for fill in await self.services.mirror.fills() if mine.intersection(fill.repositories)]


class PlanPage(OfPlan):
    """How far a plan is, readable from the last row of a class room."""

    needs = "person"

    async def get(self, plan: str) -> None:
        state = await self.services.plans.get(self.principal, whole(plan))
        self.show("plan.html", state=state, fills=await self.fills(state))


class PlanFillsPage(OfPlan):
    """Only the running fills of a plan, for the script that refreshes them."""

    needs = "person"

    async def get(self, plan: str) -> None:
        state = await self.services.plans.get(self.principal, whole(plan))
        self.show("fills.html", fills=await self.fills(state))


class WaitingPage(PageHandler):
    """The images that wait for the budget, as far as the visitor may see their projects."""

    needs = "nothing"
    section = "mirror"

    async def get(self) -> None:
        places = await self.services.waiting_room.places()
        seen: dict[str, bool] = {}
        for place in places:
            if place.image.project not in seen:
                seen[place.image.project] = await self._sees(place.image.project)
        self.show("waiting.html", places=[place for place in places if seen[place.image.project]])

    async def _sees(self, project: str) -> bool:
        try:
            await self.services.access_control.open(self.principal, project, READ_PROJECT)
        except (Missing, Unauthorized):
            return False
        return True


class DeletePlanPage(PageHandler):
    needs = "person"

    async def post(self) -> None:
        async def remove() -> None:
            removed = await self.services.plans.remove(self.principal, self.chosen("plan"))
            self.note("delete", "plan", removed.title)

        await self.settle(
            remove(), self._("The plan is deleted. The images that it brought can still be pulled."), "/plans"
        )


def _proposal(values: Mapping[str, str], pasted: Pasted) -> Proposal:
    zone = values["zone"]
    return Proposal(
        title=values["title"],
        images=pasted.wanted,
        platforms=values["platforms"].replace(",", " ").split(),
        due_at=read_moment(values["due_at"], zone),
        weekly=values["weekly"] != "",
        ends_at=read_moment(values["ends_at"], zone) if values["weekly"] else 0.0,
        zone=zone if zone_of(zone) else None,
        pin_until=read_moment(values["pin_until"], zone) if values["pin_until"] else None,
    )
