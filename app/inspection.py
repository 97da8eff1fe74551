"""Look at a running registry for an operator: ``python -m app admin status`` and ``… admin explain``."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from app.cache import Cache
from app.cache.embedded import EmbeddedRedis
from app.config import EMBEDDED, Config, listen_address
from app.database import Database, budget_samples, settings
from app.database.migrate import require_current
from app.database.requests import RequestEntry
from app.main import open_store
from app.mirror.upstream_access import UpstreamAccess
from app.oci.errors import OCIError, Unavailable
from app.projects.explanations import explain as explanation_of
from app.projects.requests import Requests

_CHECK_SECONDS = 5.0
_HOUR, _DAY = 3600.0, 86400
# A setting that the backup writes when a copy is complete, in Unix seconds (ansible/roles/backup).
_LAST_BACKUP = "last_backup"
_MOST_ERRORS = 5
# Beside this part of a disk, the alert RegistryDiskLow fires. The others are those of the other alerts.
_LOW_DISK, _LOW_BUDGET, _ENDING_DAYS, _OLD_BACKUP_HOURS = 0.1, 0.15, 14, 24
_OK, _BAD = "ok", "LOOK"


async def explain(config: Config, what: str) -> str:
    """Say why requests went as they did: the one with an id, or the newest of a repository or a client's address.

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
        place += ("@" if ":" in request.reference else ":") + request.reference
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
    head = f"{_moment(request.at)}  {request.method} {place}: {request.status}, {request.outcome}"
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
        looks: Sequence[Awaitable[list[str]]] = [
            _checked("database", database.check),
            _checked("redis", cache.check),
            _checked("store", store.check),
            *(_checked(f"upstream {name}", partial(_ping, config, cache, name)) for name in config.upstreams),
            _workers(config),
            _certificate(config),
            _asked(lambda: _budgets(config, database)),
            _asked(lambda: _backup(database)),
            _asked(lambda: _failures(database)),
        ]
        lines = [line for look in await asyncio.gather(*looks) for line in look]
    return "\n".join([*lines, *_disks(config)])


async def _checked(what: str, check: Callable[[], Awaitable[object]]) -> list[str]:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await check()
    except OCIError as error:
        return [_line(_BAD, what, error.message)]
    except (TimeoutError, OSError) as error:
        return [_line(_BAD, what, str(error) or f"no answer in {_CHECK_SECONDS:.0f} s")]
    return [_line(_OK, what, "answers")]


async def _ping(config: Config, cache: Cache, name: str) -> None:
    upstream, spool = config.upstreams[name], config.data_dir / "spool"
    access = UpstreamAccess(name, upstream.url, [], cache, spool, spool, refused=config.refused_networks)
    await access.start()
    try:
        await access.pull_client.ping()
    finally:
        await access.close()


async def _workers(config: Config) -> list[str]:
    """Ask every worker of this host, by its own socket if it has one (ansible/roles/registry)."""
    where = listen_address(config.server.listen)
    if isinstance(where, Path):
        sockets = sorted(where.parent.parent.glob(f"*/{where.name}"))
        if not sockets:
            return [_line(_BAD, "workers", f"none runs: there is no socket in {where.parent.parent}")]
        asked = [(f"worker {path.parent.name}", asyncio.open_unix_connection(str(path))) for path in sockets]
    else:
        asked = [("workers", asyncio.open_connection(*where))]
    return [line for what, opened in asked for line in await _checked(what, partial(_alive, opened))]


async def _alive(opened: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    reader, writer = await opened
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n")
        if b" 200 " not in await reader.readline():
            raise OSError("it answers, but not with 200")
    finally:
        writer.close()


async def _certificate(config: Config) -> list[str]:
    """Look at the certificate that clients see: at this host first, then by the name that they use."""
    url = urlsplit(config.server.external_url)
    if url.scheme != "https" or url.hostname is None:
        return [_line(_OK, "certificate", "none: external_url has no https")]
    for host in ("127.0.0.1", url.hostname):
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                ends = await _end_of_certificate(host, url.port or 443, url.hostname)
        except (OSError, TimeoutError):
            continue
        days = (ends - time.time()) / _DAY
        return [_line(_OK if days > _ENDING_DAYS else _BAD, "certificate", f"ends in {days:.0f} days")]
    return [_line(_BAD, "certificate", f"nothing answers with one for {url.hostname}")]


async def _end_of_certificate(host: str, port: int, name: str) -> float:
    context = ssl.create_default_context()
    # It is only read. Whether clients trust it depends on them.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
    try:
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(found).not_valid_after_utc.timestamp()
    finally:
        writer.close()


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
            told = f"{last.remaining} of {last.limit} pulls left at {_moment(last.at)}"
            lines.append(_line(_OK if enough else _BAD, f"budget {name}{who}", told))
    return lines


async def _backup(database: Database) -> list[str]:
    found = await database.read(settings.find, _LAST_BACKUP)
    if found is None:
        return [_line(_BAD, "backup", "none was ever made")]
    hours = (time.time() - float(found)) / _HOUR
    return [_line(_OK if hours < _OLD_BACKUP_HOURS else _BAD, "backup", f"{_moment(float(found))}, {hours:.0f} h ago")]


async def _failures(database: Database) -> list[str]:
    recent = await Requests(database).recent(outcomes=["failed"], limit=_MOST_ERRORS)
    now = time.time()
    return [
        _line(
            _BAD if now - each.at < _HOUR else _OK,
            "failure",
            f"{_moment(each.at)} {each.status} {each.method} {each.path}: {each.why or each.code}; "
            f"registry-admin explain {each.request_id}",
        )
        for each in recent
    ] or [_line(_OK, "failures", "none among the newest requests that are kept")]


def _disks(config: Config) -> list[str]:
    usage = shutil.disk_usage(config.data_dir)
    free = usage.free / usage.total
    told = f"{usage.free / 2**30:.1f} GiB free of {usage.total / 2**30:.1f} GiB ({free:.0%}) at {config.data_dir}"
    return [_line(_OK if free > _LOW_DISK else _BAD, "disk", told)]


def _line(state: str, what: str, told: str) -> str:
    return f"{state:<5} {what:<24} {told}"


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)) + " UTC"


@asynccontextmanager
async def _reading(config: Config) -> AsyncIterator[Database]:
    await require_current(config.database_url)
    database = Database(config.database_url)
    try:
        yield database
    finally:
        await database.close()
