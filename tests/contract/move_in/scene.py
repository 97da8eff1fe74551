"""A Harbor that has one of everything, the registry that it moves into, and ways to look at both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from app.access.absence import Absence
from app.access.accounts import Accounts
from app.access.credentials import Credentials
from app.access.last_used import LastUsed
from app.access.principal import Principal
from app.access.refusals import Refusals
from app.access.secrets import Secrets
from app.access.throttle import Throttle
from app.cache import Cache
from app.config import Config, parse
from app.database import Database
from app.main import open_store
from app.moving import finish, move_in
from app.registry.garbage_collection import GarbageCollection
from app.storage import BlobStore
from tests.contract.rows import rows
from tests.parts.harbor import KEY, Folder, Harbor

SECRET = "Harbor-made-this-1"
CLI_SECRET = "a-cli-secret-of-mari"


class Scene:
    """``move`` runs the command; ``login`` is a client's."""

    def __init__(self, database: Database, harbor: Harbor, config: Config, store: BlobStore, folder: Path) -> None:
        self.database, self.harbor, self.config, self.store, self.folder = database, harbor, config, store, folder
        secrets = Secrets("k" * 32)
        throttle = Throttle(Cache("redis://127.0.0.1:9"))
        self.accounts = Accounts(database, throttle)
        self.credentials = Credentials(
            database,
            secrets,
            self.accounts,
            throttle,
            LastUsed(database),
            Refusals(database, lambda *_: None),
            Absence(None),
        )
        self.collection = GarbageCollection(database, store)

    @classmethod
    @asynccontextmanager
    async def open(cls, database: Database, url: str, harbor: Harbor, folder: Path) -> AsyncIterator[Scene]:
        assert isinstance(harbor.place, Folder)
        config = parse(
            {
                "data_dir": str(folder / "data"),
                "database": {"url": url},
                "access": {"secret_key": "k" * 32},
                "harbor": {
                    "database_url": harbor.url, "driver": "filesystem", "folder": str(harbor.place.root),
                    "secret_key": KEY,
                },
            },
            folder,
        )  # fmt: skip
        async with AsyncExitStack() as stack:
            (folder / "data").mkdir()
            yield cls(database, harbor, config, await open_store(config, stack), folder)

    async def move(self, *, dry: bool = False, copy: bool = False, rule: str = "{username}@ut.ee") -> str:
        return await move_in(self.config, rule=rule, names=None, dry=dry, copy=copy)

    async def finish(self) -> str:
        return await finish(self.config)

    async def login(self, username: str, secret: str) -> Principal:
        return await self.credentials.authenticate(username, secret, "192.0.2.1")

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return await rows(self.database, statement)

    async def state(self) -> dict[str, list[tuple[Any, ...]]]:
        return await state_of(self.database)


async def state_of(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Read all that a move writes, without what differs by chance: ids, and the times of writing."""
    named = "FROM repository r JOIN project p ON p.id = r.project_id"
    statements = {
        "projects": "SELECT name, public, quota_bytes, used_bytes, upstream FROM project ORDER BY name",
        "repositories": f"SELECT p.name, r.name, r.description, r.pull_count {named} ORDER BY 1, 2",
        "manifests": f"SELECT p.name, r.name, m.digest, m.created_at, m.pulled_at, m.subject {named} "
        "JOIN manifest m ON m.repository_id = r.id ORDER BY 1, 2, 3",
        "parts": f"SELECT p.name, r.name, m.manifest, m.digest, m.is_manifest, m.size {named} "
        "JOIN part m ON m.repository_id = r.id ORDER BY 1, 2, 3, 4, 5",
        "tags": f"SELECT p.name, r.name, t.name, t.digest, t.updated_at {named} "
        "JOIN tag t ON t.repository_id = r.id ORDER BY 1, 2, 3",
        "links": f"SELECT p.name, r.name, l.digest, b.object_key, b.size {named} "
        "JOIN link l ON l.repository_id = r.id JOIN blob b ON b.digest = l.digest ORDER BY 1, 2, 3",
        "members": "SELECT p.name, a.username, m.group_name, m.role FROM member m "
        "JOIN project p ON p.id = m.project_id LEFT JOIN account a ON a.id = m.account_id ORDER BY 1, 2, 3",
        "accounts": "SELECT username, source, is_admin, disabled, full_name, email FROM account ORDER BY 1",
        "hooks": "SELECT name, enabled, url, event_types, created_by FROM webhook ORDER BY 1",
        "immutable rules": "SELECT p.name, p.immutable, i.tags, i.excludes_tags, i.repositories, "
        "i.excludes_repositories, i.disabled FROM immutable_rule i JOIN project p ON p.id = i.project_id "
        "ORDER BY 1, i.id",
        "retention policies": "SELECT p.name, p.retention_id = t.id, t.cron, t.next_at IS NOT NULL, "
        "CAST(t.rules AS varchar) FROM retention t JOIN project p ON p.id = t.project_id ORDER BY 1",
        "robots": "SELECT name, description, disabled, expires_at, secret_hash FROM robot ORDER BY 1",
        "labels": "SELECT l.name, p.name, l.color FROM label l LEFT JOIN project p ON p.id = l.project_id "
        "ORDER BY 1, 2",
        "labelled": "SELECT l.name, m.digest FROM manifest_label m JOIN label l ON l.id = m.label_id ORDER BY 1, 2",
        "log": "SELECT at, actor, operation, resource, project_name FROM audit WHERE operation NOT LIKE 'move-in%' "
        "ORDER BY 1, 2, 4",
        "moved": "SELECT kind, harbor_id, state FROM moved ORDER BY 1, 2",
    }
    return {name: await rows(database, statement) for name, statement in statements.items()}


def fill(harbor: Harbor) -> dict[str, Any]:
    """Put one of everything into a Harbor; give what a test asks for by name."""
    mari = harbor.add_user("mari", cli_secret=CLI_SECRET)
    juri = harbor.add_user("Juri", "juri-password", version="sha1")
    lab = harbor.add_project("lab", owner=mari, quota=10**9, public="true", auto_scan="true")
    secret = harbor.add_project("inner", owner=juri)
    harbor.add_project("v2")
    harbor.add_member(lab, juri, 2)
    harbor.add_member(secret, mari, 5)
    harbor.add_member(lab, harbor.add_group("staff"), 3, kind="g")
    one = harbor.image(lab, "lab/app", "one", "v1", "latest")
    two = harbor.image(lab, "lab/app", "two", "v2")
    index = harbor.index(lab, "lab/app", [one, two], "both")
    harbor.image(secret, "inner/deep/inside", "one", "v1")
    signature = harbor.signature(lab, "lab/app", one)
    harbor.hook(lab, "chat", "https://chat.example.org/hook", "PUSH_ARTIFACT", "SCANNING_FAILED", header="Bearer x")
    harbor.immutable_rule(lab, "v1")
    harbor.retention_policy(lab, harbor.keeping("latestPushedK", 10))
    label = harbor.insert(
        "harbor_label", name="release", description="d", color="#61717D", level="u", scope="p", project_id=lab
    )
    artifact = harbor.execute("SELECT id FROM artifact WHERE digest = %s AND project_id = %s", two, lab)[0][0]
    harbor.insert("label_reference", label_id=label, artifact_id=artifact)
    here = f"/project/{lab}"
    robot = harbor.add_robot(
        "lab+ci", SECRET, [(here, "repository:pull"), (here, "repository:push"), (here, "scan:launch")], project=lab
    )
    harbor.add_robot("backup", SECRET, [("/project/*", "repository:pull"), ("/system", "project:create")])
    harbor.add_robot("lab+old", SECRET, [(here, "repository:pull")], project=lab, expires_at=1_600_000_000)
    harbor.add_robot("lab+off", SECRET, [(here, "repository:pull")], project=lab, disabled=True)
    harbor.log(lab, "create", "lab/app:v1", "mari")
    return {
        "lab": lab, "secret": secret, "one": one, "two": two, "index": index, "signature": signature, "mari": mari,
        "juri": juri, "robot": robot,
    }  # fmt: skip
