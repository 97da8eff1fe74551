"""What manifests and tags are charged: once when they come, given back when they go, in any order and at once."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from sqlalchemy import text

from app.access.errors import Conflict
from app.database import Transaction, manifests, tag_history, uncharged
from app.database.backfills import Backfills
from app.database.keyset import Page
from app.database.projects import Project
from app.database.quotas import ROW_BYTES, QuotaExceeded
from app.oci.digest import Digest
from app.oci.errors import ManifestBlobUnknown, ManifestUnknown, OCIError
from app.oci.manifest import OCI_INDEX, OCI_MANIFEST
from app.oci.reference import Tag
from app.projects.service import Repository
from tests.api.documents import EMPTY, image

from .house import House, body
from .rows import charged_rows, rows


@pytest.fixture
async def project(house: House) -> Project:
    project = await house.projects.create(await house.admin(), name="physics", public=True, quota_bytes=1 << 30)
    await house.push_blob(EMPTY)
    return project


def annotated(seed: object, **annotations: str) -> bytes:
    document: dict[str, Any] = json.loads(image(EMPTY))
    return json.dumps(document | {"annotations": {"seed": str(seed), **annotations}}).encode()


async def put(house: House, payload: bytes, *tags: str, to: str = "physics/app", kind: str = OCI_MANIFEST) -> Digest:
    digest = Digest.of(payload)
    await house.manifests.put(await house.open(to), digest, [Tag.parse(tag) for tag in tags], kind, payload)
    return digest


async def set_quota(house: House, project: Project, quota: int) -> None:
    await house.quotas.set(await house.admin(), project.id, quota)


async def test_a_manifest_is_charged_with_all_that_is_kept_of_it(house: House, project: Project) -> None:
    before = await house.used(project.id)
    payload = annotated(1, text="a" * 10_000)
    await put(house, payload)
    cost = await house.used(project.id) - before
    # The annotations are kept twice; there is a row for the manifest, and one for each part.
    assert cost >= len(payload) + 10_000 + 2 * ROW_BYTES
    await put(house, payload)
    assert await house.used(project.id) == before + cost, "pushed again"
    await put(house, payload, "v1", "v2")
    assert await house.used(project.id) == before + cost + 2 * ROW_BYTES
    await put(house, payload, "v2", "v3")
    assert await house.used(project.id) == before + cost + 3 * ROW_BYTES
    await house.push_blob(EMPTY, to="physics/tool")
    await put(house, payload, to="physics/tool")
    assert await house.used(project.id) == before + 2 * cost + 3 * ROW_BYTES, "another repository has another copy"


async def test_an_index_is_charged_for_each_child(house: House, project: Project) -> None:
    children = [await put(house, annotated(number)) for number in range(30)]
    before = await house.used(project.id)
    entries = [
        {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(annotated(number))}
        for number, digest in enumerate(children)
    ]
    payload = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    await put(house, payload, kind=OCI_INDEX)
    assert await house.used(project.id) >= before + len(payload) + 31 * ROW_BYTES


async def test_layers_that_are_not_sent_are_charged(house: House, project: Project) -> None:
    """A manifest may name any number of foreign layers that are not here; each has a row."""
    before = await house.used(project.id)
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    layers = [
        {"mediaType": kind, "digest": Digest.of(str(number).encode()), "size": 1, "urls": ["http://x"]}
        for number in range(1000)
    ]
    payload = json.dumps(json.loads(image(EMPTY)) | {"layers": layers}).encode()
    await put(house, payload)
    (counted,) = await rows(house.database, "SELECT count(*) FROM part")
    assert counted[0] >= 1000
    assert await house.used(project.id) >= before + len(payload) + 1000 * ROW_BYTES


async def test_everything_is_given_back(house: House, project: Project) -> None:
    before = await house.used(project.id)
    repository = await house.open()
    for how in ("tags", "manifest", "artifact", "repository"):
        digest = await put(house, annotated(how), "v1", "v2", "v3")
        await house.artifacts.add_tag(await house.id_of(), digest, Tag.parse("v4"))
        assert await house.used(project.id) > before + 5 * ROW_BYTES
        if how == "tags":
            for tag in ("v1", "v2"):
                await house.manifests.delete(await house.open(), Tag.parse(tag))
            for tag in ("v3", "v4"):
                await house.artifacts.remove_tag(await house.id_of(), digest, Tag.parse(tag))
            await house.manifests.delete(await house.open(), digest)
        elif how == "manifest":
            await house.manifests.delete(await house.open(), digest)
        elif how == "artifact":
            await house.artifacts.remove(await house.id_of(), digest)
        else:
            await house.repositories.remove(await house.id_of())
            before -= len(EMPTY)
        async with house.database.transaction() as transaction:
            # The history of the tags is the last to go.
            await tag_history.remove_older(transaction, time.time() + 1, 100)
        assert await house.used(project.id) == before, how
        await house.check_books()
    assert repository.project_id == project.id


async def test_a_label_on_an_artifact_is_charged(house: House, project: Project) -> None:
    before = await house.used(project.id)
    digest = await put(house, annotated(1))
    repository_id, used = await house.id_of(), await house.used(project.id)
    labels = [await house.labels.create(project.id, name=f"label {number:02}") for number in range(51)]
    for label in labels[:50]:
        await house.labels.attach(project.id, repository_id, digest, label.id)
    assert await house.used(project.id) == used + 50 * ROW_BYTES
    with pytest.raises(Conflict, match="50 labels"):
        await house.labels.attach(project.id, repository_id, digest, labels[50].id)
    await house.labels.detach(repository_id, digest, labels[0].id)
    await house.labels.remove(labels[1].id)
    assert await house.used(project.id) == used + 48 * ROW_BYTES
    await set_quota(house, project, used + 48 * ROW_BYTES)
    with pytest.raises(QuotaExceeded):
        await house.labels.attach(project.id, repository_id, digest, labels[0].id)
    await house.artifacts.remove(repository_id, digest)
    assert await house.used(project.id) == before


async def test_a_list_shows_a_little_of_each_artifact(house: House, project: Project) -> None:
    annotations = {f"name{number}": "ä" * 300 for number in range(12)}
    small = await put(house, annotated("small", few="words"))
    some = await put(house, annotated("some", **annotations))
    large = await put(house, annotated("large", text="a" * 4_000_000))
    for number in range(12):
        label = await house.labels.create(project.id, name=f"label {number:02}")
        await house.labels.attach(project.id, await house.id_of(), some, label.id)
    listed = {one.digest: one for one in await house.artifacts.page(await house.id_of(), Page(50))}
    assert listed[small].annotations == {"seed": "small", "few": "words"}
    assert 1 < len(listed[some].annotations) < 13
    assert len(json.dumps(dict(listed[some].annotations))) < 5000
    assert [label.name for label in listed[some].labels] == [f"label {number:02}" for number in range(10)]
    assert listed[large].annotations == {}
    for digest, number in ((some, 13), (large, 2)):
        detail = await house.artifacts.detail(await house.id_of(), digest)
        assert len(detail.artifact.annotations) == number
    assert len((await house.artifacts.find(await house.id_of(), some)).labels) == 12


async def test_a_list_adds_up_a_bounded_number_of_parts(
    house: House, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.database.artifacts.MOST_PARTS", 5)
    monkeypatch.setattr("app.registry.artifacts._CHILDREN_SHOWN", 4)
    children = [await put(house, annotated(number)) for number in range(9)]
    entries = [{"mediaType": OCI_MANIFEST, "digest": digest, "size": len(annotated(0))} for digest in children]
    payload = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    digest = await put(house, payload, kind=OCI_INDEX)
    (listed,) = await house.artifacts.page(await house.id_of(), Page(50))
    assert listed.size == len(payload) + 5 * len(annotated(0)) + len(EMPTY)
    detail = await house.artifacts.detail(await house.id_of(), digest)
    assert [child.digest for child in detail.children] == children[:4]


async def test_what_is_collected_is_given_back(house: House, project: Project) -> None:
    first = await put(house, annotated(1), "latest")
    charged = await charged_rows(house.database, project.id)
    await put(house, annotated(2), "latest")
    async with house.database.transaction() as transaction:
        await transaction.execute(text("UPDATE review SET review_at = 1"))
    await house.collection.collect()
    with pytest.raises(ManifestUnknown):
        await house.manifests.delete(await house.open(), first)
    assert await charged_rows(house.database, project.id) == charged + ROW_BYTES, "the tag's history has an entry"


async def test_what_does_not_fit_leaves_nothing(house: House, project: Project) -> None:
    payload = annotated(1)
    digest = await put(house, payload)
    used = await house.used(project.id)
    await set_quota(house, project, used + ROW_BYTES - 1)
    for attempt in (
        put(house, payload, "v1"),
        house.artifacts.add_tag(await house.id_of(), digest, Tag.parse("v1")),
        put(house, annotated(2)),
        put(house, annotated(3), "v3", to="physics/new"),
    ):
        with pytest.raises((QuotaExceeded, ManifestBlobUnknown)):
            await attempt
    assert await rows(house.database, "SELECT name FROM tag") == []
    assert await house.used(project.id) == used
    await set_quota(house, project, used + ROW_BYTES)
    await put(house, payload, "v1")
    # A tag that moves between manifests that are here costs nothing.
    await put(house, payload, "v1")
    assert await house.used(project.id) == used + ROW_BYTES


async def test_at_the_edge_of_the_quota_as_many_get_in_as_fit(house: House, project: Project) -> None:
    before = await house.used(project.id)
    await put(house, annotated(10))
    one = await house.used(project.id) - before
    await set_quota(house, project, before + 4 * one + one // 2)
    outcomes = await asyncio.gather(
        *(put(house, annotated(number)) for number in range(11, 19)), return_exceptions=True
    )
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 5
    assert await house.used(project.id) == before + 4 * one


class Chance:
    """Somebody who pushes to and deletes from three repositories of two projects, at random."""

    _NAMES = ("physics/app", "physics/tool", "biology/app")
    _BLOBS = (EMPTY, b"a layer" * 100, b"another layer" * 50)
    _PAYLOADS = tuple(annotated(number) for number in range(4))

    def __init__(self, house: House, seed: int, label_id: int) -> None:
        self._house, self._random, self._label_id = house, random.Random(seed), label_id

    async def act(self) -> None:
        """Do one thing. It may be refused, because somebody else has removed what it needs, or by the quota."""
        what = self._random.choice(
            [self._put] * 4 + [self._push, self._mount, self._leave, self._tag, self._label, self._cancel]
            + [self._delete, self._untag, self._unlink, self._collect, self._remove]
        )  # fmt: skip
        with suppress(OCIError):
            await what(await self._house.open(self._random.choice(self._NAMES)))

    def _payload(self) -> bytes:
        return self._random.choice(self._PAYLOADS)

    def _name(self) -> Tag:
        return Tag(f"t{self._random.randrange(3)}")

    async def _put(self, repository: Repository) -> None:
        await put(self._house, self._payload(), self._name(), to=str(repository.name))

    async def _push(self, repository: Repository) -> None:
        await self._house.push_blob(self._random.choice(self._BLOBS), to=str(repository.name))

    async def _mount(self, repository: Repository) -> None:
        source = await self._house.open(self._random.choice(self._NAMES))
        await self._house.blobs.mount(repository, Digest.of(self._random.choice(self._BLOBS)), source)

    async def _leave(self, repository: Repository) -> None:
        session = await self._house.uploads.begin(repository)
        async with self._house.uploads.receive(repository, session) as receiving:
            await receiving.take(body(b"unfinished" * 50))

    async def _cancel(self, repository: Repository) -> None:
        for (upload_id,) in await rows(self._house.database, "SELECT id FROM upload LIMIT 1"):
            await self._house.uploads.cancel(repository, upload_id)

    async def _tag(self, repository: Repository) -> None:
        if repository.id is not None:
            await self._house.artifacts.add_tag(repository.id, Digest.of(self._payload()), self._name())

    async def _label(self, repository: Repository) -> None:
        if repository.id is not None:
            digest, project_id = Digest.of(self._payload()), repository.project_id
            await self._house.labels.attach(project_id, repository.id, digest, self._label_id)

    async def _delete(self, repository: Repository) -> None:
        await self._house.manifests.delete(repository, Digest.of(self._payload()))

    async def _untag(self, repository: Repository) -> None:
        await self._house.manifests.delete(repository, self._name())

    async def _unlink(self, repository: Repository) -> None:
        await self._house.blobs.delete(repository, Digest.of(self._random.choice(self._BLOBS)))

    async def _collect(self, _: Repository) -> None:
        async def all_are_due(transaction: Transaction) -> None:
            await transaction.execute(text("UPDATE review SET review_at = 1"))

        # It locks the rows in any order. So it may have to be repeated, as the service's own transactions are.
        await self._house.database.transact(all_are_due)
        await self._house.collection.collect()

    async def _remove(self, repository: Repository) -> None:
        if repository.id is not None:
            await self._house.repositories.remove(repository.id)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 10))])
async def test_any_order_of_pushes_and_deletions_at_once(house: House, project: Project, seed: int) -> None:
    # Its quota is full now and then.
    other = await house.projects.create(await house.admin(), name="biology", public=True, quota_bytes=8_000)
    label = await house.labels.create(None, name="tested")
    for name in ("physics/app", "physics/tool", "biology/app"):
        await house.push_blob(EMPTY, to=name)

    async def act(number: int) -> None:
        chance = Chance(house, seed * 100 + number, label.id)
        for _ in range(12):
            await chance.act()

    for _ in range(3):
        await asyncio.gather(*map(act, range(5)))
        await house.check_books()
        assert await rows(house.database, _WRONG) == []
    await house.labels.remove(label.id)
    await house.check_books()
    await house.projects.remove(other.id)
    assert await rows(house.database, "SELECT name FROM project") == [("physics",)]
    for (repository_id,) in await rows(house.database, "SELECT id FROM repository"):
        await house.repositories.remove(repository_id)
    assert await house.used(project.id) == 0


# Manifests that are charged for other than their payload, the copy of their annotations, and their rows.
_WRONG = f"""
SELECT digest FROM manifest WHERE charged_bytes <> length(payload) + length(CAST(annotations AS TEXT)) + {ROW_BYTES}
    * (1 + (SELECT count(*) FROM part WHERE part.repository_id = manifest.repository_id AND manifest = manifest.digest))
"""


async def test_rows_of_an_older_release_are_charged(house: House, project: Project) -> None:
    """A full quota refuses no row that is here already. A row that is removed before its charge returns no bytes."""
    before = await house.used(project.id)
    many = [await put(house, annotated(number, text="b" * number), f"v{number}") for number in range(120)]
    label = await house.labels.create(project.id, name="tested")
    await house.labels.attach(project.id, await house.id_of(), many[5], label.id)
    used = await house.used(project.id)
    async with house.database.transaction() as transaction:
        for table in ("manifest", "tag", "manifest_label"):
            await transaction.execute(text(f"UPDATE {table} SET charged_bytes = NULL"))
        await transaction.execute(text(f"UPDATE project SET used_bytes = {before}, quota_bytes = {before}"))
        await manifests.remove(transaction, await house.id_of(), many.pop())
        await manifests.remove_tag(transaction, await house.id_of(), "v0")
    assert await house.used(project.id) == before
    await Backfills(house.database).work()
    await house.check_books()
    assert before + (used - before) * 118 / 120 < await house.used(project.id) < used
    await Backfills(house.database).work()
    await house.check_books()
    await house.repositories.remove(await house.id_of())
    assert await house.used(project.id) == 0


async def test_a_batch_has_few_large_rows_and_none_that_a_request_has_locked(house: House, project: Project) -> None:
    texts = {number: "a" * (600_000 if number < 3 else 10) for number in range(8)}
    digests = [await put(house, annotated(number, text=texts[number])) for number in texts]
    async with house.database.transaction() as transaction:
        await transaction.execute(text("UPDATE manifest SET charged_bytes = NULL"))
        await transaction.execute(text(f"UPDATE project SET used_bytes = {len(EMPTY)}"))
    left = {digest: len(texts[number]) for number, digest in enumerate(digests)}
    batches = []
    locked = min(left)
    async with AsyncExitStack() as stack:
        if not house.database.is_sqlite:
            other = await stack.enter_async_context(house.database.transaction())
            # As its removal does.
            await other.execute(text(f"SELECT 1 FROM manifest WHERE digest = '{locked}' FOR UPDATE"))
        while True:
            async with house.database.transaction() as transaction:
                if not await uncharged.charge_some(transaction):
                    break
            here = await rows(house.database, "SELECT digest FROM manifest WHERE charged_bytes IS NULL")
            batches.append(sum(left.pop(digest) for digest in set(left) - {row[0] for row in here}))
    assert max(batches) < 1_300_000
    assert set(left) == (set() if house.database.is_sqlite else {locked})
    await Backfills(house.database).work()
    await house.check_books()


async def test_rows_are_charged_beside_pushes_and_deletions(house: House, project: Project) -> None:
    digests = [await put(house, annotated(number), f"v{number % 40}") for number in range(150)]
    async with house.database.transaction() as transaction:
        for table in ("manifest", "tag", "manifest_label"):
            await transaction.execute(text(f"UPDATE {table} SET charged_bytes = NULL"))
        moves = (await transaction.execute(text("SELECT count(*) FROM tag_history"))).scalar_one()
        used = len(EMPTY) + moves * ROW_BYTES
        await transaction.execute(text(f"UPDATE project SET used_bytes = {used}"))

    async def delete() -> None:
        for digest in digests[::-3]:
            await house.manifests.delete(await house.open(), digest)

    async def push() -> None:
        for number in range(20):
            await put(house, annotated(number), f"v{number}", "new")

    await asyncio.gather(Backfills(house.database).work(), delete(), push())
    await Backfills(house.database).work()
    await house.check_books()
