"""The handlers for operators: /healthz, /readyz and /metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from app.kit.threads import in_thread
from app.projects.condition import OK, Check, run_checks

from .base import Readable
from .observe import Observer


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
