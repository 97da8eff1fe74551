"""The waiting room: a pull that finds the budget spent is promised the minute at which its image will be here.

    a pull ─► refused, nothing is left ─► a place in the queue ─► 429: the minute, the place, Retry-After
                                                 │
                              the executor fetches it as soon as the budget allows ─► the next pull is warm

A place is a row like a plan of one image. So it survives a restart, is fetched once, and is kept for a day. Places are
served in turns between clients, after the plans. The queue has bounds; beyond them a pull is refused as before.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cachetools import TTLCache

from app.database import Database, DatabaseUnavailable, plans
from app.database.plans import PlanImage
from app.mirror.content import MirrorContent
from app.mirror.preparation import Preparation
from app.oci.digest import Digest
from app.oci.errors import TooManyRequests
from app.oci.reference import Reference, spelled
from app.projects.service import Repository
from app.registry.content import BlobAnswer, Client, Descriptor, Listed, ManifestAnswer

from .budgets import Forecasts, budget_of
from .core import Need, in_order, schedule
from .machines import Machines
from .standing import KEPT_SECONDS, Standing, expected_gets, needs_of

# Refusals because nothing is left. The others pass in seconds, or keep clients from taking more than their share.
_CAUSES = frozenset({"budget spent", "budget blocked"})
_MOST_PLACES, _MOST_OF_CLIENT = 200, 20
# Of an index, the image for most clients. A client of another platform asks for its own, which is one GET more.
_PLATFORMS = ["linux/amd64"]
# The executor needs some seconds, and the image its time on the line.
_SLACK_SECONDS = 60.0
# Clients that ask again get the promise that they have.
_KEPT_SECONDS = 5.0
# A later time is said with its date.
_SAME_DAY = 20 * 3600.0


@dataclass(frozen=True, slots=True)
class Place:
    """An image in the queue, and who has asked for it first."""

    number: int
    client: str
    image: PlanImage


@dataclass(frozen=True, slots=True)
class _Promise:
    at: float
    place: int
    places: int


class WaitingRoom:
    """Makes promises; ``preparations`` are those of the mirrors, by their upstreams' names."""

    def __init__(
        self,
        database: Database,
        preparations: Mapping[str, Preparation],
        forecasts: Forecasts,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._preparations = preparations
        self._forecasts = forecasts
        self._standing = Standing(database, preparations)
        self._clock = clock
        self._made: TTLCache[tuple[str, str], _Promise] = TTLCache(1024, _KEPT_SECONDS)
        self._turn = asyncio.Lock()

    async def promise(
        self, repository: Repository, reference: Reference, client: Client, refusal: TooManyRequests
    ) -> TooManyRequests:
        """Return the answer to a pull that was refused: with a promise, or the refusal itself if none can be made."""
        if refusal.cause not in _CAUSES:
            return refusal
        key = repository.name, str(reference)
        try:
            async with self._turn:
                made = self._made.get(key) or await self._make(repository, str(reference), client.name)
        except DatabaseUnavailable:
            return refusal
        if made is None:
            return refusal
        self._made[key] = made
        answer = TooManyRequests(
            "%(why)s; %(image)s will be here at %(time)s UTC (place %(place)s of "
            "%(places)s), pull it again then; cached content can still be pulled",
            why=refusal.arguments["why"],
            image=spelled(repository.name, reference),
            time=time.strftime(
                "%H:%M" if made.at - self._clock() < _SAME_DAY else "%Y-%m-%d %H:%M", time.gmtime(made.at)
            ),
            place=made.place,
            places=made.places,
            headers={"Retry-After": str(max(1, math.ceil(made.at - self._clock())))},
        )
        answer.cause = refusal.cause
        return answer

    async def places(self) -> Sequence[Place]:
        """List the queue, in the order in which it is served."""
        since = self._clock() - KEPT_SECONDS
        async with self._database.reading() as transaction:
            found = {plan.id: plan for plan in await plans.unfinished(transaction, since, waiting=True)}
            images = [image for image in await plans.images(transaction, found) if image.ready_at is None]
        _, queue = needs_of((found[image.plan_id], image, 0) for image in images)
        by_name = {image.name: image for image in images}
        return [
            Place(number, need.person, by_name[need.key])
            for number, need in enumerate(in_order(queue, span=math.inf), 1)
        ]

    async def _make(self, repository: Repository, reference: str, client: str) -> _Promise | None:
        now = self._clock()
        preparation = self._preparations[repository.upstream or ""]
        view = await preparation.budget(repository.project_id)
        budget = budget_of(view, None, now)
        if budget is None:
            return None
        missing = await self._standing.missing(view, now)
        needs, queue = needs_of((plan, image, expected_gets(plan, image)) for plan, image in missing)
        name = spelled(repository.name, reference)
        places = await self.places()
        is_new = all(need.key != name for need in needs) and all(place.image.name != name for place in places)
        if is_new:
            if len(places) >= _MOST_PLACES or sum(place.client == client for place in places) >= _MOST_OF_CLIENT:
                return None
            queue.append(Need(name, client, now, 1 if ":" in reference else 1 + len(_PLATFORMS)))
        made = schedule(budget, needs, await self._forecasts.of(view.upstream, view.account), now, queue)
        ready = made.ready.get(name)
        if ready is None:
            return None
        at = math.ceil((ready + _SLACK_SECONDS) / 60) * 60.0
        if is_new:
            await self._keep(repository, reference, client, now, at)
        order = [need.key for need in in_order(queue, span=math.inf)]
        return _Promise(at, order.index(name) + 1 if name in order else 1, max(1, len(order)))

    async def _keep(self, repository: Repository, reference: str, client: str, now: float, at: float) -> None:
        values = {
            "title": "",
            "owner": client,
            "platforms": _PLATFORMS,
            "due_at": at,
            "weekly": False,
            "ends_at": at,
            "created_at": now,
            "waiting": True,
        }
        image = {
            "project_id": repository.project_id,
            "repository": repository.name.repository,
            "reference": reference,
        }
        await self._database.transact(partial(plans.create, values=values, images=[image]))


class WaitingContent:
    """A mirror's content whose refused pulls get a promise, and whose machines are counted for classes.

    Implements `app.registry.content.Content`.
    """

    def __init__(self, content: MirrorContent, room: WaitingRoom, machines: Machines) -> None:
        self._content = content
        self._room = room
        self._machines = machines

    async def manifest(
        self, repository: Repository, reference: Reference, client: Client, *, head: bool
    ) -> ManifestAnswer:
        try:
            answer = await self._content.manifest(repository, reference, client, head=head)
        except TooManyRequests as error:
            if not client.may_fill:
                raise
            meant = await self._content.meant(repository)
            raise await self._room.promise(meant, reference, client, error) from error
        if self._machines.are_counted:
            self._machines.note(await self._content.meant(repository), client)
        return answer

    async def blob(self, repository: Repository, digest: Digest, client: Client, *, head: bool) -> BlobAnswer:
        return await self._content.blob(repository, digest, client, head=head)

    async def tags(self, repository: Repository, after: str, limit: int, client: Client) -> Listed[str]:
        return await self._content.tags(repository, after, limit, client)

    async def referrers(
        self,
        repository: Repository,
        subject: Digest,
        artifact_type: str | None,
        after: str,
        limit: int,
        client: Client,
    ) -> Listed[Descriptor]:
        return await self._content.referrers(repository, subject, artifact_type, after, limit, client)
