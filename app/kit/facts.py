"""The facts about a request that its rooms note while they work for it: the outcome, its price, where its time went.

The current request is a context variable. A task that a request starts inherits it. So a single-flight and a fill note
their facts at the request that began them, and the log's lines from within have that request's id.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import perf_counter
from typing import Literal

from app.oci.errors import OCIError

# A request waits for its turn, for the check of who calls, or for another part.
Phase = Literal["queue", "auth", "db", "upstream", "store"]


class Facts:
    """The facts about a request beside its head and its answer.

    The values are those of the class until a room sets one, because most requests set few of them.
    """

    request_id: str = ""
    # As the client spelled them.
    repository: str = ""
    reference: str = ""
    # Of the content that was found.
    digest: str = ""
    # "stale", "asked", "filled" or "followed"; "" if the status says everything (`app.web.events`).
    outcome: str = ""
    # Requests that the upstream counted.
    pulls: int = 0
    error: BaseException | None = None
    # In seconds.
    phases: dict[str, float] | None = None

    def spend(self, phase: Phase, seconds: float) -> None:
        """Add to the time that a phase took."""
        if self.phases is None:
            self.phases = {}
        self.phases[phase] = self.phases.get(phase, 0.0) + seconds

    @property
    def code(self) -> str:
        """Return the code of the error that was answered, "" if there was none."""
        if self.error is None:
            return ""
        return self.error.code if isinstance(self.error, OCIError) else OCIError.code

    @property
    def cause(self) -> str:
        """Return the word for the error's cause, "" if its code says everything."""
        if self.error is None:
            return ""
        return self.error.cause if isinstance(self.error, OCIError) else "fault"

    @property
    def why(self) -> str:
        """Return the reason in words; of an unforeseen failure only its kind, because its text may hold a secret."""
        if self.error is None:
            return ""
        return self.error.message if isinstance(self.error, OCIError) else type(self.error).__name__


# Jobs work for no request. They note their facts here, and nobody reads them.
_current: ContextVar[Facts] = ContextVar("facts", default=Facts())  # noqa: B039

current = _current.get


def begin(request_id: str) -> Facts:
    """Make the facts of a request, which are the current ones in this task from now on."""
    facts = Facts()
    facts.request_id = request_id
    _current.set(facts)
    return facts


class spending:  # noqa: N801  # used as a function
    """Add the time that the block takes to a phase of the current request."""

    __slots__ = ("_began", "_facts", "_phase")

    def __init__(self, phase: Phase) -> None:
        self._phase = phase

    def __enter__(self) -> None:
        self._facts = current()
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._facts.spend(self._phase, perf_counter() - self._began)
