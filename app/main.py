"""The composition root: build the pools, stores and services of `serve`.

The operators' commands (`app.commands`) and `migrate` open database pools of their own.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tornado.ioloop import PeriodicCallback
from tornado.web import Application

from app.access.absence import Absence
from app.access.access_keys import AccessKeys
from app.access.accounts import Accounts
from app.access.computations import Computations
from app.access.credentials import Credentials
from app.access.last_used import LastUsed
from app.access.letters import Letters
from app.access.mail import Mail
from app.access.notices import Notices
from app.access.people import People
from app.access.permissions import Permissions
from app.access.refusals import Refusals
from app.access.robots import Robots
from app.access.saml import IdentityProvider, KeyPair, University, own_keys
from app.access.secrets import Secrets, read_key
from app.access.service import TokenService
from app.access.sessions import Sessions
from app.access.signing_keys import SigningKeys
from app.access.throttle import Throttle
from app.access.tokens import Tokens
from app.cache import Cache, Versions
from app.cache.embedded import EmbeddedRedis
from app.config import EMBEDDED, Config, listen_address
from app.database import Database, projects
from app.database.backfills import Backfills
from app.database.deadline import Prepare
from app.database.engine import is_sqlite
from app.database.migrate import SchemaError, migrate
from app.database.shared_copies import SharedCopies
from app.kit.watchdog import BEAT_SECONDS
from app.mirror.address_guard import AddressGuard
from app.mirror.eviction import Eviction
from app.mirror.mirror import Mirror
from app.mirror.status import MirrorStatus
from app.oci.errors import OCIError, Unavailable
from app.plans.budgets import Forecasts
from app.plans.executor import Executor
from app.plans.machines import Machines
from app.plans.pins import Pins
from app.plans.service import Plans
from app.plans.waiting import WaitingContent, WaitingRoom
from app.processes import Supervisor, allow_descriptors, bind
from app.projects.audit import Audit
from app.projects.census import Census
from app.projects.condition import Condition
from app.projects.fullness import FullnessWatch
from app.projects.immutability import Immutability
from app.projects.labels import Labels
from app.projects.members import Members
from app.projects.quotas import Quotas
from app.projects.requests import Requests
from app.projects.retention import Retentions
from app.projects.service import Projects
from app.registry.artifacts import Artifacts
from app.registry.bin import Bin
from app.registry.blobs import Blobs
from app.registry.catalogue import Catalogue
from app.registry.charts import Charts
from app.registry.content import HostedContent
from app.registry.garbage_collection import GarbageCollection
from app.registry.manifests import Manifests
from app.registry.payloads import Payloads
from app.registry.pulls import Pulls
from app.registry.repositories import Repositories
from app.registry.retention_runs import RetentionRuns
from app.registry.tags import Tags
from app.registry.uploads import Uploads
from app.storage import BlobStore
from app.storage.filesystem import FilesystemStore
from app.storage.harbor import HarborBlobs, HarborBucket, HarborFolder, StoreBesideHarbor
from app.web.access_control import AccessControl
from app.web.address import Addresses
from app.web.application import make_application, prepare_application
from app.web.events import keeper
from app.web.login import routes as login_routes
from app.web.observe import Observer
from app.web.server import Edge, make_server, stop_server
from app.web.services import Services
from app.web.session import BrowserSessions
from app.web.v2.authorizer import Authorizer
from app.web.v2.blobs import BlobHandlers
from app.web.v2.contents import Contents
from app.web.v2.edge import V2
from app.web.v2.listings import ListingHandlers
from app.web.v2.manifests import ManifestHandlers
from app.web.v2.routes import routes
from app.web.v2.uploads import UploadHandlers
from app.webhooks.deliveries import Deliveries
from app.webhooks.service import Webhooks

if TYPE_CHECKING:
    from app.storage.s3 import S3Store

log = logging.getLogger(__name__)

# Shutdown grace for running fills, after the last client is gone. Spool files are kept and resumed on restart.
_FILL_SECONDS = 5.0
# Shutdown grace for the current run of each job.
_FINISH_SECONDS = 5
# A client follows a redirect at once. nginx fetches a blob in slices for as long as its client takes, by one URL that
# never leaves the host.
_REDIRECT_SECONDS = 5 * 60
# Of one worker to the bucket of a Harbor; a streamed blob holds one for as long as its client takes.
_HARBOR_CONNECTIONS = 64
# A thread that computes leaves the interpreter to the event loop after this time, which is a tenth of Python's own. The
# loop waits for it in each of its turns, and a request takes several.
_SWITCH_SECONDS = 0.0005
_TRANSFER_SECONDS = 24 * 3600


def serve(config: Config) -> None:
    """Run the service until a signal stops it.

    A PostgreSQL or an S3 that does not answer is no reason to end, because it may come back. Raises OCIError,
    SchemaError, EmbeddedError, ValueError or OSError, in one line, if any other part cannot be used.
    """
    config.data_dir.mkdir(parents=True, exist_ok=True)
    allow_descriptors()
    sockets = bind(config.server.listen, config.server.processes or os.cpu_count() or 1)
    redis = EmbeddedRedis(config.data_dir / "run") if config.redis.url == EMBEDDED else None
    try:
        if redis is not None:
            asyncio.run(redis.start())
        redis_url = redis.url if redis is not None else config.redis.url
        is_prepared = asyncio.run(_prepare(config, redis_url))
        prepare_application()
        Supervisor(
            sockets,
            lambda mine, beat: asyncio.run(_work(config, redis_url, mine, beat, is_prepared=is_prepared)),
            config.server.drain_seconds,
            lambda pid: _restart(redis, pid),
        ).run()
    finally:
        if redis is not None:
            asyncio.run(redis.stop())


def _restart(redis: EmbeddedRedis | None, pid: int) -> None:
    if redis is not None and pid == redis.pid:
        log.error("the private Redis ended; starting another with an empty cache")
        asyncio.run(redis.restart())


async def _prepare(config: Config, redis_url: str) -> bool:
    """Find out which parts cannot be used, and prepare the database; return False if that has to wait for it."""
    async with AsyncExitStack() as stack:
        store = await open_store(config, stack)
        try:
            await store.check()
        except Unavailable as error:
            if config.storage.driver == "filesystem":
                raise
            log.warning("%s; blobs wait for it", error.message)
    if config.saml.enabled:
        _own_keys(config)
    password, is_prepared = None, True
    try:
        password = await _prepare_database(config, redis_url)
    except Unavailable as error:
        reason, database = error.__cause__ or error, Database(config.database_url)
        if database.is_sqlite:
            raise Unavailable(
                "database.url: %(database)s cannot be used: %(reason)s", database=database, reason=reason
            ) from error
        log.warning("database.url: %s cannot be used: %s; most requests wait for it", database, reason)
        is_prepared = False
    _greet(config)
    _show(config, password)
    return is_prepared


async def _prepare_database(config: Config, redis_url: str) -> str | None:
    """Make the schema, the projects and the admin; return the admin's password if it was generated.

    Any number of workers may do this at once. Raises Unavailable, SchemaError and ValueError.
    """
    secrets = _secrets(config)
    async with AsyncExitStack() as stack:
        cache = Cache(redis_url)
        stack.push_async_callback(cache.close)
        await migrate(config.database_url)
        database = Database(config.database_url)
        stack.push_async_callback(database.close)
        await secrets.require_same(database)
        async with database.transaction() as transaction:
            for name, project in config.projects.items():
                settings = {
                    "official_images": project.official_images,
                    "cache_bytes": project.cache_bytes,
                    "allowed_names": list(project.allowed_names),
                    "denied_names": list(project.denied_names),
                }
                await projects.create(
                    transaction, name, public=project.public, upstream=project.upstream, settings=settings
                )
                await projects.mark_as_configured(transaction, name, public=project.public, upstream=project.upstream)
        if not config.admin.enabled:
            return None
        accounts = Accounts(database, Throttle(cache))
        return await accounts.ensure_admin(config.admin.username, config.admin.password)


def _preparing(config: Config, redis_url: str, copies: SharedCopies) -> Prepare:
    """Return what a worker does as soon as the database answers, if it did not when the service started."""

    async def prepare() -> str | None:
        copies.disinherit()
        try:
            _show(config, await _prepare_database(config, redis_url))
        except OCIError as error:
            return error.message
        except (SchemaError, ValueError) as error:
            return str(error)
        return None

    return prepare


def _greet(config: Config) -> None:
    host = config.server.external_url.partition("://")[2]
    print(f"{config.server.external_url} is starting", file=sys.stderr)
    for name, project in config.projects.items():
        if project.upstream is not None:
            print(f"  try: docker pull {host}/{name}/library/redis", file=sys.stderr)


def _show(config: Config, password: str | None) -> None:
    if password is not None:
        print(f"  log in as {config.admin.username} with the password {password}  (shown this once)", file=sys.stderr)


async def open_store(config: Config, stack: AsyncExitStack) -> BlobStore:
    """Start the store of blobs, with those that stay in a Harbor's place; ``stack`` closes it."""
    store = _make_store(config)
    await store.start()
    stack.push_async_callback(store.close)
    harbor = await open_harbor(config, stack)
    return store if harbor is None else StoreBesideHarbor(store, harbor)


async def open_harbor(config: Config, stack: AsyncExitStack) -> HarborBlobs | None:
    """Open the place of a Harbor's blobs, which ``stack`` closes; None if none is configured."""
    if config.harbor.driver == "none":
        return None
    harbor = _make_harbor(config)
    await harbor.start()
    stack.push_async_callback(harbor.close)
    return harbor


def _hands_over_harbors(config: Config) -> bool:
    """Return whether nginx or clients reach Harbor's blobs: in a folder by nginx, or on the S3 server that has ours."""
    if config.harbor.driver == "filesystem":
        return config.storage.delivery == "accel"
    both = config.storage.driver == config.harbor.driver == "s3"
    return both and config.storage.s3.endpoint_url == config.harbor.s3.endpoint_url


def _make_harbor(config: Config) -> HarborBlobs:
    if config.harbor.driver == "filesystem":
        assert config.harbor.folder is not None  # noqa: S101  # checked with the configuration
        return HarborFolder(config.harbor.folder)
    from app.storage.s3_wire import S3Wire

    s3, for_nginx = config.harbor.s3, config.storage.delivery == "accel"
    wire = S3Wire(
        endpoint_url=s3.endpoint_url,
        public_endpoint_url=None if for_nginx else s3.public_endpoint_url,
        region=s3.region,
        bucket=s3.bucket,
        prefix="",
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
        url_seconds=_TRANSFER_SECONDS if for_nginx else _REDIRECT_SECONDS,
        connections=_HARBOR_CONNECTIONS,
    )
    return HarborBucket(wire, s3.prefix)


def _make_store(config: Config) -> FilesystemStore | S3Store:
    if config.storage.driver == "filesystem":
        return FilesystemStore(config.data_dir / "blobs")
    # Importing the S3 client takes a fifth of the start-up time, so only installations with S3 do it.
    from app.storage.s3 import S3Store

    s3 = config.storage.s3
    for_nginx = config.storage.delivery == "accel"
    return S3Store(
        endpoint_url=s3.endpoint_url,
        public_endpoint_url=None if for_nginx else s3.public_endpoint_url,
        url_seconds=_TRANSFER_SECONDS if for_nginx else _REDIRECT_SECONDS,
        region=s3.region,
        bucket=s3.bucket,
        prefix=s3.prefix,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
        spool=config.data_dir / "parts",
    )


async def _work(
    config: Config,
    redis_url: str,
    sockets: Sequence[socket.socket],
    beat: Callable[[], None],
    *,
    is_prepared: bool,
) -> None:
    """Run one worker: build everything, serve until SIGTERM, drain, and close everything in reverse.

    It calls ``beat`` every `BEAT_SECONDS`. If the database is not prepared, the worker does that before it uses it.
    """
    PeriodicCallback(beat, BEAT_SECONDS * 1000).start()
    # Objects imported and built by now live as long as the worker, so the garbage collector need not scan them.
    gc.freeze()
    sys.setswitchinterval(_SWITCH_SECONDS)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        stores = await _open_stores(config, redis_url, stack, is_prepared=is_prepared)
        who = await _build_access(config, stores, stack)
        content = await _build_content(config, stores, who, stack)
        # The audit notes are written before the rest is closed, because that may take longer than a stop allows.
        stack.push_async_callback(who.audit.close)
        requests = Requests(stores.database)
        stack.push_async_callback(requests.close)
        observer, addresses = Observer(sys.stderr, keeper(requests)), Addresses(config)
        v2 = V2(
            routes(
                ManifestHandlers(content.projects, content.contents, content.manifests, content.quotas),
                BlobHandlers(
                    content.projects,
                    content.contents,
                    content.blobs,
                    stores.blobs,
                    config.storage.delivery,
                    hands_over_harbors=_hands_over_harbors(config),
                ),
                UploadHandlers(content.projects, Uploads(stores.database, stores.blobs), content.blobs),
                ListingHandlers(content.projects, content.contents, Catalogue(stores.database)),
            ),
            Authorizer(who.tokens, who.token_service, who.credentials),
            observer,
            who.audit,
            config.fill_networks,
        )
        application = _make_application(config, stores, who, content, requests, observer, addresses)
        tells_proxy = config.server.events == "header"
        server = make_server(Edge(v2, application, addresses, config.server.trusted_proxies, tells_proxy=tells_proxy))
        server.add_sockets(sockets)
        jobs = [asyncio.create_task(job) for job in (*stores.jobs, *who.jobs, *content.jobs, requests.run())]
        stack.push_async_callback(_end, jobs)
        await stopping.wait()
        await stop_server(server, observer, config.server.drain_seconds)


async def _end(jobs: Sequence[asyncio.Task[object]]) -> None:
    """Let jobs finish their current run while the services they use still exist; cancel a run that takes too long."""
    for job in jobs:
        job.cancel()
    _, late = await asyncio.wait(jobs, timeout=_FINISH_SECONDS)
    for job in late:
        job.cancel()


@dataclass(frozen=True)
class _Stores:
    """The cache, the database and the blob store; closed when the worker stops. ``jobs`` run as long as they."""

    cache: Cache
    database: Database
    blobs: BlobStore
    jobs: Sequence[Coroutine[object, object, None]]


async def _open_stores(config: Config, redis_url: str, stack: AsyncExitStack, *, is_prepared: bool) -> _Stores:
    cache = Cache(redis_url)
    stack.push_async_callback(cache.close)
    jobs: list[Coroutine[object, object, None]] = []
    if is_sqlite(config.database_url):
        database = Database(config.database_url)
    else:
        versions = Versions(redis_url)
        stack.push_async_callback(versions.close)
        copies = SharedCopies(versions)
        jobs.append(copies.run())
        prepare = None if is_prepared else _preparing(config, redis_url, copies)
        database = Database(config.database_url, copies, prepare)
        copies.attach(database)
    stack.push_async_callback(database.close)
    return _Stores(cache, database, await open_store(config, stack), jobs)


@dataclass(frozen=True)
class _Access:
    """The services for logins and permissions. ``jobs`` run for as long as the worker lives."""

    absence: Absence
    access_keys: AccessKeys
    accounts: Accounts
    audit: Audit
    computations: Computations
    browsers: BrowserSessions
    credentials: Credentials
    people: People
    permissions: Permissions
    refusals: Refusals
    robots: Robots
    secrets: Secrets
    sessions: Sessions
    token_service: TokenService
    tokens: Tokens
    university: University | None
    jobs: Sequence[Coroutine[object, object, None]]


async def _build_access(config: Config, stores: _Stores, stack: AsyncExitStack) -> _Access:
    database, throttle = stores.database, Throttle(stores.cache)
    secrets, used = _secrets(config), LastUsed(database)
    stack.push_async_callback(used.flush)
    audit = Audit(database, config.policy, secrets.pseudonym)
    refusals = Refusals(database, audit.refused)
    accounts = Accounts(database, throttle, enabled=config.admin.enabled)
    robots = Robots(database, secrets, config.access)
    sessions = Sessions(stores.cache, config.access.session_idle, config.access.session_life)
    absence = Absence(config.access.absent_days)
    people = People(database, sessions, config.access.robot_prefix, absence)
    signing_keys = SigningKeys(database, secrets, None if database.is_sqlite else stores.cache)
    permissions, tokens = Permissions(database), Tokens(signing_keys, config.server.external_url)
    computations = Computations()
    letters = Letters(config.server.external_url) if config.mail.host is not None else None
    jobs = [used.run(), audit.run(), absence.run(database), Notices(database, absence, letters).run()]
    if config.mail.host is not None:
        jobs.append(Mail(database, config.mail, urlsplit(config.server.external_url).hostname or "registry").run())
    university = None
    if config.saml.enabled:
        provider = IdentityProvider(config.saml.idp_metadata_url or "", config.saml.idp_entity_id, config.data_dir)
        await provider.start()
        jobs.append(provider.run())
        university = University(
            config.saml,
            config.server.external_url,
            _own_keys(config),
            idp=provider,
            cache=stores.cache,
            people=people,
            sessions=sessions,
            computations=computations,
        )
    return _Access(
        absence=absence,
        access_keys=AccessKeys(database, secrets, config.access),
        accounts=accounts,
        audit=audit,
        computations=computations,
        browsers=BrowserSessions(sessions, people, config.server.external_url),
        credentials=Credentials(database, secrets, accounts, throttle, used, refusals, absence),
        people=people,
        permissions=permissions,
        refusals=refusals,
        robots=robots,
        secrets=secrets,
        sessions=sessions,
        token_service=TokenService(permissions, tokens),
        tokens=tokens,
        university=university,
        jobs=jobs,
    )


def condition_of(config: Config, database: Database) -> Condition:
    """Return what looks at the registry from this host."""
    return Condition(database, listen_address(config.server.listen), config.server.external_url, config.data_dir)


def _secrets(config: Config) -> Secrets:
    return Secrets(read_key(config.access.secret_key, config.data_dir))


def _own_keys(config: Config) -> Sequence[KeyPair]:
    return own_keys(config.saml, config.data_dir, urlsplit(config.server.external_url).hostname or "")


@dataclass(frozen=True)
class _Content:
    """The services for hosted and mirrored content. ``jobs`` run for as long as the worker lives."""

    bin: Bin
    blobs: Blobs
    contents: Contents
    manifests: Manifests
    mirrors: Mapping[str, Mirror]
    plans: Plans
    pins: Pins
    waiting_room: WaitingRoom
    projects: Projects
    census: Census
    quotas: Quotas
    webhooks: Webhooks
    jobs: Sequence[Coroutine[object, object, None]]


async def _build_content(config: Config, stores: _Stores, who: _Access, stack: AsyncExitStack) -> _Content:
    database = stores.database
    pulls = Pulls(database)
    stack.push_async_callback(pulls.flush)
    blobs = Blobs(database)
    has_bin = config.policy.bin_days > 0
    payloads = Payloads(None if database.is_sqlite else stores.cache)
    manifests = Manifests(database, payloads, who.computations, has_bin=has_bin)
    hosted = HostedContent(database, manifests, blobs, pulls)
    mirrors = {
        name: Mirror(
            name,
            upstream,
            config.data_dir / "spool",
            database=database,
            store=stores.blobs,
            cache=stores.cache,
            hosted=hosted,
            stored=manifests,
            pulls=pulls,
            decrypt=who.secrets.decrypt,
            refused=config.refused_networks,
        )
        for name, upstream in config.upstreams.items()
    }
    for mirror in mirrors.values():
        await mirror.start()
        stack.push_async_callback(mirror.close, _FILL_SECONDS)
    census, forecasts = Census(database), Forecasts(database)
    preparations = {name: mirror.preparation for name, mirror in mirrors.items()}
    guard = AddressGuard("", refused=config.refused_networks)
    host = config.server.external_url.partition("://")[2].rstrip("/")
    room, machines = WaitingRoom(database, preparations, forecasts), Machines(database, stores.cache)
    waiting = {name: WaitingContent(mirror.content, room, machines) for name, mirror in mirrors.items()}
    deleted = Bin(database, payloads, who.permissions, config.policy)
    return _Content(
        bin=deleted,
        blobs=blobs,
        contents=Contents(hosted, waiting),
        manifests=manifests,
        mirrors=mirrors,
        plans=Plans(database, config.policy, preparations, forecasts, machines),
        pins=Pins(database, preparations),
        waiting_room=room,
        projects=Projects(database, config.policy, config.upstreams, who.secrets.encrypt),
        census=census,
        quotas=Quotas(database, config.policy),
        webhooks=Webhooks(database, guard, who.secrets.encrypt, who.secrets.decrypt),
        jobs=[
            pulls.run(),
            GarbageCollection(database, stores.blobs, config.policy.bin_days).run(),
            RetentionRuns(database, who.audit, has_bin=has_bin).run(),
            deleted.run(),
            Eviction(database).run(),
            FullnessWatch(database).run(),
            census.run(),
            Backfills(database).run(),
            Executor(database, stores.cache, preparations, forecasts).run(),
            machines.run(),
            Deliveries(database, guard, host, who.secrets.decrypt).run(),
        ],
    )


def _make_application(
    config: Config,
    stores: _Stores,
    who: _Access,
    content: _Content,
    requests: Requests,
    observer: Observer,
    addresses: Addresses,
) -> Application:
    """Make the application of the pages, the REST API and the operators' routes."""
    database = stores.database
    services = Services(
        external_url=config.server.external_url,
        saml=config.saml.enabled,
        mails=config.mail.host is not None,
        volume=config.data_dir if config.storage.driver == "filesystem" else None,
        mirrors={project.upstream: name for name, project in config.projects.items() if project.upstream is not None},
        mirror_hosts=tuple(config.hosts),
        policy=config.policy,
        access=config.access,
        observer=observer,
        access_control=AccessControl(content.projects, who.permissions),
        computations=who.computations,
        browsers=who.browsers,
        credentials=who.credentials,
        database=database,
        sessions=who.sessions,
        accounts=who.accounts,
        people=who.people,
        plans=content.plans,
        pins=content.pins,
        waiting_room=content.waiting_room,
        projects=content.projects,
        census=content.census,
        members=Members(database, who.absence),
        quotas=content.quotas,
        labels=Labels(database),
        immutability=Immutability(database),
        retentions=Retentions(database),
        webhooks=content.webhooks,
        bin=content.bin,
        repositories=Repositories(database, has_bin=config.policy.bin_days > 0),
        artifacts=Artifacts(database, stores.blobs, who.computations, has_bin=config.policy.bin_days > 0),
        charts=Charts(database, stores.blobs, who.computations),
        tags=Tags(database),
        robots=who.robots,
        access_keys=who.access_keys,
        audit=who.audit,
        requests=requests,
        condition=condition_of(config, database),
        mirror=MirrorStatus(database, stores.cache, {name: mirror.access for name, mirror in content.mirrors.items()}),
        upstreams=config.upstreams,
        required={"database": database.check, "storage": stores.blobs.check},
        optional={"redis": stores.cache.check},
    )
    return make_application(
        services,
        login=login_routes(
            university=who.university,
            passwords=who.accounts if config.admin.enabled else None,
            browsers=who.browsers,
            database=database,
            people=who.people,
            refusals=who.refusals,
            audit=who.audit,
            observer=observer,
        ),
        tokens=who.token_service,
        addresses=addresses,
        cookie_secret=who.secrets.cookie_secret,
    )
