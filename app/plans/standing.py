"""Read what the plans that there are, and the pulls that wait, still need of a budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from app.database import Database, plans
from app.database.plans import Plan, PlanImage
from app.mirror.preparation import Preparation
from app.mirror.statistics import BudgetView

from .core import Need

# Images are fetched at most this long before their date, because what is fetched earlier may move again.
EARLIEST_SECONDS = 3 * 86400.0
# The schedule aims at this long before the date.
MARGIN_SECONDS = 900.0
# Content is kept for this long after a plan's last date.
KEPT_SECONDS = 86400.0


class Standing:
    """Reads the needs of a budget; ``preparations`` are those of the mirrors, by their upstreams' names."""

    def __init__(self, database: Database, preparations: Mapping[str, Preparation]) -> None:
        self._database = database
        self._preparations = preparations

    async def needs(self, view: BudgetView, now: float) -> tuple[list[Need], list[Need]]:
        """Return the needs of plans, and those of pulls that wait, which spend from a budget."""
        return needs_of((plan, image, expected_gets(plan, image)) for plan, image in await self.missing(view, now))

    async def missing(self, view: BudgetView, now: float) -> list[tuple[Plan, PlanImage]]:
        """List the images that are to come and spend from a budget."""
        async with self._database.reading() as transaction:
            found = {plan.id: plan for plan in await plans.unfinished(transaction, now - KEPT_SECONDS)}
            images = await plans.images(transaction, found)
        mine = [image for image in images if image.ready_at is None and not image.problem]
        paying: dict[int, bool] = {}
        for image in mine:
            if image.project_id not in paying and image.upstream in self._preparations:
                pays = await self._preparations[image.upstream].budget(image.project_id)
                paying[image.project_id] = (pays.upstream, pays.account) == (view.upstream, view.account)
        return [(found[image.plan_id], image) for image in mine if paying.get(image.project_id)]


def needs_of(wanted: Iterable[tuple[Plan, PlanImage, int]]) -> tuple[list[Need], list[Need]]:
    """Return the needs of plans, and those of pulls that wait, in the order of their dates; keys are images' names."""
    planned, waiting = [], []
    for plan, image, gets in wanted:
        if plan.waiting:
            waiting.append(Need(image.name, plan.owner, plan.created_at, gets))
        else:
            due, earliest = plan.due_at - MARGIN_SECONDS, plan.due_at - EARLIEST_SECONDS
            planned.append(Need(image.name, plan.owner, due, gets, earliest))
    return planned, waiting


def expected_gets(plan: Plan, image: PlanImage) -> int:
    """Return how many GETs an image costs as far as is known; an index and its images if nothing is."""
    return 1 + len(plan.platforms) if image.gets is None else image.gets
