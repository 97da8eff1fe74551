"""The deadline of every question to PostgreSQL, and what is known about a PostgreSQL that does not answer.

    up ── a question failed, or is late ──► in doubt ── the probe is answered ──► up
                                               │ no answer
                                               ▼
                                             down ── the probe, once a second, is answered ──► up

- A question is everything on one connection: the wait for it, the statements, COMMIT or ROLLBACK. At its deadline its
  connection is dropped. A polite end would wait for the same server.
- In doubt, new questions wait for the verdict of the probe. So no request waits for one deadline after the other, and
  one lock that is held for long fails nobody else.
- Down, new questions fail at once, and those under way are dropped. Only the probe tries the database.
- A database that was down when the service started is down until it is prepared, too: its schema may be older.

Invariant: if PostgreSQL stops answering, each question ends within `LATE_SECONDS` and `PROBE_SECONDS` together. If only
this question gets no answer, it ends at its own deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from .trouble import down

log = logging.getLogger(__name__)

# In seconds. The others are chosen so that a request is refused within 5 s if the server does not answer.
DEADLINE_SECONDS = 4.0
# For a transaction, on a server that answers others. It may wait for the row of another one, and a push of thousands of
# tags takes its time, as does a long list on a busy machine.
TRANSACTION_SECONDS = 20.0
# For one step of a background job, which nobody waits for.
JOB_SECONDS = 60.0
LATE_SECONDS = 1.0
PROBE_SECONDS = 1.25
_PROBE_EVERY = 1.0
# In seconds. Time passes in steps, and a step counts for two at most. If it took longer, this worker was late itself,
# without a processor or computing, and the answer may wait to be read.
_STEP_SECONDS = 0.1


# Prepares the database, and returns None or the reason why that cannot be done yet.
Prepare = Callable[[], Awaitable[str | None]]


class Droppable(Protocol):
    """A driver's connection."""

    def terminate(self) -> None:
        """Close the connection at once, without a word to the server that would need an answer."""


class Question:
    """One question under way; ``connection`` is set as soon as there is one."""

    def __init__(self, seconds: float, late: Callable[[], None]) -> None:
        """``late`` is called every `LATE_SECONDS` until the question ends."""
        self.connection: Droppable | None = None
        self.dropped = False
        self.timeout = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._left, self._late_in, self._late = seconds, LATE_SECONDS, late
        self._step()

    def drop(self) -> None:
        """Fail the question now, wherever it stands."""
        if self.dropped:
            return
        self.dropped = True
        # First the connection, so that no rollback is sent on it when the question's task is interrupted.
        if self.connection is not None:
            self.connection.terminate()
        self.timeout.reschedule(self._loop.time())

    def end(self) -> None:
        """Stop the timer."""
        self._timer.cancel()

    def _step(self) -> None:
        self._began = self._loop.time()
        self._timer = self._loop.call_later(min(_STEP_SECONDS, self._left), self._tick)

    def _tick(self) -> None:
        passed = min(self._loop.time() - self._began, 2 * _STEP_SECONDS)
        self._left -= passed
        self._late_in -= passed
        if self._left <= 0:
            self.drop()
            return
        if self._late_in <= 0:
            self._late_in = LATE_SECONDS
            self._late()
        self._step()


class Deadlines:
    """The questions of one pool, and the verdict on its server; the owner calls `close`."""

    def __init__(
        self,
        probe: Callable[[Question], Awaitable[str | None]],
        went_down: Callable[[], Awaitable[None]],
        prepare: Prepare | None = None,
    ) -> None:
        """``probe`` asks the server on a connection of its own, and returns None or the reason why it is down.

        ``went_down`` is called when the server is found to be down. ``prepare`` is called when the probe is answered,
        until it succeeds once; with None, the database is prepared.
        """
        self._probe = probe
        self._went_down = went_down
        self._prepare = prepare
        self._questions: set[Question] = set()
        self._probing: asyncio.Task[None] | None = None
        self._judged = asyncio.Event()
        self._down = False

    @asynccontextmanager
    async def question(self, seconds: float) -> AsyncIterator[Question]:
        """Bound the block; raises Unavailable if the server is known to be down, TimeoutError past the deadline."""
        if self._prepare is not None:
            self.doubt()
            raise down()
        if self._probing is not None:
            await self._judged.wait()
            if self._down:
                raise down()
        async with self._bounded(seconds, self.doubt) as question:
            self._questions.add(question)
            try:
                yield question
            finally:
                self._questions.discard(question)

    def doubt(self) -> None:
        """Have the server probed, unless that is under way."""
        if self._probing is None:
            self._judged.clear()
            self._probing = asyncio.create_task(self._probe_until_answered())

    async def close(self) -> None:
        """Stop probing, and fail the questions under way."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        for question in list(self._questions):
            question.drop()

    @asynccontextmanager
    async def _bounded(self, seconds: float, late: Callable[[], None]) -> AsyncIterator[Question]:
        question = Question(seconds, late)
        try:
            async with question.timeout:
                yield question
        except Exception as error:
            # The interrupted block fails with an error of its own: a closed connection, or a lost transaction.
            if question.dropped:
                raise TimeoutError("no answer in time") from error
            raise
        except asyncio.CancelledError:
            # The pool returns the connection in a task of its own, which no timer watches from now on.
            if question.connection is not None:
                question.connection.terminate()
            raise
        finally:
            question.end()

    async def _probe_until_answered(self) -> None:
        try:
            while (reason := await self._reason()) is not None:
                if not self._down:
                    log.warning("the database cannot be used (%s); it is asked again every second", reason)
                    self._down = True
                    for question in list(self._questions):
                        question.drop()
                    await self._went_down()
                    self._judged.set()
                await asyncio.sleep(_PROBE_EVERY)
            if self._down:
                log.info("the database can be used again")
        finally:
            self._down, self._probing = False, None
            self._judged.set()

    async def _reason(self) -> str | None:
        try:
            async with self._bounded(PROBE_SECONDS, lambda: None) as question:
                reason = await self._probe(question)
        except TimeoutError:
            return f"no answer in {PROBE_SECONDS} s"
        if reason is None and self._prepare is not None:
            reason = await self._prepare()
            if reason is None:
                self._prepare = None
        return reason
