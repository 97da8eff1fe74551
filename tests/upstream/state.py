"""Everything the listeners share, and the gate that every request passes before its handler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from aiohttp import web

from .content import Content
from .counters import Counters
from .faults import Fault, Faults, Kind, pause
from .limits import Limits
from .line import Line
from .tokens import Tokens

Logins = Literal["bearer", "basic", "none"]
SERVICE = "registry.docker.io"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class State:
    """Base URLs are set once the listeners know their ports; ``links_live`` is in seconds, of links to the CDN.

    ``logins``: tokens of the realm as at Docker Hub, Basic alone, or none at all. Challenges name ``service``, unless
    it is None, and ``scope``, which then stands for every repository; None: the repository's own.
    """

    registry_url: str = ""
    realm_url: str = ""
    cdn_url: str = ""
    links_live: int = 300
    logins: Logins = "bearer"
    service: str | None = SERVICE
    scope: str | None = None
    content: Content = field(default_factory=Content)
    tokens: Tokens = field(default_factory=Tokens)
    limits: Limits = field(default_factory=Limits)
    faults: Faults = field(default_factory=Faults)
    counters: Counters = field(default_factory=Counters)
    line: Line = field(default_factory=Line)
    under_way: Counter[str] = field(default_factory=Counter)
    connections: WeakKeyDictionary[object, int] = field(default_factory=WeakKeyDictionary)

    def reset(self) -> None:
        """Forget everything but the listeners and their ports."""
        self.faults.clear()
        self.content, self.tokens, self.limits = Content(), Tokens(), Limits()
        self.counters, self.line, self.links_live, self.logins = Counters(), Line(), 300, "bearer"
        self.service, self.scope = SERVICE, None

    def gate(self, kind: Kind, handler: Handler) -> Handler:
        """Count the request and let it travel before ``handler`` sees it."""

        async def passed(request: web.Request) -> web.StreamResponse:
            self.counters.requests[f"{request.method} {request.path}"] += 1
            self.under_way[kind] += 1
            self.connections[request.transport] = self.connections.get(request.transport, 0) + 1
            self.counters.under_way(kind, self.under_way[kind])
            try:
                await self.line.travel()
                return await handler(request)
            finally:
                self.under_way[kind] -= 1

        return passed

    def fault(self, kind: Kind, request: web.Request, *, challenge: bool = False) -> Fault | None:
        """Take the fault that strikes this request, if one does."""
        fault = self.faults.take(kind, request.method, request.path, unquote(request.path_qs), challenge=challenge)
        if fault is not None:
            self.counters.faults += 1
        return fault

    async def hold(self, fault: Fault | None, request: web.Request) -> None:
        """Sit out a stall that comes before the answer."""
        stalls = fault is not None and fault.action == "stall" and fault.after is None
        forgotten = fault is not None and fault.action == "forgotten" and self.connections[request.transport] > 1
        if fault is not None and (stalls or forgotten):
            await pause(self.faults.over, fault.seconds)
