"""Faults that a test plans: which requests they strike, how often, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

Kind = Literal["ping", "token", "manifest", "blob", "list", "cdn"]
Action = Literal[
    "status", "html", "corrupt", "wrong_length", "cut", "stall", "slow", "redirect", "relative", "realm",
    "no_range", "chunked", "no_digest", "page", "moved", "see_other", "header", "no_length", "challenge", "get_signed",
    "forgotten",
]  # fmt: skip
_BODY_ONLY = ("corrupt", "wrong_length", "cut", "slow", "chunked")
_OF_CHALLENGES = ("realm", "challenge")
_WITH_BODY: tuple[Kind, ...] = ("token", "manifest", "list", "cdn")
_KINDS_ONLY: dict[Action, tuple[Kind, ...]] = {
    "no_digest": ("manifest",),
    "header": ("token", "manifest", "list", "cdn"),
    "no_length": ("manifest", "cdn"),
    "moved": ("token", "manifest", "blob", "list"),
    "challenge": ("ping", "manifest", "blob", "list"),
    "get_signed": ("blob",),
    "no_range": ("cdn",),
    "relative": ("blob",),
    "realm": ("ping", "manifest", "blob", "list"),
}


@dataclass(frozen=True)
class Fault:
    """One planned fault; a request is struck by one at most.

    ``path`` is a pattern (`fnmatch`) for the decoded path, with or without its query; ``times`` None means until
    cleared. Faults strike requests that would have been served; ``realm`` and ``challenge`` strike challenges. By
    action:

    status        answer ``status``, with ``retry_after`` verbatim if given
    html          200 and a page, as a captive portal would
    page          answer ``status`` with a page and no registry's word, as a firewall would
    redirect      307 to ``url``
    moved         307 to ``url`` with the path and query of the request; ``text`` goes between /v2/ and the name
    see_other     303 to ``url``, as a registry that shows people a page instead
    forgotten     nothing at all on a connection that has served a request, as behind a NAT that forgot it
    stall         nothing for ``seconds`` or until cleared, before the answer or ``after`` bytes; then it goes on
    corrupt       one byte is another; the length is right
    wrong_length  Content-Length is off by ``delta``; where it promises too much the connection then closes
    cut           the connection closes after ``after`` bytes (None: half of the body)
    slow          ``rate`` bytes a second, until cleared
    chunked       no Content-Length
    no_digest     no Docker-Content-Digest
    no_length     no Content-Length in the answer to a HEAD
    header        the header line ``text``
    no_range      the whole blob with 200, whatever range was asked for
    relative      the blob's Location is relative
    realm         the challenge names ``url`` as its realm
    challenge     the challenge is ``text``
    get_signed    the link to the CDN is signed for a GET, whatever the method
    """

    kind: Kind
    action: Action
    path: str = "*"
    method: str = "*"
    times: int | None = 1
    status: int = 500
    retry_after: str | None = None
    delta: int = 10
    after: int | None = None
    seconds: float = 3600.0
    rate: int = 100
    url: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for a fault that could not strike: a test that plans it would prove nothing."""
        kinds = _KINDS_ONLY.get(self.action, get_args(Kind))
        if self.action not in get_args(Action) or self.kind not in (_WITH_BODY if self._bends_body else kinds):
            raise ValueError(f"no such fault: {self.kind} {self.action}")

    def strikes(self, kind: str, method: str, path: str, path_and_query: str) -> bool:
        return (
            kind == self.kind
            and self.method in ("*", method)
            and (method == "GET" or not self._bends_body)
            and (fnmatchcase(path, self.path) or fnmatchcase(path_and_query, self.path))
        )

    @property
    def _bends_body(self) -> bool:
        return self.action in _BODY_ONLY or (self.action == "stall" and self.after is not None)


class Faults:
    """The faults that are planned, first planned first taken; `clear` also sets ``over``, which ends those at work."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._planned: list[tuple[Fault, int | None]] = []

    def plan(self, fault: Fault) -> None:
        self._planned.append((fault, fault.times))

    def clear(self) -> None:
        self._planned.clear()
        self.over.set()
        self.over = asyncio.Event()

    def take(self, kind: str, method: str, path: str, path_and_query: str, *, challenge: bool = False) -> Fault | None:
        """Give the fault that strikes this request and count it down."""
        for position, (fault, left) in enumerate(self._planned):
            if (fault.action in _OF_CHALLENGES) == challenge and fault.strikes(kind, method, path, path_and_query):
                if left == 1:
                    del self._planned[position]
                elif left is not None:
                    self._planned[position] = (fault, left - 1)
                return fault
        return None


async def pause(over: asyncio.Event, seconds: float) -> None:
    """Sleep, unless the faults are cleared first."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)
