"""Repositories and artifacts as people see them, on both databases."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.access.errors import Conflict, Invalid, Missing
from app.access.principal import ANONYMOUS
from app.access.roles import Role
from app.database import Database, artifacts, manifests, repositories
from app.database.artifacts import ArtifactFilter
from app.database.keyset import MOST_COUNTED, Count, Page
from app.database.tables import manifest, tag
from app.oci.digest import Digest
from app.oci.manifest import OCI_INDEX, parse_manifest
from app.oci.reference import Tag
from app.registry.content import Client, HostedContent
from app.registry.image_details import Platform
from app.registry.pulls import Pulls
from tests.api.documents import CONFIG, EMPTY, EMPTY_TYPE, buildkit_cache, descriptor, image, index

from .house import House
from .rows import rows

DAY = 24 * 3600.0
BASE, TOP = b"base" * 1000, b"top" * 100


def config(architecture: str = "amd64", **more: Any) -> bytes:
    history = [
        {"created": "2026-01-02T03:04:05Z", "created_by": "ADD rootfs", "comment": "buildkit"},
        {"created": "2026-01-02T03:04:06Z", "created_by": "ENV A=1", "empty_layer": True},
        {"created_by": "COPY . /app", "author": "mari"},
    ]
    run = {"Env": ["A=1"], "Cmd": ["/app"], "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}, "User": "app"}
    return json.dumps({"os": "linux", "architecture": architecture, "config": run, "history": history} | more).encode()


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    house = House(database, tmp_path / "blobs")
    await house.store.start()
    await house.project()
    await house.quotas.set(await house.admin(), 1, None)
    for data in (EMPTY, BASE, TOP, config()):
        await house.push_blob(data)
    yield house
    await house.store.close()


async def names(house: House, **wanted: Any) -> list[list[str]]:
    """List the tags of each artifact, in the page's order."""
    chosen = ArtifactFilter(**{key: wanted.pop(key) for key in ("tagged", "label_id", "kind") if key in wanted})
    page = Page(**{"limit": 50, **wanted})
    found = await house.artifacts.page(await house.id_of(), page, chosen)
    assert (await house.artifacts.total(await house.id_of(), page.search, chosen)).number >= len(found)
    return [[tag.name for tag in artifact.tags] for artifact in found]


async def test_an_image(house: House) -> None:
    payload = image(BASE, TOP, config=config(), annotations={"org.example": "yes"})
    digest = await house.push(payload, "v1", "latest")
    detail = await house.artifacts.detail(await house.id_of(), Tag("v1"))
    artifact = detail.artifact
    assert artifact == await house.artifacts.find(await house.id_of(), digest)
    assert [artifact] == await house.artifacts.page(await house.id_of(), Page(50))
    assert (artifact.digest, artifact.kind, artifact.artifact_type) == (digest, "image", CONFIG)
    assert artifact.size == len(payload) + len(BASE) + len(TOP) + len(config())
    assert [str(platform) for platform in artifact.platforms] == ["linux/amd64"]
    assert (sorted(tag.name for tag in artifact.tags), artifact.tag_count) == (["latest", "v1"], 2)
    assert (artifact.annotations, artifact.subject, artifact.referrer_count) == ({"org.example": "yes"}, None, 0)
    assert detail.payload == payload
    assert [layer.size for layer in detail.layers] == [len(BASE), len(TOP)]
    assert (detail.config_type, detail.children, detail.referrers) == (CONFIG, [], [])
    assert detail.config is not None
    assert [(step.created_by, step.empty_layer, step.size) for step in detail.config.history] == [
        ("ADD rootfs", False, len(BASE)),
        ("ENV A=1", True, None),
        ("COPY . /app", False, len(TOP)),
    ]
    assert (detail.config.env, detail.config.command, detail.config.labels) == (["A=1"], ["/app"], {"a": "b"})
    assert (detail.config.exposed_ports, detail.config.user, detail.config.entrypoint) == (["80/tcp"], "app", [])


async def test_an_index_shows_its_children_beneath_it(house: House) -> None:
    await house.push_blob(config("arm64"))
    images = [image(BASE, config=config()), image(BASE, TOP, config=config("arm64"))]
    for payload in images:
        await house.push(payload)
    entries = [
        descriptor(payload, "application/vnd.oci.image.manifest.v1+json", platform=platform)
        for payload, platform in zip(
            [*images, b"attestation", b"not here"],
            (
                {"os": "linux", "architecture": "amd64"},
                {"os": "linux", "architecture": "arm64", "variant": "v8"},
                {"os": "unknown", "architecture": "unknown"},
                {"os": "windows", "architecture": "amd64", "os.version": "10"},
            ),
            strict=True,
        )
    ]
    payload = index(manifests=entries[:2])
    digest = await house.push(payload, "multi", media_type=OCI_INDEX)
    assert await names(house) == [["multi"]]
    detail = await house.artifacts.detail(await house.id_of(), digest)
    artifact = detail.artifact
    assert (artifact.kind, [str(platform) for platform in artifact.platforms]) == (
        "index",
        ["linux/amd64", "linux/arm64/v8"],
    )
    beneath = len(BASE) + len(TOP) + len(config()) + len(config("arm64"))
    assert artifact.size == len(payload) + len(images[0]) + len(images[1]) + beneath
    assert [child.present for child in detail.children] == [True, True]
    assert (detail.config, detail.config_type, detail.layers) == (None, None, ())

    # As a mirror has it: not all children are here.
    payload = index(manifests=entries)
    partly = Digest.of(payload)
    await put_down(house, payload, entries)
    detail = await house.artifacts.detail(await house.id_of(), partly)
    assert [child.present for child in detail.children] == [True, True, False, False]
    assert detail.artifact.platforms[-1] == Platform("windows", "amd64", "", "10")
    assert len(detail.artifact.platforms) == 3, "unknown/unknown is none"
    assert detail.artifact.size == len(payload) + len(images[0]) + len(images[1]) + beneath

    # A child that has a tag of its own stands by itself as well.
    await house.artifacts.add_tag(await house.id_of(), Digest.of(images[0]), Tag("amd64"))
    assert ["amd64"] in await names(house)


async def test_an_index_of_blobs_shows_them_and_counts_them(house: House) -> None:
    payload = buildkit_cache(BASE, TOP, config=config())
    detail = await house.artifacts.detail(await house.id_of(), await house.push(payload, "cache", media_type=OCI_INDEX))
    assert [(child.digest, child.present, child.stored) for child in detail.children] == [
        (Digest.of(data), False, True) for data in (BASE, TOP, config())
    ]
    assert detail.artifact.size == len(payload) + len(BASE) + len(TOP) + len(config())


async def test_parts_without_a_size_are_counted_as_they_are(house: House) -> None:
    entries = [{"digest": Digest.of(BASE)}, {"digest": Digest.of(TOP), "size": None}]
    payload = image(config=config(), layers=entries)
    detail = await house.artifacts.detail(await house.id_of(), await house.push(payload, "v1"))
    assert [layer.size for layer in detail.layers] == [None, None]
    assert detail.artifact.size == len(payload) + len(BASE) + len(TOP) + len(config())


async def put_down(house: House, payload: bytes, entries: list[dict[str, Any]]) -> None:
    """Put an index down as a mirror does, whether its children are there or not."""
    repository = await house.id_of()
    async with house.database.transaction() as transaction:
        await manifests.add(transaction, repository, Digest.of(payload), parse_manifest(payload, OCI_INDEX))


async def test_referrers_are_beneath_their_subject(house: House) -> None:
    subject = image(BASE)
    digest = await house.push(subject, "v1")
    signature = image(
        TOP, config=EMPTY, artifactType="application/x.signature", subject=descriptor(subject), annotations={"by": "me"}
    )
    signed = await house.push(signature)
    await house.push(image(TOP, subject=descriptor(b"of something that is not here")))
    assert await names(house) == [[], ["v1"]]
    artifact = (await house.artifacts.page(await house.id_of(), Page(50), ArtifactFilter(tagged=True)))[0]
    assert (
        artifact.referrer_count
        == 1
        == (await house.database.read(artifacts.total_referrers, await house.id_of(), digest)).number
    )
    (referrer,) = await house.artifacts.referrers(await house.id_of(), digest)
    assert (referrer.digest, referrer.artifact_type) == (signed, "application/x.signature")
    assert await house.artifacts.referrers(await house.id_of(), digest, after=signed) == []
    assert [referrer] == (await house.artifacts.detail(await house.id_of(), digest)).referrers
    found = await house.artifacts.find(await house.id_of(), signed)
    assert (found.kind, found.subject, found.platforms) == ("application/x.signature", digest, ())


async def test_kinds(house: House) -> None:
    chart = image(TOP, config=EMPTY)
    for kind, payload, media_type in (
        ("image", image(BASE, config=config()), None),
        ("index", index(), OCI_INDEX),
        ("chart", chart.replace(CONFIG.encode(), b"application/vnd.cncf.helm.config.v1+json"), None),
        ("application/x", image(artifactType="application/x"), None),
        (EMPTY_TYPE, image().replace(CONFIG.encode(), EMPTY_TYPE.encode()), None),
    ):
        digest = await house.push(payload, **({"media_type": media_type} if media_type else {}))
        found = await house.artifacts.page(await house.id_of(), Page(50), ArtifactFilter(kind=kind))
        assert [(artifact.digest, artifact.kind) for artifact in found] == [(digest, kind)]
    assert await names(house, kind="\0") == []
    assert await names(house, kind="elsewhat") == []


async def test_pages_and_filters(house: House) -> None:
    digests = [await house.push(image(annotations={"n": str(number)}), f"v{number}") for number in range(5)]
    everything = await house.artifacts.page(await house.id_of(), Page(50))
    assert [artifact.digest for artifact in everything] == digests[::-1]
    paged: list[str] = []
    after: str | None = None
    while page := await house.artifacts.page(await house.id_of(), Page(2, after)):
        paged += [artifact.digest for artifact in page]
        after = page[-1].key
    assert paged == digests[::-1]
    back: list[str] = []
    before = everything[-1].key
    while page := await house.artifacts.page(await house.id_of(), Page(2, before=before)):
        back = [artifact.digest for artifact in page] + back
        before = page[0].key
    assert back == digests[:0:-1]
    assert await names(house, offset=3, limit=5) == [["v1"], ["v0"]]
    assert await names(house, search="V3") == [["v3"]]
    assert await names(house, search="%") == []
    assert await names(house, search="\0") == []
    label = await house.labels.create(1, name="good")
    await house.labels.attach(1, await house.id_of(), digests[2], label.id)
    assert await names(house, label_id=label.id) == [["v2"]]
    await house.artifacts.remove_tag(await house.id_of(), digests[1], Tag("v1"))
    assert await names(house, tagged=False) == [[]]
    assert len(await names(house, tagged=True)) == 4
    for bad in ("x", "1,x", "nan,sha256:" + "0" * 64, "1", "\0", ",", "inf,sha256:" + "0" * 64):
        with pytest.raises(Invalid):
            await house.artifacts.page(await house.id_of(), Page(50, bad))
        with pytest.raises(Invalid):
            await house.artifacts.page(await house.id_of(), Page(50, before=bad))


async def test_tags(house: House) -> None:
    first, second = await house.push(image(BASE), "a", "c"), await house.push(image(TOP), "b")
    repository = await house.id_of()
    assert [(tag.name, tag.digest) for tag in await house.database.read(artifacts.tags, repository, Page(50))] == [
        ("a", first),
        ("b", second),
        ("c", first),
    ]
    assert [tag.name for tag in await house.database.read(artifacts.tags, repository, Page(50), digest=first)] == [
        "a",
        "c",
    ]
    assert [tag.name for tag in await house.database.read(artifacts.tags, repository, Page(1, "a"))] == ["b"]
    assert [tag.name for tag in await house.database.read(artifacts.tags, repository, Page(50, offset=2))] == ["c"]
    assert [tag.name for tag in await house.database.read(artifacts.tags, repository, Page(1, before="c"))] == ["b"]
    assert [
        tag.name for tag in await house.database.read(artifacts.tags, repository, Page(50, before="c"), digest=first)
    ] == ["a"]
    assert (
        await house.database.read(artifacts.tags, repository, Page(50, before="a"))
        == await house.database.read(artifacts.tags, repository, Page(50, before="\0"))
        == []
    )
    assert (await house.database.read(artifacts.total_tags, repository)).number == 3
    assert (await house.database.read(artifacts.total_tags, repository, digest=second, search="x")).number == 0
    await house.artifacts.add_tag(repository, second, Tag("new"))
    with pytest.raises(Conflict):
        await house.artifacts.add_tag(repository, first, Tag("new"))
    with pytest.raises(Missing):
        await house.artifacts.add_tag(repository, Digest.of(b"nothing"), Tag("other"))
    with pytest.raises(Missing):
        await house.artifacts.remove_tag(repository, first, Tag("new"))
    assert await house.artifacts.resolve(repository, Tag("new")) == second
    await house.artifacts.remove_tag(repository, second, Tag("new"))
    with pytest.raises(Missing):
        await house.artifacts.resolve(repository, Tag("new"))
    await house.artifacts.remove(repository, second)
    for missing in (Tag("b"), second):
        with pytest.raises(Missing):
            await house.artifacts.find(repository, missing)
    with pytest.raises(Missing):
        await house.artifacts.remove(repository, second)


async def test_an_untagged_artifact_is_collected_later(house: House) -> None:
    digest = await house.push(image(BASE), "v1")
    await house.artifacts.remove_tag(await house.id_of(), digest, Tag("v1"))
    assert len(await rows(house.database, f"SELECT digest FROM review WHERE digest = '{digest}'")) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"not json",
        b"\xff",
        b'{"os": 5, "config": [], "history": {}}',
        b"[" * 100_000,
        config(history=["x", {"created_by": 5}]),
        config(architecture=""),
        config(config={"Env": "A", "Labels": ["x"], "ExposedPorts": 1}),
    ],
)
async def test_a_config_that_is_odd(house: House, content: bytes) -> None:
    """Anybody may push one: the page shows what there is."""
    await house.push_blob(content)
    await house.push(image(BASE, config=content), "v1")
    detail = await house.artifacts.detail(await house.id_of(), Tag("v1"))
    assert detail.artifact.kind == "image"
    assert len(await house.artifacts.page(await house.id_of(), Page(50))) == 1


async def test_a_config_that_is_not_here(house: House) -> None:
    """A mirror's, before anybody has pulled it; and one whose bytes are lost."""
    digest = await house.push(image(BASE, config=config()), "v1")
    (key,) = await rows(house.database, f"SELECT object_key FROM blob WHERE digest = '{Digest.of(config())}'")
    await house.store.delete(key[0])
    detail = await house.artifacts.detail(await house.id_of(), digest)
    assert (detail.config, detail.config_type, detail.artifact.platforms) == (None, CONFIG, ())
    await house.blobs.delete(await house.open(), Digest.of(config()))
    assert (await house.artifacts.detail(await house.id_of(), digest)).config is None


async def test_a_config_of_many_megabytes_is_not_read(house: House) -> None:
    large = config(padding="x" * (5 * 1024 * 1024))
    await house.push_blob(large)
    await house.push(image(BASE, config=large), "v1")
    assert (await house.artifacts.detail(await house.id_of(), Tag("v1"))).config is None


async def test_what_a_manifest_of_a_megabyte_says_is_not_read(house: House) -> None:
    """Each page would read it on the event loop, which answers nobody meanwhile. Layers and annotations are shown."""
    much = {f"key-{number}": "x" * 1000 for number in range(1000)}
    digest = await house.push(image(BASE, annotations={"org.opencontainers.image.title": "x", **much}), "v1")
    detail = await house.artifacts.detail(await house.id_of(), digest)
    assert [layer.digest for layer in detail.layers] == [Digest.of(BASE)]
    assert (len(detail.artifact.annotations), detail.said, detail.config) == (1001, {}, None)
    assert await house.artifacts.described(await house.id_of(), digest) == {}


@pytest.mark.long
async def test_five_thousand_tags(house: House) -> None:
    """Each tag on an artifact of its own, and as many on one: a page asks for what it shows."""
    one = await house.push(image(BASE), "v1")
    repository, now = await house.id_of(), time.time()
    bare = {"repository_id": repository, "media_type": OCI_INDEX, "annotations": {}, "payload": b"{}", "size": 2}
    many = [Digest.of(str(number).encode()) for number in range(5000)]
    async with house.database.transaction() as transaction:
        await transaction.execute(
            manifest.insert(), [bare | {"digest": digest, "created_at": now, "pulled_at": now} for digest in many]
        )
        for kind, digests in (("m", many), ("o", [one] * 5000)):
            tags = [
                {"repository_id": repository, "name": f"{kind}{number}", "digest": digest, "updated_at": now + number}
                for number, digest in enumerate(digests)
            ]
            await transaction.execute(tag.insert(), [row | {"checked_at": now} for row in tags])
    page = await house.artifacts.page(repository, Page(5001))
    assert len(page) == 5001
    assert await house.artifacts.total(repository) == Count(MOST_COUNTED + 1, exact=False)
    (found,) = [artifact for artifact in page if artifact.digest == one]
    assert found.tag_count == MOST_COUNTED + 1
    assert [tag.name for tag in found.tags] == [f"o{number}" for number in range(4999, 4989, -1)]
    assert len(await house.database.read(artifacts.tags, repository, Page(20, "m2"))) == 20


async def test_repositories(house: House) -> None:
    await house.push(image(BASE), "v1", "v2")
    await house.push(image(TOP), "v3")
    await house.push_blob(EMPTY, to="physics/team/tool")
    await house.show("physics/team/tool")
    found = {entry.name: entry for entry in await house.database.read(repositories.page, 1, Page(50))}
    assert list(found) == ["app", "team/tool"]
    assert (found["app"].artifacts, found["app"].pulls, found["app"].full_name) == (2, 0, "physics/app")
    assert found["app"].updated_at >= found["app"].created_at
    assert found["team/tool"].artifacts == 0
    assert await house.repositories.entry(1, "team/tool") == found["team/tool"]
    await house.repositories.describe(found["app"].id, "Tõravere")
    assert (await house.repositories.entry(1, "app")).description == "Tõravere"
    with pytest.raises(Invalid):
        await house.repositories.describe(found["app"].id, "x" * 5000)
    assert [entry.name for entry in await house.database.read(repositories.page, 1, Page(50, "app"))] == ["team/tool"]
    assert [entry.name for entry in await house.database.read(repositories.page, 1, Page(50, before="team/tool"))] == [
        "app"
    ]
    assert [entry.name for entry in await house.database.read(repositories.page, 1, Page(1, before="z"))] == [
        "team/tool"
    ]
    assert await house.database.read(repositories.page, 1, Page(50, before="app")) == []
    assert [
        entry.name for entry in await house.database.read(repositories.page, 1, Page(1, sort=(("name", True),)))
    ] == ["team/tool"]
    assert [
        entry.name
        for entry in await house.database.read(
            repositories.page, 1, Page(50, sort=(("pull_count", True),), search="APP")
        )
    ] == ["app"]
    assert (
        (await house.database.read(repositories.total, 1)).number,
        (await house.database.read(repositories.total, 1, search="\0")).number,
    ) == (2, 0)
    await house.repositories.remove(found["app"].id)
    for name in ("app", f"~{found['app'].id}", "\0"):
        with pytest.raises(Missing):
            await house.repositories.find(1, name)
    with pytest.raises(Missing):
        await house.repositories.describe(found["app"].id, "x")
    assert (await house.database.read(repositories.total, 1)).number == 1


async def test_search(house: House) -> None:
    secret = await house.project("top-secret", public=False)
    await house.push_blob(EMPTY, to="top-secret/app")
    for name in ("physics/app", "top-secret/app"):
        await house.show(name)
    mari = await house.person("mari", groups=("astronomers",))
    assert [entry.full_name for entry in await house.repositories.search(mari, Page(10, search="App"))] == [
        "physics/app"
    ]
    assert await house.repositories.search(ANONYMOUS, Page(10, search="top-secret")) == []
    assert await house.repositories.search(ANONYMOUS, Page(10, search="\0")) == []
    await house.members.add_group(secret.id, "astronomers", Role.LIMITED_GUEST)
    assert [entry.full_name for entry in await house.repositories.search(mari, Page(10, search="t/a"))] == [
        "top-secret/app"
    ]
    assert (await house.repositories.found(mari, "")).number == 2
    assert (await house.repositories.found(ANONYMOUS, "")).number == 1
    assert (await house.repositories.found(ANONYMOUS, "\0")).number == 0
    pages = [
        await house.repositories.search(mari, Page(1, offset=offset, sort=(("name", True),), search="app"))
        for offset in range(3)
    ]
    assert [[entry.full_name for entry in page] for page in pages] == [["top-secret/app"], ["physics/app"], []]
    await house.push_blob(EMPTY, to="physics/zoo")
    await house.show("physics/zoo")
    everything = ["physics/app", "physics/zoo", "top-secret/app"]
    for after, before, limit, wanted in (
        ("physics/app", "", 9, everything[1:]),
        ("physics/zoo", "", 9, everything[2:]),
        ("q", "", 9, everything[2:]),
        ("", "top-secret/app", 1, everything[1:2]),
        ("", "top-secret/app", 9, everything[:2]),
        ("", "physics/app", 9, []),
        ("\0", "", 9, []),
    ):
        page = await house.repositories.search(mari, Page(limit, after or None, before or None))
        assert [entry.full_name for entry in page] == wanted, (after, before)


async def test_pulls_are_counted(house: House) -> None:
    """One for an image, however a client comes to it; none for looking."""
    one, other = image(BASE), image(TOP)
    for payload in (one, other):
        await house.push(payload)
    await house.push(index(one, other), "multi", media_type=OCI_INDEX)
    pulls = Pulls(house.database)
    content = HostedContent(house.database, house.manifests, house.blobs, pulls)
    client, repository = Client("somebody", may_fill=False), await house.open()
    for _ in range(3):
        await content.manifest(repository, Tag("multi"), client, head=True)
        await content.manifest(repository, Tag("multi"), client, head=False)
        await content.manifest(repository, Digest.of(one), client, head=False)
    await pulls.flush()
    await pulls.flush()
    assert (await house.repositories.entry(1, "app")).pulls == 3


async def test_a_pusher_who_looks_puts_a_review_off(house: House) -> None:
    digest = await house.push(image(BASE), "v1")
    repository = await house.id_of()
    await house.manifests.keep(repository, digest)
    review = f"SELECT review_at FROM review WHERE digest = '{digest}'"
    assert await rows(house.database, review) == [], "what nobody was going to look at stays so"
    for again in ("look", "push"):
        async with house.database.transaction() as transaction:
            await manifests.ask_review(transaction, repository, [digest], 1.0)
        if again == "look":
            await house.manifests.keep(repository, digest)
        else:
            await house.push(image(BASE))
        assert (await rows(house.database, review))[0][0] > time.time() + DAY - 60
