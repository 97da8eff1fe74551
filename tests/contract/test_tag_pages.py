"""A repository as its page shows it: tags with their artifacts, and what is attached to them, on both databases."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.access.errors import Invalid
from app.database import Database
from app.database.keyset import Page
from app.database.tables import tag
from app.oci.digest import Digest
from app.oci.manifest import OCI_INDEX, OCI_MANIFEST
from app.registry.attachments import Purpose
from tests.api.documents import EMPTY, EMPTY_TYPE, descriptor, document, image, index

from .house import House

BASE = b"base" * 100
CONFIG = json.dumps(
    {"os": "linux", "architecture": "amd64", "config": {"Labels": {"a": "label", "b": "label"}}}
).encode()
SLSA, SPDX = "https://slsa.dev/provenance/v1", "https://spdx.dev/Document"


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    house = House(database, tmp_path / "blobs")
    await house.store.start()
    await house.project()
    await house.quotas.set(await house.admin(), 1, None)
    for data in (EMPTY, BASE, CONFIG):
        await house.push_blob(data)
    yield house
    await house.store.close()


async def age(house: House, **seconds: float) -> None:
    """Say when tags were pushed."""
    async with house.database.transaction() as transaction:
        for name, at in seconds.items():
            await transaction.execute(tag.update().where(tag.c.name == name).values(updated_at=at))


async def listed(house: House, *, by_name: bool = False, backwards: bool = False, **page: object) -> list[str]:
    asked: Page[str] = Page(**{"limit": 50, **page})  # type: ignore[arg-type]  # whatever a test asks
    rows = await house.artifacts.tag_page(await house.id_of(), asked, by_name=by_name, backwards=backwards)
    return [row.tag.name for row in rows]


async def test_tags_come_newest_first_or_by_name_and_both_backwards(house: House) -> None:
    payload = image(BASE, config=CONFIG)
    await house.push(payload, "b", "a", "d")
    await house.push(image(BASE, config=CONFIG, annotations={"x": "y"}), "c")
    await age(house, a=3, b=1, c=4, d=3)
    assert await listed(house) == ["c", "d", "a", "b"]
    assert await listed(house, backwards=True) == ["b", "a", "d", "c"]
    assert await listed(house, by_name=True) == ["a", "b", "c", "d"]
    assert await listed(house, by_name=True, backwards=True) == ["d", "c", "b", "a"]
    assert await listed(house, search="d") == ["d"]
    assert await listed(house, limit=1, offset=2) == ["a"]
    assert (await house.artifacts.total_tags(await house.id_of())).number == 4
    (newest,) = await house.artifacts.tag_page(await house.id_of(), Page(1))
    assert newest.artifact.annotations == {"x": "y"}
    for by_name in (False, True):
        for backwards in (False, True):
            order = {"by_name": by_name, "backwards": backwards}
            everything = await listed(house, **order)
            rows = await house.artifacts.tag_page(await house.id_of(), Page(50), **order)
            keys = [row.key for row in rows]
            assert await listed(house, **order, after=keys[1]) == everything[2:]
            assert await listed(house, **order, before=keys[2]) == everything[:2]
    for wrong in ("x", "nan,a", "inf,a"):
        with pytest.raises(Invalid):
            await listed(house, after=wrong)


async def test_what_is_attached_is_no_row_but_a_badge_of_its_image(house: House) -> None:
    payload = image(BASE, config=CONFIG)
    digest = await house.push(payload, "v1")
    subject = descriptor(payload, OCI_MANIFEST)
    attached = digest.replace(":", "-")

    def layer(media_type: str, **annotations: str) -> dict[str, object]:
        return descriptor(BASE, media_type, annotations=annotations)

    signature = document(
        schemaVersion=2, mediaType=OCI_MANIFEST, config=descriptor(EMPTY, EMPTY_TYPE),
        layers=[layer("application/vnd.dev.cosign.simplesigning.v1+json")],
    )  # fmt: skip
    statement = document(
        schemaVersion=2, mediaType=OCI_MANIFEST, config=descriptor(EMPTY, EMPTY_TYPE),
        layers=[layer("application/vnd.dsse.envelope.v1+json", predicateType=SLSA)],
    )  # fmt: skip
    referrer = document(
        schemaVersion=2, mediaType=OCI_MANIFEST, artifactType="application/vnd.cyclonedx+json",
        config=descriptor(EMPTY, EMPTY_TYPE), layers=[layer("application/vnd.cyclonedx+json")], subject=subject,
    )  # fmt: skip
    await house.push(signature, f"{attached}.sig")
    await house.push(statement, f"{attached}.att")
    await house.push(referrer)
    # A tag of the same form for an image that is not here is a row like any other, and so is one that ends otherwise.
    orphan = f"sha256-{'0' * 64}.sig"
    await house.push(image(BASE, config=CONFIG, annotations={"o": "p"}), orphan, f"{attached}.old")
    assert sorted(await listed(house)) == sorted([f"{attached}.old", orphan, "v1"])
    rows = {row.tag.name: row for row in await house.artifacts.tag_page(await house.id_of(), Page(50))}
    found = {one.purposes: (one.names, one.tag) for one in rows["v1"].attachments}
    assert found == {
        (Purpose.SIGNATURE,): (("cosign",), f"{attached}.sig"),
        (Purpose.PROVENANCE,): (("SLSA",), f"{attached}.att"),
        (Purpose.SBOM,): (("CycloneDX",), ""),
    }
    assert rows[orphan].attachments == []
    detail = await house.artifacts.detail(await house.id_of(), digest)
    assert list(detail.attachments) == list(rows["v1"].attachments)


async def test_what_buildkit_puts_into_an_index_is_attached_to_it(house: House) -> None:
    payload = image(BASE, config=CONFIG)
    statement = document(
        schemaVersion=2, mediaType=OCI_MANIFEST, config=descriptor(EMPTY, EMPTY_TYPE),
        layers=[descriptor(BASE, "application/vnd.in-toto+json", annotations={"in-toto.io/predicate-type": kind})
                for kind in (SLSA, SPDX)],
    )  # fmt: skip
    for one in (payload, statement):
        await house.push(one)
    entries = [
        descriptor(payload, OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
        descriptor(
            statement, OCI_MANIFEST, platform={"os": "unknown", "architecture": "unknown"},
            annotations={"vnd.docker.reference.type": "attestation-manifest"},
        ),
    ]  # fmt: skip
    digest = await house.push(index(manifests=entries, annotations={"a": "index"}), "multi", media_type=OCI_INDEX)
    (row,) = await house.artifacts.tag_page(await house.id_of(), Page(50))
    (attestation,) = row.attachments
    assert (attestation.purposes, attestation.names) == ((Purpose.SBOM, Purpose.PROVENANCE), ("SPDX", "SLSA"))
    assert [str(platform) for platform in row.artifact.platforms] == ["linux/amd64"]
    detail = await house.artifacts.detail(await house.id_of(), digest)
    assert [child.attests for child in detail.children] == [False, True]
    assert detail.children[0].total == len(payload) + len(BASE) + len(CONFIG)
    # The index speaks first, then the image for linux/amd64.
    assert detail.said == {"a": "index", "b": "label"}
    assert await house.artifacts.described(await house.id_of(), Digest(digest)) == detail.said
