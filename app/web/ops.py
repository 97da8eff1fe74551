"""The handlers for operators: /healthz, /readyz and /metrics."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from app.kit.threads import in_thread
from app.oci.errors import OCIError

from .base import Readable
from .observe import Observer

Check = Callable[[], Awaitable[None]]

OK = "ok"
# In seconds. Balancers and monitors give up after 5.
_CHECK_SECONDS = 4.0


class HealthHandler(Readable):
    """Answers 200: this worker is alive and takes requests."""

    needs = "nothing"

    async def get(self) -> None:
        await self.finish({"status": "ok"})


class ReadyHandler(Readable):
    """Answers 200 if every required part answers, else 503.

    The answer also lists the optional parts. Redis is one: a worker whose Redis is down still takes requests.
    """

    needs = "nothing"

    def initialize(  # type: ignore[override]  # the route table gives each handler what it uses
        self, *, required: Mapping[str, Check], optional: Mapping[str, Check], observer: Observer
    ) -> None:
        super().initialize(observer=observer)
        self._required = required
        self._optional = optional

    async def get(self) -> None:
        parts = await run_checks({**self._required, **self._optional})
        ready = all(parts[name] == OK for name in self._required)
        self.set_status(200 if ready else 503)
        if not ready:
            self.set_header("Retry-After", "5")
        self.set_header("Content-Type", "application/json")
        await self.finish(json.dumps({"ready": ready, "parts": parts}))


async def run_checks(checks: Mapping[str, Check]) -> dict[str, str]:
    """Ask all parts at once; return `OK` or the fault's text by the name of each part. It takes at most 4 s."""

    async def ask(check: Check) -> str:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await check()
        except OCIError as error:
            return error.message
        except TimeoutError:
            return f"no answer in {_CHECK_SECONDS:.0f} s"
        return OK

    answers = await asyncio.gather(*(ask(check) for check in checks.values()))
    return dict(zip(checks, answers, strict=True))


class MetricsHandler(Readable):
    """Answers Prometheus with the metrics of all workers of this service together."""

    needs = "nothing"

    async def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        await self.finish(await in_thread(None, _render))


def _render() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library's signature
    return generate_latest(registry)
