"""Look at a running registry for an operator: ``python -m app admin status`` and ``… admin explain``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from app.cache import Cache
from app.cache.embedded import EmbeddedRedis
from app.config import EMBEDDED, Config
from app.database import Database, budget_samples
from app.database.migrate import require_current
from app.database.requests import RequestEntry
from app.main import condition_of, open_store
from app.mirror.forecast import empty_at
from app.mirror.upstream_access import UpstreamAccess
from app.oci.errors import Unavailable
from app.oci.reference import spelled
from app.projects.condition import Check, moment
from app.projects.explanations import explain as explanation_of
from app.projects.requests import Requests

_HOUR = 3600.0
_MOST_ERRORS = 5
# Below this part of the limit, the alert RegistryBudgetLow fires.
_LOW_BUDGET = 0.15
_OK, _BAD = "ok", "LOOK"


async def explain(config: Config, what: str) -> str:
    """Say why requests went as they did: the one with an id, or the newest of a repository, an address or a name.

    Raises ValueError if none is kept, and Unavailable.
    """
    async with _reading(config) as database:
        found = await Requests(database).find(what)
    if not found:
        raise ValueError(
            f"nothing is kept of {what!r}. Requests that were refused, failed, were slow or filled the cache are kept "
            "for 14 days, from a few seconds after their end. The log has all requests: see docs/operations.md"
        )
    return "\n\n".join(map(_told, found))


def _told(request: RequestEntry) -> str:
    why = explanation_of(request)
    place = request.repository or request.path
    if request.repository and request.reference:
        place = spelled(place, request.reference)
    spent = ", ".join(f"{phase} {seconds:.3f}" for phase, seconds in request.phases.items() if seconds >= 0.0005)
    lines = {
        "request": f"{request.request_id} on {request.host}",
        "who": f"{request.who or 'nobody who was admitted'} at {request.client}",
        "took": f"{request.seconds:.3f} s" + (f" ({spent})" if spent else ""),
        "sent": f"{request.bytes} bytes",
        "cost": f"{request.pulls} of the upstream's pulls",
        "reason": f"{request.code}: {request.why}" if request.code else "",
        "repeated": f"{request.times} times; this is the latest" if request.times > 1 else "",
        "cause": why.cause,
        "do": why.advice,
    }
    head = f"{moment(request.at)}  {request.method} {place}: {request.status}, {request.outcome}"
    return "\n".join([head, *(f"  {name:<9} {text}" for name, text in lines.items() if text)])


async def status(config: Config) -> str:
    """Show the parts, the workers, the disk, budgets, the certificate, the last backup and the last failures.

    Each line begins with `_OK`, or with `_BAD` if somebody must look at it.
    """
    async with AsyncExitStack() as stack:
        database = Database(config.database_url)
        stack.push_async_callback(database.close)
        cache = Cache(EmbeddedRedis(config.data_dir / "run").url if config.redis.url == EMBEDDED else config.redis.url)
        stack.push_async_callback(cache.close)
        # First, because the client of S3 takes longer to load than Redis has for its answer.
        store = await open_store(config, stack)
        upstreams = {f"upstream {name}": partial(_ping, config, cache, name) for name in config.upstreams}
        parts: dict[str, Check] = {"database": database.check, "redis": cache.check, "store": store.check}
        looks, *lines = await asyncio.gather(
            condition_of(config, database).looks({**parts, **upstreams}),
            _asked(lambda: _budgets(config, database)),
            _asked(lambda: _failures(database)),
        )
    shown = [_line(_OK if look.good else _BAD, look.what, look.told) for look in looks]
    return "\n".join([*shown, *(line for found in lines for line in found)])


async def _ping(config: Config, cache: Cache, name: str) -> None:
    upstream, spool = config.upstreams[name], config.data_dir / "spool"
    access = UpstreamAccess(name, upstream.url, [], cache, spool, spool, refused=config.refused_networks)
    await access.start()
    try:
        await access.pull_client.ping()
    finally:
        await access.close()


async def _asked(look: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """Return what the database says; nothing if it is down, which another line says."""
    with contextlib.suppress(Unavailable):
        return await look()
    return []


async def _budgets(config: Config, database: Database) -> list[str]:
    lines = []
    for name, upstream in sorted(config.upstreams.items()):
        for account in [each.username for each in upstream.credentials] or [""]:
            samples = await database.read(budget_samples.since, name, account, time.time() - _HOUR)
            who = f" as {account}" if account else ""
            if not samples:
                lines.append(_line(_OK, f"budget {name}{who}", "no limit was stated in the last hour"))
                continue
            last = samples[-1]
            enough = last.remaining >= _LOW_BUDGET * last.limit
            told = f"{last.remaining} of {last.limit} pulls left at {moment(last.at)}"
            if (empty := empty_at(samples)) is not None:
                told += f"; empty at {moment(empty)} at this pace"
            lines.append(_line(_OK if enough else _BAD, f"budget {name}{who}", told))
    return lines


async def _failures(database: Database) -> list[str]:
    recent = await Requests(database).recent(outcomes=["failed"], limit=_MOST_ERRORS)
    now = time.time()
    return [
        _line(
            _BAD if now - each.at < _HOUR else _OK,
            "failure",
            f"{moment(each.at)} {each.status} {each.method} {each.path}: {each.why or each.code}; "
            f"registry-admin explain {each.request_id}",
        )
        for each in recent
    ] or [_line(_OK, "failures", "none among the newest requests that are kept")]


def _line(state: str, what: str, told: str) -> str:
    return f"{state:<5} {what:<24} {told}"


@asynccontextmanager
async def _reading(config: Config) -> AsyncIterator[Database]:
    await require_current(config.database_url)
    database = Database(config.database_url)
    try:
        yield database
    finally:
        await database.close()
