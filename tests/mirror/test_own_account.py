"""A project's own account at the upstream: used for that project alone, and changed without losing the cache."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.access.computations import Computations
from app.access.secrets import Secrets
from app.cache import Cache
from app.config import Credential, Policy, UpstreamConfig
from app.database import Database, projects
from app.mirror.mirror import Mirror
from app.mirror.status import MirrorStatus
from app.oci.digest import Digest
from app.oci.errors import Denied, OCIError, TooManyRequests, Unavailable
from app.oci.reference import Name, Reference, parse_reference
from app.projects.service import Projects, Repository
from app.registry.blobs import Blobs
from app.registry.content import BlobAnswer, Client, HostedContent, ManifestAnswer
from app.registry.manifests import Manifests
from app.registry.payloads import Payloads
from app.registry.pulls import Pulls
from app.storage.filesystem import FilesystemStore
from tests.grants import everything
from tests.images import Image
from tests.parts.service import migrated
from tests.parts.valkey import Valkey
from tests.upstream.client import Hub

from .conftest import Make

OURS, THEIRS = "ours", "theirs"
SECRETS = Secrets("a key of a test, and of that test alone")


class House:
    """One worker's mirror of the upstream; projects are made by `project`."""

    def __init__(self, database: Database, mirror: Mirror, status: MirrorStatus, opened: Projects) -> None:
        self.database = database
        self.status = status
        self._mirror = mirror
        self._opened = opened

    async def project(self, name: str, account: tuple[str, str] | None, *, public: bool = False) -> int:
        """Make a mirror, or change the one that is there, with an account of its own or without."""
        async with self.database.transaction() as transaction:
            await projects.create(transaction, name, public=public, upstream="docker.io", settings={})
            found = await projects.find(transaction, name)
        assert found is not None
        await self.keep(name, None if account is None else SECRETS.encrypt(json.dumps(account)))
        return found.id

    async def lend(self, name: str) -> None:
        """Have a project without an account of its own see with the configured one, as operators' projects do."""
        async with self.database.transaction() as transaction:
            await projects.change(transaction, name, uses_configured_account=True)

    async def keep(self, name: str, kept: str | None) -> None:
        async with self.database.transaction() as transaction:
            await projects.change(transaction, name, upstream_credential=kept)

    async def open(self, name: str) -> Repository:
        parsed = Name.parse(name)
        return await self._opened.open(parsed, await everything(self.database, parsed))

    async def manifest(self, name: str, reference: str, *, head: bool = False) -> ManifestAnswer:
        repository = await self.open(name)
        parsed: Reference = parse_reference(reference)
        return await self._mirror.content.manifest(repository, parsed, Client("me", may_fill=True), head=head)

    async def blob(self, name: str, digest: str, *, head: bool = False) -> BlobAnswer:
        repository = await self.open(name)
        return await self._mirror.content.blob(repository, Digest(digest), Client("me", may_fill=True), head=head)

    async def tags(self, name: str) -> list[str]:
        found = await self._mirror.content.tags(await self.open(name), "", 10, Client("me", may_fill=True))
        return list(found.entries)

    async def referrers(self, name: str, subject: str) -> int:
        repository, client = await self.open(name), Client("me", may_fill=True)
        found = await self._mirror.content.referrers(repository, Digest(subject), None, "", 10, client)
        return len(found.entries)

    async def pull(self, name: str, reference: str, image: Image) -> None:
        """Pull an image of one manifest whole."""
        answer = await self.manifest(name, reference)
        assert (answer.digest, answer.payload) == (image.digest, image.payload)
        for digest, data in image.blobs.items():
            blob = await self.blob(name, digest)
            if callable(blob.source):
                assert b"".join([piece async for piece in blob.source(0, None)]) == data
            else:
                assert blob.size == len(data)


@asynccontextmanager
async def house(
    folder: Path, hub: Hub, valkey: Valkey, *, credentials: Sequence[Credential] = (),
    decrypt: Callable[[str], str] = SECRETS.decrypt,
) -> AsyncIterator[House]:  # fmt: skip
    """Build one worker; its folder may be built upon again."""
    url = f"sqlite:///{folder}/registry.sqlite"
    if not (folder / "registry.sqlite").exists():
        shutil.copy(migrated(), folder)
    database, cache, store = Database(url), Cache(valkey.url), FilesystemStore(folder / "blobs")
    await store.start()
    manifests, blobs, pulls = Manifests(database, Payloads(None), Computations()), Blobs(database), Pulls(database)
    opened = Projects(database, Policy(), ["docker.io"], SECRETS.encrypt)
    mirror = Mirror(
        "docker.io",
        UpstreamConfig(hub.url, tuple(credentials), fresh_for=0),
        folder / "spool",
        database=database,
        store=store,
        cache=cache,
        hosted=HostedContent(database, manifests, blobs, pulls),
        stored=manifests,
        pulls=pulls,
        decrypt=decrypt,
    )
    await mirror.start()
    try:
        yield House(database, mirror, MirrorStatus(database, cache, {"docker.io": mirror.access}), opened)
    finally:
        await mirror.close(5)
        await store.close()
        await cache.close()
        await database.close()


@pytest.fixture
def accounts(hub: Hub) -> Hub:
    """The upstream with two accounts, each with a limit of its own."""
    for username, limit in ((OURS, 7), (THEIRS, 9)):
        hub.account(username, f"{username}-password")
        hub.limit(limit, source=username)
    return hub


@pytest.fixture
async def home(tmp_path: Path, accounts: Hub, valkey: Valkey) -> AsyncIterator[House]:
    async with house(tmp_path, accounts, valkey) as house_:
        yield house_


def account(username: str) -> tuple[str, str]:
    return username, f"{username}-password"


async def refused(pull: Awaitable[object], kind: type[OCIError]) -> OCIError:
    with pytest.raises(kind) as caught:
        await pull
    return caught.value


async def test_each_project_sees_with_its_own_eyes(hub: Hub, accounts: Hub, home: House, make: Make) -> None:
    ours = hub.add(make(sizes=(5_000,)), "ours/app", "1", readers=[OURS])
    theirs = hub.add(make(sizes=(5_000,)), "theirs/app", "1", readers=[THEIRS])
    await home.project("mine", account(OURS))
    await home.project("yours", account(THEIRS))
    await home.project("plain", None)
    await home.pull("mine/ours/app", "1", ours)
    await home.pull("yours/theirs/app", "1", theirs)
    for name, image in (("mine/theirs/app", theirs), ("yours/ours/app", ours), ("plain/ours/app", ours)):
        for head in (True, False):
            await refused(home.manifest(name, "1", head=head), Denied)
            await refused(home.manifest(name, image.digest, head=head), Denied)
            await refused(home.blob(name, image.layers[0], head=head), Denied)


async def test_in_a_public_project_an_account_shows_nothing_more(
    hub: Hub, accounts: Hub, home: House, make: Make
) -> None:
    private = hub.add(make(sizes=(5_000,)), "ours/app", "1", readers=[OURS])
    public = hub.add(make(sizes=(5_000,)), "library/app", "1")
    project = await home.project("open", account(OURS), public=True)
    for head in (True, False):
        await refused(home.manifest("open/ours/app", "1", head=head), Denied)
        await refused(home.blob("open/ours/app", private.layers[0], head=head), Denied)
    await home.pull("open/library/app", "1", public)
    # The pull was paid for by the account, not by the address.
    (budget,) = await home.status.budgets("docker.io", project)
    assert (budget.limit, budget.remaining) == (7, 6)


async def test_each_project_has_a_budget_of_its_own(hub: Hub, accounts: Hub, home: House, make: Make) -> None:
    images = {f"library/app{number}": make(sizes=(10,)) for number in range(4)}
    for name, image in images.items():
        hub.add(image, name, "1")
    hub.limit(0, source="127.0.0.1")
    hub.limit(2, source=OURS)
    mine, plain = await home.project("mine", account(OURS)), await home.project("plain", None)
    first, second, third, _ = images
    await home.manifest(f"mine/{first}", "1")
    await home.manifest(f"mine/{second}", "1")
    await refused(home.manifest(f"mine/{third}", "1"), TooManyRequests)
    await refused(home.manifest(f"plain/{third}", "1"), TooManyRequests)
    assert hub.counters().get_manifest_429 == 0
    (own,) = await home.status.budgets("docker.io", mine)
    assert (own.account, own.limit, own.remaining) == (f"{OURS} (project {mine})", 2, 0)
    (nobody,) = await home.status.budgets("docker.io", plain)
    assert (nobody.account, nobody.remaining) == ("", 0)
    # Whoever asks for no project in particular is shown nobody's own.
    assert await home.status.budgets("docker.io") == [nobody]
    assert await home.status.budgets("quay.io") == []


async def test_what_is_not_counted_for_nobody_may_be_counted_for_an_account(
    hub: Hub, accounts: Hub, home: House, make: Make
) -> None:
    hub.limit(0, source="127.0.0.1")
    for_nobody, for_all = "library/sponsored", "library/verified"
    images = {name: hub.add(make(), name, "1") for name in (for_nobody, for_all)}
    hub.uncount(for_nobody, source="127.0.0.1")
    hub.uncount(for_all)
    mine = await home.project("mine", account(OURS), public=True)
    plain = await home.project("plain", None, public=True)
    for name, image in images.items():
        for project in ("plain", "mine"):
            index = await home.manifest(f"{project}/{name}", "1")
            child = await home.manifest(f"{project}/{name}", next(iter(set(image.manifests) - {image.digest})))
            assert (index.digest, child.payload is not None) == (image.digest, True)
    asked = hub.counters()
    assert (asked.get_manifest_uncounted, asked.get_manifest, asked.get_manifest_429) == (6, 2, 0)
    (own,) = await home.status.budgets("docker.io", mine)
    assert (own.remaining, own.reserved, own.unlimited) == (5, 0, False)
    await refused(home.manifest(f"plain/{hub_name(hub, make)}", "1"), TooManyRequests)
    (nobody,) = await home.status.budgets("docker.io", plain)
    assert (nobody.remaining, nobody.unlimited) == (0, False)


def hub_name(hub: Hub, make: Make) -> str:
    """Put an image under a name that the upstream counts."""
    hub.add(make(sizes=(10,)), "library/counted", "1")
    return "library/counted"


async def test_a_change_counts_at_once_and_leaves_the_cache(hub: Hub, accounts: Hub, home: House, make: Make) -> None:
    image = hub.add(make(sizes=(5_000,)), "both/app", "1", readers=[OURS, THEIRS])
    private = hub.add(make(sizes=(5_000,)), "ours/app", "1", readers=[OURS])
    await home.project("mine", account(THEIRS))
    await home.pull("mine/both/app", "1", image)
    await refused(home.manifest("mine/ours/app", "1"), Denied)
    await home.project("mine", account(OURS))
    await home.pull("mine/ours/app", "1", private)
    hub.reset_counters()
    await home.pull("mine/both/app", "1", image)
    asked = hub.counters()
    assert (asked.get_manifest, asked.get_blob) == (0, 0)
    await home.project("mine", None)
    await refused(home.manifest("mine/ours/app", "1"), Denied)  # it has to be asked after, and is not to be seen now
    answer = await home.manifest("mine/ours/app", private.digest)
    assert answer.payload == private.payload


async def test_a_members_private_cache_does_not_see_with_the_configured_account(
    tmp_path: Path, hub: Hub, accounts: Hub, valkey: Valkey, make: Make
) -> None:
    secret = hub.add(make(sizes=(300_000,)), "ours/app", "1", readers=[OURS])
    hub.add(Image({}, secret.manifests, secret.digest), "library/lure", "1")
    other = hub.add(make(sizes=(10,)), "library/app", "1")
    (layer,) = secret.layers
    hub.limit(5)
    async with house(tmp_path, hub, valkey, credentials=[Credential(*account(OURS))]) as home:
        await home.project("vault", None)
        await home.lend("vault")
        theirs = await home.project("theirs", None)
        for head in (True, False):
            await refused(home.manifest("theirs/ours/app", "1", head=head), Denied)
            await refused(home.manifest("theirs/ours/app", secret.digest, head=head), Denied)
            await refused(home.blob("theirs/ours/app", layer, head=head), Denied)
        await refused(home.tags("theirs/ours/app"), Denied)
        await refused(home.referrers("theirs/ours/app", secret.digest), Denied)
        assert await home.tags("vault/ours/app") == ["1"]
        # Nor is a fill joined that was begun with the account, by an image that names the private one's parts.
        await home.manifest("theirs/library/lure", "1")
        hub.fault("cdn", "stall", path=f"/data/{layer}", after=1_000)
        reading = asyncio.ensure_future(_read(await home.blob("vault/ours/app", layer)))
        error = await refused(home.blob("theirs/library/lure", layer), OCIError)
        assert error.answer_status == 404
        hub.clear_faults()
        assert await reading == secret.blobs[layer]
        await home.pull("vault/ours/app", "1", secret)
        error = await refused(home.blob("theirs/library/lure", layer), OCIError)
        assert error.answer_status == 404
        await home.pull("theirs/library/app", "1", other)
        (nobody,) = await home.status.budgets("docker.io", theirs)
        assert (nobody.account, nobody.remaining) == ("", 3)


async def test_a_user_name_alone_opens_nothing(hub: Hub, accounts: Hub, home: House, make: Make) -> None:
    """Who knows the name of somebody's account has neither its tokens nor a hand on its budget."""
    hub.add(make(sizes=(10,)), "ours/app", "1", readers=[OURS])
    other = hub.add(make(sizes=(10,)), "library/app", "1")
    mine = await home.project("mine", account(OURS))
    await home.project("thief", (OURS, "a guess"))
    await home.manifest("mine/ours/app", "1")
    for _ in range(3):
        await refused(home.manifest("thief/ours/app", "1"), Denied)
        await refused(home.manifest("thief/library/app", "1"), Denied)
    (own,) = await home.status.budgets("docker.io", mine)
    assert (own.remaining, own.reserved) == (6, 0)
    await home.pull("mine/library/app", "1", other)


async def test_fills_of_different_eyes_are_not_joined(hub: Hub, accounts: Hub, home: House, make: Make) -> None:
    """Else an image that names somebody's private layer would show it while that is being fetched."""
    private = hub.add(make(sizes=(300_000,)), "ours/app", "1", readers=[OURS])
    hub.add(Image({}, private.manifests, private.digest), "theirs/lure", "1", readers=[THEIRS])
    (layer,) = private.layers
    await home.project("mine", account(OURS))
    await home.project("yours", account(THEIRS))
    await home.manifest("yours/theirs/lure", "1")
    hub.fault("cdn", "stall", path=f"/data/{layer}", after=1_000)
    answer = await home.blob("mine/ours/app", layer)
    assert callable(answer.source)
    reading = asyncio.ensure_future(_read(answer))
    error = await refused(home.blob("yours/theirs/lure", layer), OCIError)
    assert error.answer_status == 404
    hub.clear_faults()
    assert await reading == private.blobs[layer]


async def _read(answer: BlobAnswer) -> bytes:
    assert callable(answer.source)
    return b"".join([piece async for piece in answer.source(0, None)])


async def test_an_account_that_cannot_be_read_is_said_to_be(
    tmp_path: Path, hub: Hub, accounts: Hub, valkey: Valkey, make: Make
) -> None:
    image = hub.add(make(sizes=(5_000,)), "library/app", "1")
    async with house(tmp_path, hub, valkey) as home:
        await home.project("mine", account(OURS))
        await home.pull("mine/library/app", "1", image)
        await home.keep("mine", "not encrypted at all")
        error = await refused(home.manifest("mine/library/other", "1"), Unavailable)
        assert "enter it again" in error.message
        assert (await home.manifest("mine/library/app", image.digest)).payload == image.payload
    async with house(tmp_path, hub, valkey, decrypt=Secrets("another key" * 3).decrypt) as home:
        await home.project("mine", account(OURS))
        error = await refused(home.manifest("mine/library/other", "1"), Unavailable)
        assert "enter it again" in error.message
