"""Faults of a site's parts, and a class that pulls, pushes and moves tags meanwhile.

The bounds and most of the clients are those of the tests on one machine (`tests.mirror.test_database_away`,
`tests.contract.test_two_hosts`).
"""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from app.kit.watchdog import SILENT_SECONDS
from tests.contract.test_two_hosts import CONFIG, GONE, Subject, payload
from tests.images import OCI_MANIFEST
from tests.mirror.client import Client
from tests.mirror.test_database_away import CLIENTS, HOSTED, ROBOTS, Seen, ask_on, pull_on
from tests.parts.weed import ObjectStore

from .cluster import REGISTRIES, SERVICES, Cluster, Way
from .conftest import NAME
from .crowd import Crowd, ask, basic, project
from .hosts import Host

POSTGRESQL, REDIS = "postgresql@15-main", "redis-server"
URL = f"https://{NAME}"
Fault = Callable[[Cluster], AbstractContextManager[None]]
_MOVED = "moved"
# In seconds, between two questions of one client.
_PAUSE = 0.2


class Refused(Exception):
    """The registry said 503 or 507 and when to come again, or no way led to it."""


class _LeadsTo(AbstractResolver):
    """Names lead to one address, whatever they are."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=self._address, port=port, family=2, proto=0, flags=0)]

    async def close(self) -> None:
        pass


def connector(way: Way) -> aiohttp.TCPConnector:
    """Make connections through one of the ways in, under the registry's name."""
    return aiohttp.TCPConnector(
        limit=0, ssl=ssl.create_default_context(cafile=str(way.authority.file)), resolver=_LeadsTo(way.address)
    )


class Through(Client):
    """A client that comes through one of the ways in, and follows the registry to the object store."""

    def __init__(self, way: Way, login: tuple[str, str] | None) -> None:
        super().__init__(URL, login=login)
        self._way = way

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=connector(self._way), timeout=aiohttp.ClientTimeout(sock_read=60), auto_decompress=False
        )
        return self

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str] | None, token: str | None
    ) -> aiohttp.ClientResponse:
        response = await super()._send(method, path, headers, token)
        if response.status != 307:
            return response
        async with response:
            place = response.headers["Location"]
        return await self._session.request(method, place)


def robot(way: Way) -> tuple[str, str]:
    """Make a robot account that may pull from the mirror; give its name and secret."""
    rights = [{"resource": "repository", "action": "pull"}]
    body = {
        "name": f"fault{uuid.uuid4().hex[:12]}", "level": "system", "duration": 30,
        "permissions": [{"kind": "project", "namespace": "mirror", "access": rights}],
    }  # fmt: skip
    kind = {"Content-Type": "application/json", **basic()}
    status, _, said = ask(way, "POST", "/api/v2.0/robots", json.dumps(body).encode(), headers=kind)
    assert status == 201, said
    made = json.loads(said)
    return made["name"], made["secret"]


def token(way: Way, scope: str, headers: Mapping[str, str], *, cut: bool = False) -> str:
    """Take a token; raises Refused."""
    path = f"/service/token?service={NAME}&scope={scope}"
    status, _, said = _ask(way, "GET", path, headers=dict(headers), cut=cut)
    assert status == 200, said
    return str(json.loads(said)["token"])


def moved_tag(one: Way, other: Way, *, cut: bool) -> Subject:
    """A tag that is moved and deleted on one host, and read by anonymous clients on the other one.

    ``cut``: clients may be refused in any way, but not shown what is over.
    """
    path = f"/v2/{_MOVED}/x/manifests/t{uuid.uuid4().hex[:12]}"
    scope = f"repository:{_MOVED}/x:"

    def write(number: int) -> str:
        bearer = {"Authorization": f"Bearer {token(one, f'{scope}pull,push,delete', basic(), cut=cut)}"}
        if number % 3 == 2:
            status, _, said = _ask(one, "DELETE", path, headers=bearer, cut=cut)
        else:
            kind = {"Content-Type": OCI_MANIFEST, **bearer}
            status, _, said = _ask(one, "PUT", path, payload("tag", number), headers=kind, cut=cut)
        # The push before may have been refused, and then there is nothing to delete.
        assert status in (201, 202) or (number % 3 == 2 and status == 404), said
        return GONE if number % 3 == 2 else str(number)

    def read() -> str:
        bearer = {"Authorization": f"Bearer {token(other, f'{scope}pull', {}, cut=cut)}"}
        status, _, said = _ask(other, "GET", path, headers=bearer, cut=cut)
        assert status in (200, 404), (status, said)
        return str(json.loads(said)["annotations"]["state"]) if status == 200 else GONE

    return Subject("tag", lambda number: asyncio.to_thread(write, number), lambda: asyncio.to_thread(read))


def _ask(
    way: Way, method: str, path: str, body: bytes | None = None, *, headers: dict[str, str], cut: bool
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send a request as `ask` does; raises Refused."""
    try:
        status, answered, said = ask(way, method, path, body, headers=headers)
    except (OSError, http.client.HTTPException) as error:
        if cut:
            raise Refused from error
        raise
    if status in (503, 507):
        assert cut or "Retry-After" in answered, said
        raise Refused
    if cut and status >= 400 and status != 404:
        raise Refused
    return status, answered, said


async def _repeat(do: Callable[[], Any], until: asyncio.Event) -> None:
    while not until.is_set():
        with suppress(Refused):
            await do()
        await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def everybody(made: Cluster, *, cut: bool) -> AsyncIterator[tuple[Seen, Subject, Crowd]]:
    """A class that pulls a warm image through the balancer, pushers, a tag that moves, and what is asked of SQL.

    ``cut``: as in `Trouble`.
    """
    way, seen, until = made.balancer, Seen(), asyncio.Event()
    for name in ("lab", _MOVED):
        project(way, name)
    _push_config(way)
    logins = [*(robot(way) for _ in range(ROBOTS)), *[None] * (CLIENTS - ROBOTS)]
    subject = moved_tag(made.way("registry1"), made.way("registry2"), cut=cut)
    of_admin = token(way, f"repository:{HOSTED}:pull,push", basic())

    async def ask_sql() -> None:
        # A connector is closed with the client that had it.
        with suppress(*(aiohttp.ClientError, AssertionError, TimeoutError) if cut else ()):
            await ask_on(URL, of_admin, seen, until, connector(way))

    with Crowd(way, clients=4, patient=True) as crowd:
        tasks = [
            *(asyncio.create_task(pull_on(partial(Through, way, login), seen, until)) for login in logins),
            asyncio.create_task(_repeat(ask_sql, until)),
            asyncio.create_task(_repeat(subject.write, until)),
            *(asyncio.create_task(_repeat(subject.check, until)) for _ in range(2)),
        ]
        try:
            yield seen, subject, crowd
        finally:
            until.set()
            # The error of a client says more than what its silence led to.
            for error in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(error, BaseException):
                    raise error


def _push_config(way: Way) -> None:
    """Push what the moved tag's manifests refer to."""
    bearer = {"Authorization": f"Bearer {token(way, f'repository:{_MOVED}/x:pull,push', basic())}"}
    digest = json.loads(payload("tag", 0))["config"]["digest"]
    path = f"/v2/{_MOVED}/x/blobs/uploads/?digest={digest}"
    assert ask(way, "POST", path, CONFIG, headers=bearer)[0] == 201


@contextmanager
def _commands(host: Host, begin: str, end: str) -> Iterator[None]:
    host.ssh(begin)
    try:
        yield
    finally:
        host.ssh(end)


def _signal(unit: str, name: str) -> str:
    """Spell how all processes of a unit get a signal: the first one before it can start another."""
    main = f"$(systemctl show --value --property MainPID {unit})"
    return f"kill -{name} {main}; pkill -{name} --parent {main} || true"


# Where a service is: on a registry host, or on the host with what they share. A single host is both.
_REGISTRY, _SHARED = "registry1", SERVICES


def _frozen(unit: str, where: str) -> Fault:
    return lambda made: _commands(made.hosts[where], _signal(unit, "STOP"), _signal(unit, "CONT"))


def _stopped(unit: str, where: str) -> Fault:
    return lambda made: _commands(made.hosts[where], f"systemctl stop {unit}", f"systemctl start {unit}")


def _once(command: str, where: str) -> Fault:
    """Run a command at the beginning, and none at the end."""
    return lambda made: _commands(made.hosts[where], command, "true")


def _killed(unit: str, where: str) -> Fault:
    """Nobody starts it again but systemd."""
    return _once(f"systemctl kill --kill-whom=main --signal=KILL {unit}", where)


def _without_connections(made: Cluster) -> AbstractContextManager[None]:
    psql = "runuser --user=postgres -- psql --quiet --command"
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'registry'"
    return _commands(
        made.services,
        f"{psql} 'ALTER ROLE registry CONNECTION LIMIT 0'; {psql} \"{end}\"",
        f"{psql} 'ALTER ROLE registry CONNECTION LIMIT -1'",
    )


def _read_only(made: Cluster) -> AbstractContextManager[None]:
    psql = "runuser --user=postgres -- psql --quiet"
    settings = "ALTER SYSTEM {} default_transaction_read_only{}"
    return _commands(
        made.services,
        f"{psql} --command '{settings.format('SET', ' = on')}' --command 'SELECT pg_reload_conf()'",
        f"{psql} --command '{settings.format('RESET', '')}' --command 'SELECT pg_reload_conf()'",
    )


def _flushed(made: Cluster) -> AbstractContextManager[None]:
    password = made.inventory.hosts["services1"].get("cluster_redis_password")
    flush = f"REDISCLI_AUTH={password} redis-cli -h {made.services.address} FLUSHALL"
    return _commands(made.services, f"for n in 1 2 3 4 5; do {flush}; sleep 1; done", "true")


def _lost(host: Host, match: str, verdict: str = "drop") -> AbstractContextManager[None]:
    """Packets from a host are lost, those that ``match``."""
    chain = "nft 'add chain inet fault out { type filter hook output priority 0; }'"
    rule = f"nft add rule inet fault out {match} {verdict}"
    return _commands(host, f"nft add table inet fault; {chain}; {rule}", "nft delete table inet fault")


def _without_redis(made: Cluster) -> AbstractContextManager[None]:
    return _lost(made.hosts[_REGISTRY], "tcp dport 6379")


def _without_services(made: Cluster) -> AbstractContextManager[None]:
    return _lost(made.hosts[_REGISTRY], f"ip daddr {made.services.address}")


def _full(folder: str, where: str) -> Fault:
    """A disk is full to its last byte. Whatever is removed there meanwhile is taken, too."""
    fill = f"for n in $(seq 40); do head --bytes=16M /dev/zero >> {folder}/fill 2>/dev/null || break; done"
    return lambda made: _commands(made.hosts[where], fill, f"rm {folder}/fill")


def _clock(hours: int) -> Fault:
    """One worker's clock is wrong by so many hours."""
    folder = "/run/systemd/system/registry@1.service.d"
    environment = f"[Service]\\nEnvironment=LD_PRELOAD=$library FAKETIME={hours:+d}h FAKETIME_DONT_FAKE_MONOTONIC=1"
    restart = "systemctl daemon-reload && systemctl restart registry@1"
    begin = (
        "library=$(find /usr/lib -name libfaketimeMT.so.1); "
        f'mkdir -p {folder} && printf "{environment}\\n" > {folder}/clock.conf && {restart}'
    )
    return lambda made: _commands(made.hosts[_REGISTRY], begin, f"rm {folder}/clock.conf && {restart}")


def _store_frozen(made: Cluster) -> AbstractContextManager[None]:
    assert made.store is not None
    return _paused(made.store)


@contextmanager
def _paused(store: ObjectStore) -> Iterator[None]:
    store.pause()
    try:
        yield
    finally:
        store.resume()


@contextmanager
def _store_stopped(made: Cluster) -> Iterator[None]:
    """Connections to the store are refused on every registry host, as if nobody listened."""
    assert made.store is not None
    port = urlsplit(made.store.endpoint_url).port
    with ExitStack() as stack:
        for name in REGISTRIES:
            stack.enter_context(_lost(made.hosts[name], f"tcp dport {port}", "reject with tcp reset"))
        yield


Sites = frozenset[Literal["single", "cluster"]]
_BOTH: Sites = frozenset({"single", "cluster"})
_SINGLE: Sites = frozenset({"single"})
_CLUSTER: Sites = frozenset({"cluster"})


@dataclass(frozen=True)
class Trouble:
    """A fault, how many seconds it lasts, the sites that can have it, and the alert that it raises while it lasts.

    ``cut``: it cuts the connections of clients, or serves none while it lasts. Else nothing fails that is warm.
    ``held``: for so many seconds a request may wait before anybody can help it.
    """

    fault: Fault
    seconds: float
    sites: Sites = _BOTH
    alert: str | None = None
    cut: bool = False
    held: float = 0.0
    # The alert of a cluster, if it is another one: its other hosts go on.
    alert_of_cluster: str | None = None

    def alert_at(self, made: Cluster) -> str | None:
        return self.alert_of_cluster if made.store is not None and self.alert_of_cluster else self.alert


TROUBLES: Mapping[str, Trouble] = {
    "PostgreSQL frozen": Trouble(_frozen(POSTGRESQL, _SHARED), 45, alert="RegistryNotReady"),
    "PostgreSQL stopped": Trouble(_stopped(POSTGRESQL, _SHARED), 60, alert="RegistryServiceDown"),
    "PostgreSQL restarted": Trouble(_stopped(POSTGRESQL, _SHARED), 0),
    "PostgreSQL killed": Trouble(_killed(POSTGRESQL, _SHARED), 15),
    "PostgreSQL without connections": Trouble(_without_connections, 45),
    "PostgreSQL only reads": Trouble(_read_only, 45, alert="RegistryNotReady"),
    "PostgreSQL's disk full": Trouble(_full("/var/lib/postgresql", _SHARED), 45, _SINGLE, alert="RegistryDiskLow"),
    "Redis frozen": Trouble(_frozen(REDIS, _SHARED), 45, alert="RegistryRedisAway"),
    "Redis flushed": Trouble(_flushed, 0, _CLUSTER),
    "Redis stopped": Trouble(_stopped(REDIS, _SHARED), 45, alert="RegistryServiceDown"),
    "Redis killed": Trouble(_killed(REDIS, _SHARED), 10),
    "Redis cut off from one host": Trouble(_without_redis, 20, _CLUSTER),
    "one host cut off from the others": Trouble(_without_services, 45, _CLUSTER, "RegistryNotReady", cut=True),
    "a worker frozen": Trouble(_once(_signal("registry@1", "STOP"), _REGISTRY), 20, held=SILENT_SECONDS),
    "a worker killed": Trouble(_killed("registry@1", _REGISTRY), 10),
    "a worker stopped": Trouble(_stopped("registry@1", _REGISTRY), 45, alert="RegistryWorkerDown"),
    "a worker's clock an hour late": Trouble(_clock(-1), 45, cut=True),
    "a worker's clock an hour early": Trouble(_clock(1), 45, cut=True),
    "nginx killed": Trouble(_killed("nginx", _REGISTRY), 10, cut=True),
    "nginx stopped": Trouble(_stopped("nginx", _REGISTRY), 45, alert="RegistryServiceDown", cut=True),
    "nginx frozen": Trouble(
        _frozen("nginx", _REGISTRY), 45, alert="RegistryUnreachable", cut=True, alert_of_cluster="RegistryNotReady"
    ),
    "the disk full": Trouble(_full("/var/lib/registry", _REGISTRY), 45, _SINGLE, alert="RegistryDiskLow"),
    "S3 frozen": Trouble(_store_frozen, 20, _CLUSTER, cut=True),
    "S3 stopped": Trouble(_store_stopped, 45, _CLUSTER, alert="RegistryNotReady", cut=True),
    "the balancer killed": Trouble(_killed("haproxy", _SHARED), 10, _CLUSTER, cut=True),
    "the balancer stopped": Trouble(_stopped("haproxy", _SHARED), 45, _CLUSTER, "RegistryServiceDown", cut=True),
    "the balancer frozen": Trouble(_frozen("haproxy", _SHARED), 45, _CLUSTER, "RegistryUnreachable", cut=True),
    "Prometheus killed": Trouble(_killed("prometheus", _SHARED), 10),
    "the node exporter killed": Trouble(_killed("prometheus-node-exporter", _SHARED), 10),
}


def ready(made: Cluster) -> bool:
    """Say whether all workers of all hosts are ready, as the balancer sees them; each finds out for itself."""
    # A host alone has no balancer, and answers itself only.
    addresses = " ".join(made.hosts[name].address for name in made.hubs) if made.store else "localhost"
    asked = f"for n in $(seq 16); do for a in {addresses}; do curl --silent --output /dev/null --max-time 6"
    said = made.services.ssh(f"{asked} --write-out '%{{http_code}} ' http://$a:9180/readyz; done; done; true")
    return set(said.split()) == {"200"}


async def wait_until_ready(made: Cluster, seconds: float) -> float:
    """Wait until all is ready again; give how long that took. Raises TimeoutError."""
    began = time.monotonic()
    while not await asyncio.to_thread(ready, made):
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not ready after {seconds:g} s")
        await asyncio.sleep(0.5)
    return time.monotonic() - began
