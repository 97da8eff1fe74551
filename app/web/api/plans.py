"""Serve plans: images that are to be in a mirror before a date. Harbor does not have this."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from app.access.errors import Invalid
from app.access.principal import address_block
from app.database.plans import PlanImage
from app.plans.service import Preview, Proposal, State
from app.web.planning import Pasted, read_plan, require_pins

from .handler import ApiHandler
from .shapes import moment, some


class OfPlans(ApiHandler):
    """The base of handlers of plans."""

    async def proposal(self) -> tuple[Proposal, Pasted]:
        self.services.plans.require(self.principal)
        body = self.body
        pasted = await read_plan(self.services, self.principal, address_block(self.client_address), body["text"])
        proposal = Proposal(
            title=body["title"],
            images=pasted.wanted,
            platforms=body["platforms"],
            due_at=_seconds(body["due_at"]),
            weekly=body.get("weekly", False),
            ends_at=_seconds(body["ends_at"]) if "ends_at" in body else 0.0,
            zone=body.get("zone"),
            pin_until=_seconds(body["pin_until"]) if "pin_until" in body else None,
        )
        await require_pins(self.services, self.principal, proposal)
        return proposal, pasted


class PlansHandler(OfPlans):
    async def get(self) -> None:
        found = await self.services.plans.newest(self.principal, self.query["after"])
        self.answer([_plan(state) for state in found])

    async def post(self) -> None:
        proposal, _ = await self.proposal()
        plan_id = await self.services.plans.create(self.principal, proposal)
        self.note("create", "plan", proposal.title)
        self.created(f"/plans/{plan_id}", {"id": plan_id})


class PlanPreviewHandler(OfPlans):
    async def post(self) -> None:
        proposal, pasted = await self.proposal()
        preview = await self.services.plans.preview(self.principal, proposal)
        self.answer(_preview(preview, pasted))


class PlanHandler(OfPlans):
    async def get(self, plan_id: int) -> None:
        self.answer(_plan(await self.services.plans.get(self.principal, plan_id)))

    async def delete(self, plan_id: int) -> None:
        removed = await self.services.plans.remove(self.principal, plan_id)
        self.note("delete", "plan", removed.title)


def _seconds(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid("%(text)r is not a time; write it like 2026-02-09T10:15:00Z", text=text[:40]) from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _preview(preview: Preview, pasted: Pasted) -> dict[str, Any]:
    return some(
        fits=preview.fits,
        gets=preview.gets,
        missing_bytes=preview.missing_size,
        images=[
            some(
                name=one.image.name,
                ready=one.is_here,
                gets=one.gets,
                bytes=one.size,
                missing_bytes=one.missing_size,
                expected_at=moment(one.expected_at),
                late=one.late,
                problem=one.problem.message if one.problem is not None else None,
            )
            for one in preview.prospects
        ],
        left_out=[image.written for image in pasted.others],
    )


def _plan(state: State) -> dict[str, Any]:
    plan = state.plan
    more = some(zone=plan.zone, machines=state.machines)
    return more | {
        "id": plan.id,
        "title": plan.title,
        "owner": plan.owner,
        "platforms": list(plan.platforms),
        "due_at": moment(plan.due_at),
        "weekly": plan.weekly,
        "ends_at": moment(plan.ends_at),
        "creation_time": moment(plan.created_at),
        "ready": state.ready,
        "late": len(state.late),
        "pulls": state.pulls,
        "images": [_image(image) for image in state.images],
    }


def _image(image: PlanImage) -> dict[str, Any]:
    return some(
        name=image.name,
        ready=image.ready_at is not None,
        digest=image.digest or None,
        gets=image.gets,
        bytes=image.bytes,
        missing_bytes=image.missing_bytes,
        ready_at=moment(image.ready_at),
        expected_at=moment(image.expected_at),
        late=image.late,
        problem=image.problem or None,
    )
