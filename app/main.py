"""The composition root: the only place that builds pools, stores and services, and that knows all of them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from app.access.accounts import Accounts
from app.access.keys import Keys
from app.access.permissions import Permissions
from app.access.service import TokenService
from app.access.throttle import Throttle
from app.access.tokens import Tokens
from app.cache import Cache
from app.cache.embedded import EmbeddedRedis
from app.config import Config
from app.database import Database, projects
from app.database.migrate import migrate, require_current
from app.database.snapshots import Snapshots
from app.mirror.eviction import Eviction
from app.mirror.mirror import Mirror
from app.oci.errors import Unavailable
from app.oci.reference import Name
from app.processes import Supervisor, bind
from app.projects.service import Projects
from app.registry.blobs import Blobs
from app.registry.catalogue import Catalogue
from app.registry.content import HostedContent
from app.registry.manifests import Manifests
from app.registry.pulls import Pulls
from app.registry.review import Collection
from app.registry.uploads import Uploads
from app.storage import BlobStore
from app.storage.filesystem import FilesystemStore
from app.storage.s3 import S3Store
from app.web.address import Addresses
from app.web.application import make_application
from app.web.gate import Gate
from app.web.observe import Observer
from app.web.server import Edge, make_server, stop_server
from app.web.v2.blobs import BlobHandlers
from app.web.v2.contents import Contents
from app.web.v2.edge import V2
from app.web.v2.listings import ListingHandlers
from app.web.v2.manifests import ManifestHandlers
from app.web.v2.routes import routes
from app.web.v2.uploads import UploadHandlers

log = logging.getLogger(__name__)

# What fills may take to end after the last client is gone; their spools stay and are gone on with.
_FILL_SECONDS = 5.0


_EMBEDDED = "embedded:"


def serve(config: Config) -> None:
    """Run the service until it is told to stop.

    Raises OCIError, SchemaError, EmbeddedError, ValueError or OSError, in one line, where a part is not to be had.
    """
    config.data_dir.mkdir(parents=True, exist_ok=True)
    sockets = bind(config.server.listen, config.server.processes or os.cpu_count() or 1)
    redis = EmbeddedRedis(config.data_dir / "run") if config.redis.url == _EMBEDDED else None
    try:
        if redis is not None:
            asyncio.run(redis.start())
        redis_url = redis.url if redis is not None else config.redis.url
        asyncio.run(_prepare(config, redis_url))
        Supervisor(
            sockets,
            lambda mine: asyncio.run(_work(config, redis_url, mine)),
            config.server.drain_seconds,
            lambda pid: _restart(redis, pid),
        ).run()
    finally:
        if redis is not None:
            asyncio.run(redis.stop())


def _restart(redis: EmbeddedRedis | None, pid: int) -> None:
    if redis is not None and pid == redis.pid:
        log.error("the private Redis ended, starting another; what it kept is warmth and will come again")
        asyncio.run(redis.restart())


async def _prepare(config: Config, redis_url: str) -> None:
    """Do once what no worker need do again: schema, projects, the admin; and find out what cannot be reached."""
    try:
        await migrate(config.database_url)
    except Unavailable as error:
        reason = error.__cause__ or error
        raise Unavailable(f"database.url: {Database(config.database_url)} cannot be used: {reason}") from error
    async with AsyncExitStack() as stack:
        database = Database(config.database_url)
        stack.push_async_callback(database.close)
        store = await _open_store(config, stack)
        await store.check()
        cache = Cache(redis_url)
        stack.push_async_callback(cache.close)
        async with database.transaction() as transaction:
            for name, project in config.projects.items():
                settings = {"official_images": project.official_images, "cache_bytes": project.cache_bytes}
                await projects.create(
                    transaction, name, public=project.public, upstream=project.upstream, settings=settings
                )
        password = await Accounts(database, Throttle(cache)).ensure_admin(config.admin.username, config.admin.password)
    _greet(config, password)


def _greet(config: Config, password: str | None) -> None:
    host = config.server.external_url.partition("://")[2]
    print(f"{config.server.external_url} is starting", file=sys.stderr)
    if password is not None:
        print(f"  log in as {config.admin.username} with the password {password}  (shown this once)", file=sys.stderr)
    for name, project in config.projects.items():
        if project.upstream is not None:
            print(f"  try: docker pull {host}/{name}/library/redis", file=sys.stderr)


async def _open_store(config: Config, stack: AsyncExitStack) -> BlobStore:
    store = _make_store(config)
    await store.start()
    stack.push_async_callback(store.close)
    return store


def _make_store(config: Config) -> FilesystemStore | S3Store:
    if config.storage.driver == "filesystem":
        return FilesystemStore(config.data_dir / "blobs")
    s3 = config.storage.s3
    return S3Store(
        endpoint_url=s3.endpoint_url,
        public_endpoint_url=s3.public_endpoint_url,
        region=s3.region,
        bucket=s3.bucket,
        prefix=s3.prefix,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
        spool=config.data_dir / "parts",
    )


async def _work(config: Config, redis_url: str, sockets: Sequence[socket.socket]) -> None:
    """Be one worker: build everything, serve until SIGTERM, drain, take everything down in reverse."""
    # What is imported and built by now stays: the collector need not look through it again and again.
    gc.freeze()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        cache = Cache(redis_url)
        stack.push_async_callback(cache.close)
        database = Database(config.database_url, Snapshots(cache))
        stack.push_async_callback(database.close)
        store = await _open_store(config, stack)
        pulls = Pulls(database)
        stack.push_async_callback(pulls.flush)

        keys = Keys(database)
        tokens = Tokens(keys, config.server.external_url)
        token_service = TokenService(Permissions(database), tokens)
        accounts = Accounts(database, Throttle(cache))

        blobs, manifests, uploads = Blobs(database), Manifests(database), Uploads(database, store)
        hosted, opened = HostedContent(database, manifests, blobs, pulls), Projects(database)
        mirrors = {
            name: Mirror(
                name,
                upstream,
                config.data_dir / "spool",
                database=database,
                store=store,
                cache=cache,
                opened=opened,
                hosted=hosted,
                stored=manifests,
                blobs=blobs,
                pulls=pulls,
            )
            for name, upstream in config.upstreams.items()
        }
        for mirror in mirrors.values():
            await mirror.start()
            stack.push_async_callback(mirror.close, _FILL_SECONDS)
        contents = Contents(hosted, {name: mirror.content for name, mirror in mirrors.items()})
        observer = Observer(sys.stderr)
        addresses = Addresses(config)
        v2 = V2(
            routes(
                ManifestHandlers(opened, contents, manifests),
                BlobHandlers(opened, contents, blobs, store, config.storage.delivery),
                UploadHandlers(opened, uploads, blobs),
                ListingHandlers(opened, contents, Catalogue(database)),
            ),
            Gate(tokens, token_service, accounts),
            observer,
            config.fill_networks,
        )
        application = make_application(
            observer=observer,
            accounts=accounts,
            tokens=token_service,
            addresses=addresses,
            external_url=config.server.external_url,
            required={"database": database.check, "storage": store.check},
            optional={"redis": cache.check},
        )
        server = make_server(Edge(v2, application, addresses, config.server.trusted_proxies))
        server.add_sockets(sockets)
        for job in (pulls.run(), Collection(database, store).run(), Eviction(database).run()):
            task = asyncio.create_task(job)
            stack.callback(task.cancel)
        await stopping.wait()
        await stop_server(server, v2, config.server.drain_seconds)


async def create_project(config: Config, name: str, *, public: bool) -> str:
    """Make a project that hosts images; answers what was done, in words. Raises ValueError for a name or one taken."""
    if Name.parse(name).repository:
        raise ValueError(f"a project's name has no slash: {name!r}")
    async with _opened(config) as database, database.transaction() as transaction:
        if not await projects.create(transaction, name, public=public, upstream=None, settings={}):
            raise ValueError(f"there is a project {name} already")
    host = config.server.external_url.partition("://")[2]
    return f"made {name}, {'public' if public else 'private'}; push to {host}/{name}/IMAGE"


async def change_project(config: Config, name: str, *, public: bool | None, settings: Mapping[str, object]) -> str:
    """Change a project; raises ValueError where there is none, or none of a kind that has such settings."""
    async with _opened(config) as database, database.transaction() as transaction:
        project = await projects.find(transaction, name)
        if project is None:
            raise ValueError(f"there is no project {name!r}")
        if settings and project.upstream is None:
            raise ValueError(f"{name} hosts images; {' and '.join(settings)} goes with a mirror")
        is_public = project.public if public is None else public
        await projects.change(transaction, name, public=is_public, settings={**project.settings, **settings})
    return f"changed {name}; tokens given out before stay good for five minutes at most"


async def set_password(config: Config, username: str, password: str) -> str:
    """Change the password of a local account; raises ValueError where there is none of that name."""
    cache = Cache(config.redis.url if config.redis.url != _EMBEDDED else "redis://")
    async with _opened(config) as database:
        if not await Accounts(database, Throttle(cache)).set_password(username, password):
            raise ValueError(f"there is no local account {username!r}")
    return f"changed the password of {username}"


async def rotate_keys(config: Config) -> str:
    """Make a new signing key."""
    async with _opened(config) as database:
        await Keys(database).rotate()
    return "made a new signing key; every worker signs with it within a minute"


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Database]:
    await require_current(config.database_url)
    database = Database(config.database_url)
    try:
        yield database
    finally:
        await database.close()
