"""Fetch the images of plans before their dates; one worker of all hosts does it at a time, under a lease.

Each run, every few seconds:

    read the plans ─► compare with the upstream ─► divide the budget ─► reserve ─► fetch manifests ─► fetch blobs
                      (HEAD, free; in time)        (core.py)            (ledger)   (counted)

SQL holds the plans, and each run reads again what is here. So a run resumes after a kill, on any host. After a
flush of Redis the next run reserves again. While Redis is down nothing is fetched, because nothing can be reserved.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from prometheus_client import Gauge

from app.cache import Cache, Claim, Lease, keys
from app.database import Database, Transaction, plans
from app.database.plans import Plan, PlanImage
from app.kit import facts
from app.kit.jobs import repeat
from app.mirror.preparation import Preparation, Seen, Survey
from app.mirror.statistics import SAMPLES_KEPT_SECONDS
from app.oci.errors import OCIError, TooManyRequests
from app.oci.reference import parse_reference
from app.projects.service import Repository

from .budgets import Forecasts, budget_of
from .core import schedule, week_later
from .refreshing import Refreshing
from .standing import EARLIEST_SECONDS, KEPT_SECONDS, expected_gets, needs_of

STATES = Gauge(
    "registry_plans",
    "Plans whose date is to come, by state: ready, coming, late.",
    ["state"],
    # The worker that has the lease counts, the others say 0.
    multiprocess_mode="livesum",
)

WAITING = Gauge("registry_waiting_pulls", "Images of pulls that wait for the budget.", multiprocess_mode="livesum")

_PAUSE_SECONDS = 15.0
_DAY = 86400.0
# A keep is shorter than the plan and renewed, so it ends with the plan.
_KEEP_SECONDS, _KEEP_AGAIN_SECONDS = 2 * _DAY, _DAY / 2
# A weekly plan turns to its next date this long after a date.
_OVER_SECONDS = 4 * 3600.0
# How often an image that is here is compared with the upstream, long before its date and close to it.
_COMPARE_SECONDS, _COMPARE_OFTEN_SECONDS, _CLOSE_SECONDS = 6 * 3600.0, 600.0, 2 * 3600.0
_RETRY_SECONDS = 60.0
_RESERVATION_SECONDS = 120.0
# Without a ledger nobody knows what is left. The first GETs begin it.
_FIRST_GETS = 5
_LOOKS_AT_ONCE, _BLOBS_AT_ONCE = 8, 4
_BLOBS_SECONDS = 10.0

log = logging.getLogger(__name__)

_Key = tuple[str, str, str]


@dataclass(slots=True)
class _Work:
    """An image of a plan in this run; ``survey`` is None if it was not looked at. ``known``: what is written of it."""

    plan: Plan
    image: PlanImage
    repository: Repository | None = None
    seen: Seen | None = None
    survey: Survey | None = None
    is_tagged: bool = True
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> _Key:
        return self.image.project, self.image.repository, self.image.reference

    @property
    def gets(self) -> int:
        return expected_gets(self.plan, self.image) if self.survey is None else self.survey.gets

    @property
    def is_done(self) -> bool:
        if self.survey is None:
            return self.image.ready_at is not None or self.image.problem != ""
        return self.survey.is_whole and self.is_tagged


class Executor:
    """Carries out the plans; ``preparations`` are those of the mirrors, by their upstreams' names."""

    def __init__(
        self,
        database: Database,
        cache: Cache,
        preparations: Mapping[str, Preparation],
        forecasts: Forecasts,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._preparations = preparations
        self._forecasts = forecasts
        self._clock = clock
        self._refreshing = Refreshing(database, preparations, forecasts, clock)
        self._lease = Lease(cache, keys.lease("plans", "all"), life=30.0)
        # This worker's own knowledge. Another one learns it again, at no cost.
        self._seen: dict[_Key, tuple[float, Seen]] = {}
        self._kept: dict[_Key, float] = {}
        self._late: set[int] = set()
        self._blobs: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Carry out the plans until cancelled."""
        try:
            await repeat("carrying out plans", self.step, _PAUSE_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop waiting for blobs, and let another worker have the lease."""
        for task in self._blobs.values():
            task.cancel()
        await asyncio.gather(*self._blobs.values(), return_exceptions=True)
        await self._lease.release()

    async def step(self) -> None:
        """Do what can be done now, unless another worker has the lease or Redis is down."""
        if await self._lease.acquire() is not Claim.HELD:
            self._report([], self._clock())
            return
        await self._carry_out()
        await self._refreshing.step()

    async def _carry_out(self) -> None:
        now = self._clock()
        # Mostly there is no plan, and SQLite has one writer.
        if not await self._database.read(plans.is_anything_due, now - KEPT_SECONDS, now - SAMPLES_KEPT_SECONDS):
            self._report([], now)
            return
        works = await self._read()
        await self._look(works)
        for budget in await self._budgets(works):
            await self._divide(*budget)
        await self._bring_blobs(works)
        await self._write(works)

    # What there is to do

    async def _read(self) -> list[_Work]:
        now = self._clock()

        async def read(transaction: Transaction) -> list[_Work]:
            found = {plan.id: plan for plan in await plans.unfinished(transaction, now - KEPT_SECONDS)}
            for plan in list(found.values()):
                if plan.weekly and plan.due_at + _OVER_SECONDS < now:
                    due_at = week_later(plan.due_at, plan.zone)
                    if due_at <= plan.ends_at:
                        await plans.advance(transaction, plan.id, due_at)
                        found.pop(plan.id)
            return [_Work(found[image.plan_id], image) for image in await plans.images(transaction, found)]

        works = await self._database.transact(read, answers=False)
        self._late &= {work.plan.id for work in works}
        present = {work.key for work in works}
        self._seen = {key: seen for key, seen in self._seen.items() if key in present}
        self._kept = {key: at for key, at in self._kept.items() if key in present}
        return sorted(works, key=lambda work: (work.plan.due_at, work.plan.id, work.image.number))

    async def _look(self, works: Sequence[_Work]) -> None:
        turns = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(work: _Work) -> None:
            async with turns:
                try:
                    await self._look_at(work)
                except OCIError as error:
                    # An image that is here stays ready, even if it cannot be compared now.
                    if work.image.ready_at is None:
                        work.known["problem"] = error.message

        await asyncio.gather(*(look(work) for work in works if self._is_time(work)))

    def _is_time(self, work: _Work) -> bool:
        """Return whether an image must be looked at in this run."""
        now, image, due_at = self._clock(), work.image, work.plan.due_at
        if now < due_at - EARLIEST_SECONDS:
            return False
        if image.ready_at is None:
            # An image with a problem is tried again, but not in each run.
            return image.problem == "" or image.checked_at + _RETRY_SECONDS < now
        return self._compares(work) or self._kept.get(work.key, 0.0) + _KEEP_AGAIN_SECONDS < now

    def _compares(self, work: _Work) -> bool:
        """Return whether an image that is here is due to be compared with the upstream."""
        now, due_at = self._clock(), work.plan.due_at
        if now > due_at:
            return False
        often = due_at - now < _CLOSE_SECONDS
        return work.image.checked_at + (_COMPARE_OFTEN_SECONDS if often else _COMPARE_SECONDS) < now

    async def _look_at(self, work: _Work) -> None:
        now, image = self._clock(), work.image
        preparation, reference = self._preparations[image.upstream], parse_reference(image.reference)
        seen_at, seen = self._seen.get(work.key, (0.0, None))
        work.known["checked_at"] = image.checked_at
        repository = await preparation.open(image.project, image.repository)
        if seen is None or self._compares(work) or (image.ready_at is None and seen_at + _COMPARE_OFTEN_SECONDS < now):
            work.known["checked_at"] = now
            seen = await preparation.look(repository, reference)
            if seen.digest is None:
                seen = Seen(await preparation.known(repository, reference), seen.is_index, seen.rate)
            self._seen[work.key] = now, seen
        work.repository, work.seen = repository, seen
        work.survey = await preparation.survey(repository, seen, work.plan.platforms)
        work.is_tagged = await preparation.known(repository, reference) == seen.digest
        work.known["problem"] = ""

    # The budget

    async def _budgets(self, works: Sequence[_Work]) -> list[tuple[Preparation, int, list[_Work]]]:
        """Group the images by the budget that pays for them, with one of its projects."""
        groups: dict[tuple[str, str], tuple[Preparation, int, list[_Work]]] = {}
        accounts: dict[int, tuple[str, str]] = {}
        for work in works:
            project_id, preparation = work.image.project_id, self._preparations.get(work.image.upstream)
            if preparation is None:
                work.known["problem"] = f"no upstream {work.image.upstream!r} is configured any more"
                continue
            if project_id not in accounts:
                view = await preparation.budget(project_id)
                accounts[project_id] = view.upstream, view.account
            groups.setdefault(accounts[project_id], (preparation, project_id, []))[2].append(work)
        return list(groups.values())

    async def _divide(self, preparation: Preparation, project_id: int, works: Sequence[_Work]) -> None:
        """Reserve the GETs that may be sent now, and send them."""
        now, view = self._clock(), await preparation.budget(project_id)
        waiting = [work for work in works if not work.is_done and not work.known.get("problem")]
        budget = budget_of(view, None, now)
        if budget is None:
            gets = sum(work.gets for work in waiting if now >= work.plan.due_at - EARLIEST_SECONDS)
            await preparation.reserve(project_id, min(gets, _FIRST_GETS), _RESERVATION_SECONDS)
            allowed = {work.key for work in waiting}
        else:
            needs, queue = needs_of((work.plan, work.image, work.gets) for work in waiting)
            made = schedule(budget, needs, await self._forecasts.of(view.upstream, view.account), now, queue)
            for work in waiting:
                name = work.image.name
                work.known |= {"expected_at": made.ready.get(name), "late": name in made.late}
            if made.reserved or view.planned:
                await preparation.reserve(project_id, made.reserved, _RESERVATION_SECONDS)
            names = set(made.now)
            allowed = {work.key for work in waiting if work.image.name in names or not work.gets}
        spent = 0
        for work in {work.key: work for work in waiting if work.key in allowed and work.survey is not None}.values():
            try:
                spent += await self._bring_manifests(preparation, work)
            except TooManyRequests as error:
                log.info("plans wait: %s", error.message)
                break
        if spent:
            at = self._clock()
            await self._database.transact(
                partial(plans.add_spent, upstream=view.upstream, credential=view.account, at=at, gets=spent)
            )

    async def _bring_manifests(self, preparation: Preparation, work: _Work) -> int:
        """Fetch an image's manifests; return how many GETs the upstream counted. Raises TooManyRequests."""
        if work.survey is None or work.seen is None or work.repository is None:
            return 0
        if work.is_tagged and not work.survey.children and work.survey.size is not None:
            return 0
        counted = facts.begin("")
        try:
            reference = parse_reference(work.image.reference)
            work.survey = await preparation.bring_manifests(work.repository, reference, work.seen, work.plan.platforms)
            work.repository = await preparation.open(work.image.project, work.image.repository)
            here = await preparation.known(work.repository, reference)
            if work.seen.digest is None and here is not None:
                work.seen = Seen(here, work.seen.is_index, work.seen.rate)
                self._seen[work.key] = self._clock(), work.seen
            work.is_tagged = here == work.seen.digest
        except TooManyRequests:
            raise
        except OCIError as error:
            work.known["problem"] = error.message
        return counted.pulls

    # Blobs cost nothing, but take time

    async def _bring_blobs(self, works: Sequence[_Work]) -> None:
        """Fetch blobs for some seconds, a few at a time; those that take longer go on beside the next runs."""
        wanted = [(work, blob) for work in works if work.survey is not None for blob in work.survey.blobs]
        until = time.monotonic() + _BLOBS_SECONDS
        for work, blob in wanted:
            key = f"{work.image.project}/{work.image.repository}", blob
            if key in self._blobs or work.repository is None:
                continue
            while len(self._blobs) >= _BLOBS_AT_ONCE and time.monotonic() < until:
                await asyncio.wait(
                    self._blobs.values(), timeout=until - time.monotonic(), return_when=asyncio.FIRST_COMPLETED
                )
                self._reap()
            if len(self._blobs) >= _BLOBS_AT_ONCE:
                return
            preparation = self._preparations[work.image.upstream]
            self._blobs[key] = asyncio.create_task(preparation.bring_blob(work.repository, blob))
        if self._blobs:
            await asyncio.wait(self._blobs.values(), timeout=max(0.0, until - time.monotonic()))
            self._reap()

    def _reap(self) -> None:
        for key, task in list(self._blobs.items()):
            if task.done():
                del self._blobs[key]
                if not task.cancelled() and (error := task.exception()) is not None:
                    # The fill has logged why; the next run tries again.
                    log.info("a blob of %s waits: %s", key[0], error)

    # What is written down

    async def _write(self, works: Sequence[_Work]) -> None:
        now = self._clock()
        for work in works:
            if work.survey is not None and work.repository is not None and work.seen is not None:
                await self._take_stock(work, now)
            changed = {name: value for name, value in work.known.items() if value != getattr(work.image, name)}
            if changed:
                noted = partial(plans.note, plan_id=work.plan.id, number=work.image.number, **changed)
                await self._database.transact(noted, answers=False)
        self._report(works, now)
        for forget in (
            partial(plans.forget_spent, before=now - SAMPLES_KEPT_SECONDS),
            partial(plans.forget_waiting, before=now - KEPT_SECONDS),
        ):
            await self._database.transact(forget, answers=False)

    async def _take_stock(self, work: _Work, now: float) -> None:
        preparation = self._preparations[work.image.upstream]
        assert work.seen is not None  # noqa: S101  # the caller has looked
        assert work.survey is not None  # noqa: S101
        if work.survey.blobs or not work.survey.is_whole:
            repository = await preparation.open(work.image.project, work.image.repository)
            work.survey, work.repository = (
                await preparation.survey(repository, work.seen, work.plan.platforms),
                repository,
            )
        work.known |= {
            "digest": work.seen.digest or "",
            "gets": work.survey.gets,
            "bytes": work.survey.size,
            "missing_bytes": work.survey.missing_size,
            "ready_at": (work.image.ready_at or now) if work.is_done else None,
        }
        if work.is_done:
            work.known |= {"late": False, "expected_at": None}
            if work.image.ready_at is None or work.image.pulls_before is None:
                work.known["pulls_before"] = work.image.pulls
        if work.repository is not None and (
            work.image.ready_at is None or self._kept.get(work.key, 0.0) + _KEEP_AGAIN_SECONDS < now
        ):
            until = min(work.plan.ends_at + KEPT_SECONDS, now + _KEEP_SECONDS)
            await preparation.keep(work.repository, work.survey, until)
            self._kept[work.key] = now

    def _report(self, works: Sequence[_Work], now: float) -> None:
        states = {"ready": 0, "coming": 0, "late": 0}
        coming: dict[int, list[_Work]] = {}
        WAITING.set(sum(work.plan.waiting and not work.is_done for work in works))
        for work in works:
            if work.plan.due_at > now and not work.plan.waiting:
                coming.setdefault(work.plan.id, []).append(work)
        for plan_id, mine in coming.items():
            late = [work for work in mine if work.known.get("late", work.image.late) or _problem(work)]
            state = "late" if late else "ready" if all(work.is_done for work in mine) else "coming"
            states[state] += 1
            if late and plan_id not in self._late:
                log.warning("plan %d (%s) will be late: %s", plan_id, mine[0].plan.title, late[0].image.name)
                self._late.add(plan_id)
            elif not late:
                self._late.discard(plan_id)
        for state, number in states.items():
            STATES.labels(state).set(number)


def _problem(work: _Work) -> str:
    return str(work.known.get("problem", work.image.problem))
