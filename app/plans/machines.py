"""Count the machines that pull the images of a class, for its page.

The addresses go into a HyperLogLog in Redis for each date of a plan. That is a count with an error of one in a hundred,
and no list of addresses. It lives for a day. Without Redis nothing is counted.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial

from app.cache import Cache, keys
from app.database import Database, plans
from app.database.plans import Plan
from app.kit.jobs import repeat
from app.projects.service import Repository
from app.registry.content import Client

_PAUSE_SECONDS = 5.0
_KEPT_SECONDS = 86400
# Machines of a class may be started before it begins.
_BEFORE_SECONDS, _AFTER_SECONDS = 3600.0, 4 * 3600.0
# A class has some hundred machines; between two runs one worker remembers no more than this.
_MOST_ADDRESSES = 4096

# KEYS[1] a count; ARGV: the seconds for which it is kept, the members.
_ADD = "redis.call('PFADD', KEYS[1], unpack(ARGV, 2)) return redis.call('EXPIRE', KEYS[1], ARGV[1])"


class Machines:
    """Counts machines by plan; one object in each worker."""

    def __init__(self, database: Database, cache: Cache, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._cache = cache
        self._clock = clock
        # The counts of each repository of a class that is now, by project id and name.
        self._counts: dict[tuple[int, str], list[str]] = {}
        self._noted: defaultdict[str, set[str]] = defaultdict(set)

    @property
    def are_counted(self) -> bool:
        """Whether there is a class now."""
        return bool(self._counts)

    def note(self, repository: Repository, client: Client) -> None:
        """Note a client's pull of a manifest; never waits and never fails."""
        for count in self._counts.get((repository.project_id, repository.name.repository), ()):
            if len(self._noted[count]) < _MOST_ADDRESSES:
                self._noted[count].add(client.address)

    async def run(self) -> None:
        """Count every few seconds until cancelled."""
        await repeat("counting machines", self.flush, _PAUSE_SECONDS)

    async def flush(self) -> None:
        """Count what was noted, and read again which classes there are now."""
        noted, self._noted = self._noted, defaultdict(set)
        for count, addresses in noted.items():
            members = [_KEPT_SECONDS, *sorted(addresses)]
            await self._cache.script(_ADD, [count], partial(list, members))
        now = self._clock()
        found = await self._database.read(plans.begun, now - _AFTER_SECONDS, now + _BEFORE_SECONDS)
        self._counts = defaultdict(list)
        for plan_id, due_at, project_id, name in found:
            self._counts[project_id, name].append(keys.machines(plan_id, int(due_at)))

    async def count(self, plan: Plan) -> int | None:
        """Return how many machines have pulled images of a plan since an hour before its date; None if unknown."""
        return await self._cache.distinct(keys.machines(plan.id, int(plan.due_at)))
