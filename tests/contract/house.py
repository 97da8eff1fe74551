"""The services of a registry on one database and one folder, and people to use them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from pathlib import Path

from app.access.absence import Absence
from app.access.computations import Computations
from app.access.principal import Principal, PrincipalKind
from app.config import Policy
from app.database import Database, accounts, projects
from app.database.projects import Project
from app.oci.digest import Digest
from app.oci.manifest import OCI_MANIFEST
from app.oci.reference import Name, Tag
from app.projects.immutability import Immutability
from app.projects.labels import Labels
from app.projects.members import Members
from app.projects.quotas import Quotas
from app.projects.service import Projects, Repository
from app.registry.artifacts import Artifacts
from app.registry.blobs import Blobs
from app.registry.garbage_collection import GarbageCollection
from app.registry.manifests import Manifests
from app.registry.payloads import Payloads
from app.registry.repositories import Repositories
from app.registry.tags import Tags
from app.registry.uploads import Uploads
from app.storage.filesystem import FilesystemStore
from tests.grants import everything

from .rows import rows

# Without a bin, a removed artifact is gone at once. The house in `bin_house` has a bin.
POLICY = Policy(projects_per_person=3, default_quota=1000, most_quota=10_000, cache_groups=("cachers",), bin_days=0)


def body(data: bytes) -> Callable[[memoryview], Awaitable[int]]:
    """Read ``data`` as the body of a request is read."""
    file = BytesIO(data)

    async def read(room: memoryview) -> int:
        return file.readinto(room)

    return read


class House:
    """``admin`` administers; ``person`` makes anybody else."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.store = FilesystemStore(folder)
        self.uploads = Uploads(database, self.store)
        self.blobs = Blobs(database)
        self.manifests = Manifests(database, Payloads(None), Computations())
        self.collection = GarbageCollection(database, self.store)
        self.projects = Projects(database, POLICY, ["docker.io", "quay.io"], lambda text: text[::-1])
        self.members = Members(database, Absence(180))
        self.quotas = Quotas(database, POLICY)
        self.labels = Labels(database)
        self.immutability = Immutability(database)
        self.tags = Tags(database)
        self.repositories = Repositories(database)
        self.artifacts = Artifacts(database, self.store, Computations())

    async def person(
        self,
        name: str,
        *,
        is_admin: bool = False,
        groups: tuple[str, ...] = (),
        limits: Mapping[str, frozenset[str]] | None = None,
    ) -> Principal:
        """Make an account, or take the one that is there."""
        async with self.database.transaction() as transaction:
            await accounts.create(transaction, name, "hash", is_admin=is_admin)
            found = await accounts.find(transaction, name)
        assert found is not None
        return Principal(PrincipalKind.PERSON, name, is_admin, found.id, frozenset(groups), limits)

    async def admin(self) -> Principal:
        return await self.person("admin", is_admin=True)

    async def project(self, name: str = "physics", *, by: Principal | None = None, public: bool = True) -> Project:
        """Make a project, of the admin unless somebody else is named, with the quota that everybody gets."""
        return await self.projects.create(by or await self.admin(), name=name, public=public)

    async def open(self, name: str = "physics/app") -> Repository:
        return await self.projects.open(Name(name), await everything(self.database, Name(name)))

    async def push_blob(self, data: bytes, to: str = "physics/app") -> Digest:
        repository = await self.open(to)
        async with self.uploads.receive(repository, await self.uploads.begin(repository)) as receiving:
            await receiving.take(body(data))
            await receiving.commit(Digest.of(data))
        return Digest.of(data)

    async def push(
        self, payload: bytes, *tags: str, to: str = "physics/app", media_type: str = OCI_MANIFEST, by: str = ""
    ) -> Digest:
        repository, digest = await self.open(to), Digest.of(payload)
        await self.manifests.put(repository, digest, [Tag(tag) for tag in tags], media_type, payload, by)
        return digest

    async def show(self, name: str = "physics/app") -> None:
        """Let people see a repository that has had no manifest."""
        repository_id = await self.id_of(name)
        async with self.database.transaction() as transaction:
            await projects.show_repository(transaction, repository_id)

    async def id_of(self, name: str = "physics/app") -> int:
        found = (await self.open(name)).id
        assert found is not None
        return found

    async def used(self, project_id: int) -> int:
        return (await self.quotas.usage(project_id)).used_bytes

    async def check_books(self) -> None:
        """Compare what every project was charged with what it has: each blob once, manifests, tags, running uploads."""
        for project_id, used in await rows(self.database, "SELECT id, used_bytes FROM project"):
            has = await rows(
                self.database,
                "SELECT coalesce(sum(size), 0) FROM blob WHERE digest IN "
                f"(SELECT digest FROM link WHERE project_id = {project_id})",
            )
            held = [
                await rows(
                    self.database,
                    f"SELECT coalesce(sum(charged_bytes), 0) FROM {table} WHERE repository_id IN "
                    f"(SELECT id FROM repository WHERE project_id = {project_id})",
                )
                for table in ("upload", "manifest", "tag", "tag_history", "manifest_label")
            ]
            assert used == has[0][0] + sum(sums[0][0] for sums in held), f"project {project_id}"

    def objects(self) -> int:
        """Count the files that hold anybody's bytes."""
        return sum(len(path.name) == 32 for path in self.folder.rglob("*") if path.is_file())
