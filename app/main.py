"""The composition root: the only place that builds pools, stores and services, and that knows all of them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

from app.access.accounts import Accounts
from app.access.keys import Keys
from app.access.permissions import Permissions
from app.access.service import TokenService
from app.access.throttle import Throttle
from app.access.tokens import Tokens
from app.config import Config
from app.database import Database, projects
from app.database.migrate import migrate
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


class NoCounter:
    async def count(self, key: str) -> int | None:
        return None

    async def increment(self, key: str, ttl: int) -> int | None:
        return None


def serve(config: Config) -> None:
    """Run the service until it is told to stop; raises OCIError or OSError where a part cannot be reached at start."""
    config.data_dir.mkdir(parents=True, exist_ok=True)
    asyncio.run(_prepare(config))
    sockets = bind(config.server.listen)
    count = config.server.processes or os.cpu_count() or 1
    Supervisor(count, lambda: asyncio.run(_work(config, sockets)), config.server.drain_seconds).run()


async def _prepare(config: Config) -> None:
    """Do once what no worker need do again: schema, projects, the admin; and find out what cannot be reached."""
    await migrate(config.database_url)
    async with AsyncExitStack() as stack:
        database = Database(config.database_url)
        stack.push_async_callback(database.close)
        store = await _open_store(config, stack)
        await store.check()
        async with database.transaction() as transaction:
            for name, project in config.projects.items():
                settings = {"official_images": project.official_images, "cache_bytes": project.cache_bytes}
                await projects.create(
                    transaction, name, public=project.public, upstream=project.upstream, settings=settings
                )
        password = await Accounts(database, Throttle(NoCounter())).ensure_admin(
            config.admin.username, config.admin.password
        )
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
    return FilesystemStore(config.data_dir / "blobs")


async def _work(config: Config, sockets: Sequence[socket.socket]) -> None:
    """Be one worker: build everything, serve until SIGTERM, drain, take everything down in reverse."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        database = Database(config.database_url)
        stack.push_async_callback(database.close)
        store = await _open_store(config, stack)
        pulls = Pulls(database)
        stack.push_async_callback(pulls.flush)
        collection = Collection(database, store)

        keys = Keys(database)
        tokens = Tokens(keys, config.server.external_url)
        token_service = TokenService(Permissions(database), tokens)
        accounts = Accounts(database, Throttle(NoCounter()))

        blobs, manifests, uploads = Blobs(database), Manifests(database), Uploads(database, store)
        contents = Contents(HostedContent(database, manifests, blobs, pulls), {})
        open_projects = Projects(database)
        observer = Observer()
        addresses = Addresses(config)
        v2 = V2(
            routes(
                ManifestHandlers(open_projects, contents, manifests),
                BlobHandlers(open_projects, contents, blobs, store, config.storage.delivery),
                UploadHandlers(open_projects, uploads, blobs),
                ListingHandlers(open_projects, contents, Catalogue(database)),
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
            optional={},
        )
        server = make_server(Edge(v2, application, addresses, config.server.trusted_proxies))
        server.add_sockets(sockets)
        for job in (pulls.run(), collection.run()):
            task = asyncio.create_task(job)
            stack.callback(task.cancel)
        await stopping.wait()
        await stop_server(server, v2, config.server.drain_seconds)
