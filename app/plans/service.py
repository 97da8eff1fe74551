"""Make, show and remove plans: images that are to be in a mirror before a date.

A plan is shown before it is made: what each image still costs, and when it will be here beside the plans that there are
already. The executor then keeps both up to date.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.access.errors import Conflict, Forbidden, Invalid, Missing
from app.access.principal import Principal, PrincipalKind
from app.config import Policy
from app.database import Database, Transaction, plans
from app.database.plans import Plan, PlanImage
from app.kit.ids import is_id
from app.kit.zones import zone_of
from app.mirror.preparation import Preparation, Seen, Survey
from app.mirror.statistics import BudgetView
from app.oci.digest import Digest
from app.oci.errors import OCIError, Term
from app.oci.reference import parse_reference, spelled
from app.projects import checks, immutability

from .budgets import Forecasts, budget_of
from .core import Forecast, Need, Schedule, schedule, week_later
from .machines import Machines
from .standing import EARLIEST_SECONDS, MARGIN_SECONDS, Standing

MOST_IMAGES = 100
_MOST_PLANS = 20
_MOST_PLATFORMS = 8
_LONGEST_SECONDS = 366 * 86400.0
_LOOKS_AT_ONCE = 8
# With the plans that are over; people see the newest.
_MOST_SHOWN = 100
_PLATFORM = re.compile(r"[a-z0-9]{1,20}/[a-z0-9_]{1,20}(?:/[a-z0-9.]{1,20})?\Z")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image of a plan that is to be made; ``project`` is the mirror's name, ``upstream`` its upstream's."""

    project_id: int
    project: str
    upstream: str
    repository: str
    reference: str

    @property
    def name(self) -> str:
        """Return the image's address without the host."""
        return spelled(f"{self.project}/{self.repository}", self.reference)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan as somebody asks for it. Times are Unix seconds; without ``weekly`` the last date is the only one.

    ``zone``: the time zone in which the dates of a weekly plan are at one hour. ``pin_until``: every tag keeps its
    digest until then, and the caller has the right to pin.
    """

    title: str
    images: Sequence[Wanted]
    platforms: Sequence[str]
    due_at: float
    weekly: bool = False
    ends_at: float = 0.0
    zone: str | None = None
    pin_until: float | None = None


@dataclass(frozen=True, slots=True)
class Prospect:
    """The outlook for one image. Sizes are in bytes, None if they are not known before it is fetched.

    ``expected_at`` is None if the image is here, or for as long as it cannot be fetched. ``problem`` says why.
    """

    image: Wanted
    gets: int = 0
    size: int | None = None
    missing_size: int | None = None
    is_here: bool = False
    expected_at: float | None = None
    late: bool = False
    problem: OCIError | None = None


_Looked = tuple[Wanted, tuple[Seen, Survey] | OCIError]


@dataclass(frozen=True, slots=True)
class Preview:
    """A plan before it is made. ``fits``: all of it will be here in time."""

    prospects: Sequence[Prospect]

    @property
    def gets(self) -> int:
        return sum(one.gets for one in self.prospects)

    @property
    def missing_size(self) -> int | None:
        """Return the bytes to be fetched as far as they are known; None if nothing is known."""
        known = [one.missing_size for one in self.prospects if one.missing_size is not None]
        return sum(known) if known else None

    @property
    def fits(self) -> bool:
        return not any(one.late or one.problem for one in self.prospects)


@dataclass(frozen=True, slots=True)
class State:
    """A plan with its images; ``machines`` have pulled them for its date, None if that is not known."""

    plan: Plan
    images: Sequence[PlanImage]
    machines: int | None = None

    @property
    def ready(self) -> int:
        """Return how many images are here."""
        return sum(image.ready_at is not None for image in self.images)

    @property
    def late(self) -> Sequence[PlanImage]:
        """Return the images that will not be here in time."""
        return [image for image in self.images if image.ready_at is None and (image.late or image.problem)]

    @property
    def pulls(self) -> int:
        """Return how many pulls there were since the images came."""
        repositories = {
            (image.project_id, image.repository): image.pulls - image.pulls_before
            for image in self.images
            if image.pulls_before is not None
        }
        return sum(repositories.values())


@dataclass(frozen=True, slots=True)
class Ahead:
    """The part of a budget that plans take from now on: (start, end, GETs) by window."""

    view: BudgetView
    windows: Sequence[tuple[float, float, int]]
    forecast: Forecast


class Plans:
    """The plans; ``preparations`` are those of the mirrors, by their upstreams' names."""

    def __init__(
        self,
        database: Database,
        policy: Policy,
        preparations: Mapping[str, Preparation],
        forecasts: Forecasts,
        machines: Machines,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._machines = machines
        self._database = database
        self._policy = policy
        self._preparations = preparations
        self._forecasts = forecasts
        self._clock = clock
        self._standing = Standing(database, preparations)

    def may_plan(self, principal: Principal) -> bool:
        """Return whether the principal may make plans: administrators and the configured groups may, in person."""
        in_person = principal.kind is PrincipalKind.PERSON and principal.limits is None
        return principal.administers or (in_person and not principal.groups.isdisjoint(self._policy.plan_groups))

    def require(self, principal: Principal) -> None:
        """Raise Forbidden for a principal that may not make plans."""
        if not self.may_plan(principal):
            raise Forbidden("you may not plan images for a date; ask an administrator")

    async def preview(self, by: Principal, proposal: Proposal) -> Preview:
        """Say what a plan would cost, and when each image would be here; raises Forbidden and Invalid."""
        self._check(by, proposal)
        turns = asyncio.Semaphore(_LOOKS_AT_ONCE)
        looked = await asyncio.gather(*(self._look(image, proposal.platforms, turns) for image in proposal.images))
        groups: dict[tuple[str, str], tuple[BudgetView, list[_Looked]]] = {}
        views: dict[int, BudgetView] = {}
        for image, seen in zip(proposal.images, looked, strict=True):
            if image.project_id not in views:
                views[image.project_id] = await self._preparations[image.upstream].budget(image.project_id)
            view = views[image.project_id]
            groups.setdefault((view.upstream, view.account), (view, []))[1].append((image, seen))
        prospects: dict[str, Prospect] = {}
        for view, mine in groups.values():
            prospects |= await self._prospects(by, proposal, view, mine)
        return Preview([prospects[image.name] for image in proposal.images])

    async def create(self, by: Principal, proposal: Proposal) -> int:
        """Make a plan; return its id. Raises Forbidden, Invalid, and Conflict for too many plans."""
        self._check(by, proposal)
        values = {
            "title": proposal.title,
            "owner_id": by.id,
            "owner": by.name,
            "platforms": list(proposal.platforms),
            "due_at": proposal.due_at,
            "weekly": proposal.weekly,
            "ends_at": proposal.ends_at if proposal.weekly else proposal.due_at,
            "created_at": self._clock(),
            "zone": proposal.zone if proposal.weekly else None,
        }
        images = [
            {"project_id": image.project_id, "repository": image.repository, "reference": image.reference}
            for image in proposal.images
        ]

        pinned = [image for image in proposal.images if not isinstance(parse_reference(image.reference), Digest)]

        async def create(transaction: Transaction) -> int:
            if by.id is not None:
                made = await plans.count_unfinished(transaction, by.id, self._clock())
                if made >= _MOST_PLANS and not by.administers:
                    raise Conflict(
                        "you have %(made)s plans whose date is to come, the most that one person may have; delete one",
                        made=made,
                    )
            if proposal.pin_until is not None:
                for one in sorted(pinned, key=lambda image: image.project_id):
                    names = one.repository, one.reference
                    await immutability.pin(transaction, one.project_id, *names, proposal.pin_until, by.subject)
            return await plans.create(transaction, values, images)

        return await self._database.transact(create)

    async def newest(self, by: Principal, after: int | None = None) -> list[State]:
        """List the newest plans: all for administrators, else the person's own. ``after``: older than this id."""
        async with self._database.reading() as transaction:
            owner_id = None if by.administers else by.id
            found = await plans.newest(transaction, owner_id=owner_id, after=after, limit=_MOST_SHOWN)
            images: dict[int, list[PlanImage]] = {plan.id: [] for plan in found}
            for image in await plans.images(transaction, images):
                images[image.plan_id].append(image)
        return [State(plan, images[plan.id]) for plan in found]

    async def get(self, by: Principal, plan_id: int) -> State:
        """Read a plan of the person, or any for administrators; raises Missing."""
        async with self._database.reading() as transaction:
            plan = await plans.find(transaction, plan_id) if is_id(plan_id) else None
            if plan is None or plan.waiting or not (by.administers or (by.id is not None and plan.owner_id == by.id)):
                raise Missing("there is no plan %(number)s of yours", number=plan_id)
            found = await plans.images(transaction, [plan.id])
        return State(plan, found, await self._machines.count(plan))

    async def remove(self, by: Principal, plan_id: int) -> Plan:
        """Remove a plan; what it brought stays here like everything that somebody pulled. Raises Missing."""
        plan = (await self.get(by, plan_id)).plan
        async with self._database.transaction() as transaction:
            await plans.remove(transaction, plan.id)
        return plan

    async def ahead(self, view: BudgetView) -> Ahead | None:
        """Return what plans take of a budget from now on; None if they take nothing, or its limit is not known."""
        now = self._clock()
        budget, (needs, waiting) = budget_of(view, None, now), await self._standing.needs(view, now)
        if budget is None or not needs:
            return None
        forecast = await self._forecasts.of(view.upstream, view.account)
        made = schedule(budget, needs, forecast, now, waiting)
        return Ahead(view, [(window.start, window.end, window.taken) for window in made.windows], forecast)

    async def _look(
        self, image: Wanted, platforms: Sequence[str], turns: asyncio.Semaphore
    ) -> tuple[Seen, Survey] | OCIError:
        async with turns:
            try:
                preparation = self._preparations[image.upstream]
                repository = await preparation.open(image.project, image.repository)
                seen = await preparation.look(repository, parse_reference(image.reference))
                return seen, await preparation.survey(repository, seen, platforms)
            except OCIError as error:
                return error

    async def _prospects(
        self, by: Principal, proposal: Proposal, view: BudgetView, found: Sequence[_Looked]
    ) -> dict[str, Prospect]:
        now = self._clock()
        known = {image: looked for image, looked in found if not isinstance(looked, OCIError)}
        stated = next((seen.rate for seen, _ in known.values() if seen.rate is not None), None)
        budget = budget_of(view, stated, now)
        due, earliest = proposal.due_at - MARGIN_SECONDS, proposal.due_at - EARLIEST_SECONDS
        needs = [Need(image.name, by.name, due, survey.gets, earliest) for image, (_, survey) in known.items()]
        made = None
        if budget is not None:
            forecast = await self._forecasts.of(view.upstream, view.account)
            planned, waiting = await self._standing.needs(view, now)
            made = schedule(budget, [*planned, *needs], forecast, now, waiting)
        return {image.name: _prospect(image, looked, made, now) for image, looked in found}

    def _check(self, by: Principal, proposal: Proposal) -> None:
        now = self._clock()
        self.require(by)
        checks.word(proposal.title, Term("title"))
        if not 0 < len(proposal.images) <= MOST_IMAGES:
            raise Invalid("a plan names 1 to %(most)s images of mirrors of this registry", most=MOST_IMAGES)
        if not 0 < len(proposal.platforms) <= _MOST_PLATFORMS or not all(map(_PLATFORM.match, proposal.platforms)):
            raise Invalid("name 1 to %(most)s platforms, each like linux/amd64 or linux/arm64/v8", most=_MOST_PLATFORMS)
        if not now < proposal.due_at < now + _LONGEST_SECONDS:
            raise Invalid("the date must be in the future, and within a year")
        if proposal.zone is not None and zone_of(proposal.zone) is None:
            raise Invalid(
                "%(zone)r is no time zone that is known here, such as Europe/Tallinn", zone=proposal.zone[:64]
            )
        if proposal.pin_until is not None and not proposal.due_at <= proposal.pin_until < now + _LONGEST_SECONDS:
            raise Invalid("pins must end at the date or later, and within a year")
        second = week_later(proposal.due_at, proposal.zone)
        if proposal.weekly and not second <= proposal.ends_at < now + _LONGEST_SECONDS:
            raise Invalid("the last date must be a week or more after the first one, and within a year")


def _prospect(image: Wanted, looked: tuple[Seen, Survey] | OCIError, made: Schedule | None, now: float) -> Prospect:
    if isinstance(looked, OCIError):
        return Prospect(image, problem=looked)
    survey = looked[1]
    expected = None if survey.is_whole else now if made is None else made.ready.get(image.name)
    return Prospect(
        image,
        survey.gets,
        survey.size,
        survey.missing_size,
        survey.is_whole,
        expected,
        made is not None and image.name in made.late and not survey.is_whole,
    )
