"""The service with its REST API, in a thread of this process: one SQLite file, one loopback port.

It is composed of the real services as `app.main` composes them; `House.run` runs what a test needs of them beside the
API, in the server's own event loop.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tornado.netutil import bind_sockets
from tornado.web import Application

from app.access.access_keys import AccessKeys
from app.access.accounts import Accounts
from app.access.credentials import Credentials
from app.access.keys import Keys
from app.access.last_used import LastUsed
from app.access.people import People
from app.access.permissions import Permissions
from app.access.robots import Robots
from app.access.secrets import Secrets
from app.access.service import TokenService
from app.access.sessions import Sessions
from app.access.throttle import Throttle
from app.access.tokens import Tokens
from app.cache import Cache
from app.config import Config, parse
from app.database import Database, accounts
from app.database.migrate import migrate
from app.mirror.status import MirrorStatus
from app.projects.audit import Audit
from app.projects.labels import Labels
from app.projects.members import Members
from app.projects.quotas import Quotas
from app.projects.service import Projects
from app.registry.artifacts import Artifacts
from app.registry.blobs import Blobs
from app.registry.catalogue import Catalogue
from app.registry.content import HostedContent
from app.registry.manifests import Manifests
from app.registry.pulls import Pulls
from app.registry.repositories import Repositories
from app.registry.uploads import Uploads
from app.storage.filesystem import FilesystemStore
from app.web.address import Addresses
from app.web.api.routes import Services
from app.web.api.routes import routes as api_routes
from app.web.api.system import About
from app.web.application import make_application
from app.web.gate import Gate
from app.web.guard import Guard
from app.web.observe import Observer
from app.web.server import Edge, make_server, stop_server
from app.web.session import BrowserSessions
from app.web.v2.blobs import BlobHandlers
from app.web.v2.contents import Contents
from app.web.v2.edge import V2
from app.web.v2.listings import ListingHandlers
from app.web.v2.manifests import ManifestHandlers
from app.web.v2.routes import routes as v2_routes
from app.web.v2.uploads import UploadHandlers

T = TypeVar("T")

ADMIN, PASSWORD = "admin", "tests-admin-password"


@dataclass
class Kept:
    """What tests use beside the API."""

    database: Database
    accounts: Accounts
    audit: Audit
    people: People
    sessions: Sessions


class House:
    """A running service; ``host`` is HOST:PORT, ``log`` what it wrote about requests. Close it."""

    def __init__(self, folder: Path, redis: str) -> None:
        self.folder = folder
        self.log = io.StringIO()
        self._redis = redis
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="house")
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            raise self._failed

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the server's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        """Stop serving."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _serve(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # noqa: BLE001  # raised where it was started
            self._failed = error
        finally:
            self._ready.set()

    async def _work(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        (socket,) = bind_sockets(0, "127.0.0.1")
        self.host = f"127.0.0.1:{socket.getsockname()[1]}"
        self.url = f"http://{self.host}/api/v2.0"
        config = parse(
            {
                "server": {"external_url": f"http://{self.host}"},
                "data_dir": "data",
                "upstreams": {"docker.io": {"url": "http://127.0.0.1:9"}},
                "projects": {},
                "policy": {"projects_per_person": 1000},
            },
            self.folder,
        )
        config.data_dir.mkdir(parents=True)
        await migrate(config.database_url)
        async with AsyncExitStack() as stack:
            application, v2 = await self._compose(config, stack)
            server = make_server(Edge(v2, application, Addresses(config), ()))
            server.add_sockets([socket])
            self._ready.set()
            await self._stopping.wait()
            await stop_server(server, v2, 5)

    async def _compose(self, config: Config, stack: AsyncExitStack) -> tuple[Application, V2]:
        cache = Cache(self._redis)
        stack.push_async_callback(cache.close)
        database = Database(config.database_url)
        stack.push_async_callback(database.close)
        store = FilesystemStore(config.data_dir / "blobs")
        await store.start()
        stack.push_async_callback(store.close)
        secrets, used, throttle = Secrets("tests" * 8), LastUsed(database), Throttle(cache)
        stack.push_async_callback(used.flush)
        passwords = Accounts(database, throttle)
        await passwords.ensure_admin(ADMIN, PASSWORD)
        credentials = Credentials(database, secrets, passwords, throttle, used)
        sessions = Sessions(cache, config.access.session_idle, config.access.session_life)
        people = People(database, sessions, config.access.robot_prefix)
        audit = Audit(database, config.policy.audit_days)
        stack.push_async_callback(audit.close)
        permissions = Permissions(database)
        projects = Projects(database, config.policy, config.upstreams, secrets.encrypt)
        quotas = Quotas(database, config.policy)
        observer = Observer(self.log)
        services = Services(
            about=About(config.server.external_url, saml=False, volume=config.data_dir),
            access_keys=AccessKeys(database, secrets, config.access),
            accounts=passwords,
            artifacts=Artifacts(database, store),
            audit=audit,
            browsers=BrowserSessions(sessions, people, secure=False),
            credentials=credentials,
            guard=Guard(projects, permissions),
            labels=Labels(database),
            members=Members(database),
            mirror=MirrorStatus(database, cache, {}),
            observer=observer,
            people=people,
            projects=projects,
            quotas=quotas,
            repositories=Repositories(database),
            robots=Robots(database, secrets, config.access),
            sessions=sessions,
            upstreams=config.upstreams,
            required={"database": database.check, "storage": store.check},
            optional={"redis": cache.check},
        )
        self.kept = Kept(database, passwords, audit, people, sessions)
        tokens = Tokens(Keys(database), config.server.external_url)
        token_service = TokenService(permissions, tokens)
        application = make_application(
            observer=observer,
            credentials=credentials,
            tokens=token_service,
            addresses=Addresses(config),
            external_url=config.server.external_url,
            required={},
            optional={},
        )
        application.add_handlers(".*", api_routes(services))
        blobs, manifests = Blobs(database), Manifests(database)
        hosted = HostedContent(database, manifests, blobs, Pulls(database))
        contents = Contents(hosted, {})
        handlers = (
            ManifestHandlers(projects, contents, manifests, quotas),
            BlobHandlers(projects, contents, blobs, store, config.storage.delivery),
            UploadHandlers(projects, Uploads(database, store), blobs),
            ListingHandlers(projects, contents, Catalogue(database)),
        )
        gate = Gate(tokens, token_service, credentials)
        return application, V2(v2_routes(*handlers), gate, observer, audit, config.fill_networks)

    def add_person(self, username: str, *, groups: tuple[str, ...] = ()) -> int:
        """Make an account with the password `PASSWORD`, as if somebody had logged in before; gives its number."""

        async def add() -> int:
            async with self.kept.database.transaction() as transaction:
                await accounts.create(transaction, username, "", is_admin=False)
            await self.kept.accounts.set_password(username, PASSWORD)
            found = await self.kept.people.find_by_name(username)
            assert found is not None
            async with self.kept.database.transaction() as transaction:
                await accounts.change(transaction, found.id, groups=list(groups))
            return found.id

        return self.run(add())
