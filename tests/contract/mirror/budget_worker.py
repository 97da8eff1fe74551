"""A worker process that pulls cold images through the budget, many at once, and how a test starts one.

It prints "ready", pulls at SIGUSR1, and prints a line of JSON for each pull's end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from app.cache import Cache
from app.mirror.answers import Answer, RateLimit, RequestKind, UpstreamDown, parse_rate_limit
from app.mirror.budget import Budget
from app.mirror.ledger import WAIT_SECONDS
from app.oci.errors import OCIError
from tests.parts.process import Process, eventually, python

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Plan:
    """``pulls`` at once by ``client``, each of one GET, or of an index and its manifest where ``pairs``."""

    redis: str
    upstream: str
    lock: str
    client: str = "somebody"
    pulls: int = 20
    pairs: bool = False
    wait: float = WAIT_SECONDS


class Puller:
    """Pulls for a plan, as the mirror does."""

    def __init__(self, plan: Plan, session: aiohttp.ClientSession, cache: Cache) -> None:
        self._plan = plan
        self._session = session
        self.budget = Budget(cache, "docker.io", "", Path(plan.lock), self._probe)

    async def _probe(self) -> RateLimit:
        sent_at = time.time()
        async with self._session.head(self._plan.upstream) as response:
            answer = _answer("head_manifest", response, sent_at)
        await self.budget.observe(answer)
        if answer.rate is None:
            raise UpstreamDown("docker.io", "states no limit")
        return answer.rate

    async def pull(self, image: str) -> list[str]:
        """Give the status of every GET that was sent, and the code of the error that ended it."""
        ends: list[str] = []
        try:
            ends.append(await self._get(image, int(self._plan.pairs)))
            if self._plan.pairs:
                ends.append(await self._get(image, 0))
        except OCIError as error:
            ends.append(error.code if int(error.headers["Retry-After"]) >= 1 else "too soon")
        return ends

    async def _get(self, image: str, also_hold: int) -> str:
        async with self.budget.spend(self._plan.client, image, also_hold=also_hold, wait=self._plan.wait) as spend:
            sent_at = time.time()
            async with self._session.get(self._plan.upstream) as response:
                await spend.answered(_answer("get_manifest", response, sent_at))
            return str(response.status)


def _answer(kind: RequestKind, response: aiohttp.ClientResponse, sent_at: float) -> Answer:
    headers = response.headers
    return Answer(kind, response.status, parse_rate_limit(headers), headers.get("Retry-After"), sent_at)


async def _main(plan: Plan) -> None:
    cache = Cache(plan.redis)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        puller = Puller(plan, session, cache)
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
        print("ready", flush=True)
        await told.wait()

        async def one(number: int) -> None:
            print(json.dumps(await puller.pull(f"{plan.client}/{number}")), flush=True)

        await asyncio.gather(*(one(number) for number in range(plan.pulls)))
    await cache.close()


class Worker:
    """A started worker."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pid = process.pid

    async def ready(self) -> None:
        """Wait until it could begin."""

        async def ready() -> bool:
            return bool(self._process.output())

        await eventually(ready, what="a worker to be ready")

    def go(self) -> None:
        """Let it pull."""
        self._process.send(signal.SIGUSR1)

    async def ends(self) -> list[list[str]]:
        """Wait for all its pulls, those until its death where it is killed."""

        async def ended() -> bool:
            return not self._process.running

        await eventually(ended, what="a worker to end", timeout=90)
        lines = self._process.output().splitlines(keepends=True)
        # Warnings are printed between them.
        return [json.loads(line) for line in lines if line.startswith("[") and line.endswith("\n")]


@asynccontextmanager
async def worker(plan: Plan) -> AsyncIterator[Worker]:
    """Start one; ended with the block."""
    name = f"worker-{next(_numbers)}"
    process = Process(name, python("-m", __name__, json.dumps(asdict(plan))), Path(plan.lock).parent, preload=True)
    try:
        yield Worker(process)
    finally:
        process.stop(signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(_main(Plan(**json.loads(sys.argv[1]))))
