"""Many clients at once, each from an address of its own, as a class of students is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from tests.parts.service import Service

from .client import Client

T = TypeVar("T")


@asynccontextmanager
async def crowd(service: Service, count: int) -> AsyncIterator[list[Client]]:
    """Open ``count`` clients, each of them somebody else to the service."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Client(service.url, source=f"127.1.0.{number + 1}"))
            for number in range(count)
        ]


async def at_once(clients: Sequence[Client], do: Callable[[Client], Awaitable[T]]) -> list[T]:
    """Have every client do the same at the same time."""
    return await asyncio.gather(*map(do, clients))
