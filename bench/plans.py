"""A month of classes, of CI and of strangers behind the same address, in seconds, on the service's own planning core.

Time goes in steps of five minutes. The upstream allows 100 GETs in six hours, to all behind the address together. Some
registries live through the same month:

- ``plans``: this one, with plans and with a queue for pulls that find nothing left (`app.plans.core`);
- ``today``: without both. A refused client asks again every five minutes, as kubelet does at the end of its back-off;
- ``queue``: without plans, with a queue that is served in the order in which the clients came;
- ``still``: as ``plans``, on an account of our own, but without refreshing tags by what would lapse.
"""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from app.plans.core import HOUR, Budget, Forecast, Need, learn, schedule

Mode = Literal["plans", "today", "queue", "still"]

LIMIT, WINDOW, STEP = 100, 6 * HOUR, 300.0
DAY, WEEK = 24 * HOUR, 168 * HOUR
# A Monday at midnight, UTC.
BEGIN = 1_700_438_400.0
# An image costs an index and a manifest.
GETS = 2
IMAGES, EARLIEST, MARGIN = 12, 3 * DAY, 900.0
# (day of the week, seconds of the day): six classes a week.
CLASSES = ((0, 10.25), (1, 8.25), (1, 10.25), (2, 14.25), (3, 10.25), (4, 12.25))
_DOWN = (BEGIN + 9 * DAY + 18 * HOUR, BEGIN + 9 * DAY + 23 * HOUR)


@dataclass(slots=True)
class Pull:
    """An image that somebody wants; ``due`` is the date of a class, None for a pull without a plan."""

    key: str
    person: str
    asked: float
    due: float | None = None
    gets: int = GETS
    warned: float | None = None


@dataclass
class Result:
    """The outcome of a month; times in seconds. ``impossible``: images that a class was refused after a warning."""

    class_images: int = 0
    class_refused: int = 0
    impossible: int = 0
    past_the_limit: int = 0
    lapsed: int = 0
    unplanned: int = 0
    waits: list[float] = field(default_factory=list)
    gets: Counter[str] = field(default_factory=Counter)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.waits) if self.waits else 0.0

    def percentile(self, part: float) -> float:
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


class Month:
    """One registry in one month."""

    def __init__(
        self, mode: Mode, days: int, seed: int, *, thieves: float = 0.6, load: float = 1.0, tags: int = 0
    ) -> None:
        """``tags``: so many tags, half of which move in a day, are what nodes pull on an account of our own."""
        self.mode, self.days, self.thieves, self.load, self.tags = mode, days, thieves, load, tags
        self.moved: set[int] = set()
        self.chance = random.Random(seed)
        self.result = Result()
        self.planned: list[Pull] = []
        self.waiting: list[Pull] = []
        self.here: set[str] = set()
        self.remaining, self.ends_at = LIMIT, BEGIN + WINDOW
        self.stolen_at: list[float] = []
        self.seen: list[tuple[float, float]] = []
        self.forecast = Forecast()

    def run(self) -> Result:
        """Live through it."""
        now, end = BEGIN, BEGIN + self.days * DAY
        restarts = {BEGIN + self.chance.randrange(int(self.days * DAY / STEP)) * STEP for _ in range(self.days // 2)}
        self._begin_window(now)
        while now < end:
            if now >= self.ends_at:
                self._end_window()
                self._begin_window(now)
            self._steal(now)
            self._move()
            self._announce(now)
            up = not _DOWN[0] <= now < _DOWN[1]
            # After a restart the ledger begins anew by a HEAD, and the next run reserves again: a step later.
            if up and now not in restarts:
                self._serve(now)
            for pull in self._asked(now):
                self._pull(pull, now, up=up)
            self._classes(now, up=up)
            if (now - BEGIN) % DAY == 0:
                self.forecast = learn(self.seen, 4, now)
            now += STEP
        return self.result

    # The world

    def _begin_window(self, now: float) -> None:
        self.remaining, self.ends_at = LIMIT, now + WINDOW
        stolen = int(LIMIT * self.chance.uniform(0, self.thieves))
        self.stolen_at = sorted(now + self.chance.random() * WINDOW for _ in range(stolen))

    def _end_window(self) -> None:
        """Count the budget that lapsed although a pull waited for it."""
        left = self.remaining
        if not _DOWN[0] <= self.ends_at - STEP < _DOWN[1]:
            for pull in self.waiting:
                if pull.gets <= left:
                    left -= pull.gets
                    self.result.lapsed += pull.gets

    def _steal(self, now: float) -> None:
        while self.stolen_at and self.stolen_at[0] <= now:
            self.stolen_at.pop(0)
            if self.remaining:
                self.remaining -= 1
                self.seen.append((now, 1.0))

    def _move(self) -> None:
        """Let tags move that nodes pull."""
        for tag in range(self.tags):
            if self.chance.random() < 0.5 * STEP / DAY:
                self.moved.add(tag)

    def _warm(self) -> None:
        """Serve a pull of a tag that has not moved, which costs nothing."""
        self.result.unplanned += 1
        self.result.waits.append(0.0)

    def _asked(self, now: float) -> Iterator[Pull]:
        """CI around the clock, more by day; nodes that pull tags which have moved; and people."""
        hour = now // HOUR % 24
        rate = self.load * (5.0 if 7 <= hour < 18 else 1.5)
        for _ in range(_poisson(self.chance, rate * STEP / HOUR)):
            who = self.chance.choices(("ci-a", "ci-b", "k3s", "person"), (5, 2, 2, 1))[0]
            if who == "k3s" and self.tags:
                tag = self.chance.randrange(self.tags)
                if tag in self.moved:
                    self.moved.discard(tag)
                    yield Pull(f"tag-{tag}-{now}", who, now)
                else:
                    self._warm()
                continue
            gets = 1 if who == "k3s" else GETS
            yield Pull(f"{who}-{self.chance.random()}", who, now, gets=gets)

    def _announce(self, now: float) -> None:
        """Make the plans of the week's classes five days before each, with new images in each week.

        One in ten tags that are here moves in a day, and has to be fetched again.
        """
        for pull in self.planned:
            if self.chance.random() < 0.1 * STEP / DAY:
                self.here.discard(pull.key)
                pull.gets = GETS
        for number, due in _classes(now + 5 * DAY):
            for image in range(IMAGES):
                key = f"{due}-{image}"
                self.planned.append(Pull(key, f"teacher-{number % 4}", now, due))

    def _classes(self, now: float, *, up: bool) -> None:
        """Let each class that begins pull its images."""
        begins = [pull for pull in self.planned if pull.due is not None and now <= pull.due < now + STEP]
        for pull in begins:
            self.planned.remove(pull)
            self.result.class_images += 1
            if pull.key in self.here:
                continue
            if up and self._take(pull.gets, "class"):
                continue
            if pull.warned is not None:
                self.result.impossible += 1
            else:
                self.result.class_refused += 1
            if self.mode == "queue":
                self.waiting.append(Pull(pull.key, pull.person, now, gets=pull.gets))

    # The registry

    def _serve(self, now: float) -> None:
        """Do what the executor does in a run, or let the queue have what is there."""
        if self.mode == "today":
            for pull in list(self.waiting):
                self._finish(pull, now)
            return
        if self.mode == "queue":
            while self.waiting and self._finish(self.waiting[0], now):
                pass
            return
        budget = Budget(LIMIT, WINDOW, self.remaining, self.ends_at, own=self.tags > 0)
        plans = [pull for pull in self.planned if pull.key not in self.here]
        needs = [
            Need(pull.key, pull.person, pull.due - MARGIN, pull.gets, pull.due - EARLIEST)
            for pull in plans
            if pull.due is not None
        ]
        queue = [Need(pull.key, pull.person, pull.asked, pull.gets) for pull in self.waiting]
        made = schedule(budget, needs, self.forecast, now, queue)
        self.reserved = made.reserved
        for pull in plans:
            pull.warned = (pull.warned or now) if pull.key in made.late else None
        chosen, left = set(made.now), made.reserved
        # An index may come in this window, and its image in the next one.
        for pull in [*plans, *self.waiting]:
            part = min(pull.gets, left)
            if pull.key not in chosen or not part or not self._take(part, "plan" if pull.due else "pull"):
                continue
            left, pull.gets = left - part, pull.gets - part
            if not pull.due:
                self.seen.append((now, float(part)))
            if pull.due and not pull.gets:
                self.here.add(pull.key)
            elif not pull.gets:
                self.waiting.remove(pull)
                self.result.waits.append(now - pull.asked)
        self.reserved = left
        spare = made.spare if self.mode == "plans" else 0
        while self.moved and spare >= GETS and self._take(GETS, "refresh"):
            self.moved.pop()
            spare -= GETS

    reserved = 0

    def _pull(self, pull: Pull, now: float, *, up: bool) -> None:
        """Serve a pull without a plan if there is room, else let it wait."""
        self.result.unplanned += 1
        room = self.remaining - (self.reserved if self.mode in ("plans", "still") else 0)
        behind = self.mode == "queue" and self.waiting
        if up and not behind and room >= pull.gets and self._take(pull.gets, "pull"):
            self.seen.append((now, float(pull.gets)))
            self.result.waits.append(0.0)
        else:
            self.waiting.append(pull)

    def _finish(self, pull: Pull, now: float) -> bool:
        if not self._take(pull.gets, "pull"):
            return False
        self.seen.append((now, float(pull.gets)))
        self.waiting.remove(pull)
        self.result.waits.append(now - pull.asked)
        return True

    def _take(self, gets: int, what: str) -> bool:
        if self.remaining < gets:
            return False
        self.remaining -= gets
        self.result.gets[what] += gets
        self.result.past_the_limit += max(0, -self.remaining)
        return True


def _classes(at: float) -> Iterator[tuple[int, float]]:
    """List the classes that begin in the step at a time."""
    for number, (day, hour) in enumerate(CLASSES):
        begins = (day * DAY + hour * HOUR) % WEEK
        if at <= at - (at - BEGIN) % WEEK + begins < at + STEP:
            yield number, at - (at - BEGIN) % WEEK + begins


def _poisson(chance: random.Random, mean: float) -> int:
    """Return a number of events; a step is so short that a few draws suffice."""
    return sum(chance.random() < mean / 8 for _ in range(8))


# Half as busy as the limit allows, as busy as it allows, with strangers who may take everything, and nearly as busy as
# an account of our own allows, with tags that move.
SCENES: dict[str, tuple[float, float, int, tuple[Mode, ...]]] = {
    "usual": (0.6, 1.0, 0, ("plans", "today", "queue")),
    "busy": (0.6, 1.6, 0, ("plans", "today", "queue")),
    "robbed": (1.0, 2.0, 0, ("plans", "today", "queue")),
    "own": (0.0, 2.0, 60, ("plans", "still", "today", "queue")),
}
_COLUMNS = (
    *("class images", "refused to a class", "impossible, said before", "GETs past the limit"),
    *("lapsed while a pull waited", "pulls", "waited at all", "average wait", "95 % waited less than"),
)


def report(days: int = 30, seeds: Sequence[int] = (1, 2, 3)) -> str:
    """Simulate months and return a table in Markdown."""
    lines = [f"| {' | '.join(('', *_COLUMNS))} |", f"|---|{'---:|' * len(_COLUMNS)}"]
    for scene, (thieves, load, tags, modes) in SCENES.items():
        for mode in modes:
            months = [Month(mode, days, seed, thieves=thieves, load=load, tags=tags).run() for seed in seeds]
            lines.append(f"| {scene}, {mode} | {' | '.join(_spelled(months))} |")
    return "\n".join(lines)


def _spelled(months: Sequence[Result]) -> list[str]:
    waits = Result(waits=[wait for month in months for wait in month.waits])
    counts = (
        sum(month.class_images for month in months),
        sum(month.class_refused for month in months),
        sum(month.impossible for month in months),
        sum(month.past_the_limit for month in months),
        sum(month.lapsed for month in months),
        sum(month.unplanned for month in months),
        sum(wait > 0 for wait in waits.waits),
    )
    return [*map(str, counts), f"{waits.mean / 60:.0f} min", f"{waits.percentile(0.95) / 60:.0f} min"]
