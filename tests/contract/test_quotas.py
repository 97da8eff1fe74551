"""What is charged to a project: bytes as they arrive, each blob once, and everything given back that did not stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from app.access.errors import Forbidden, Invalid, Missing, PreconditionFailed
from app.database import quotas
from app.database.keyset import Page
from app.database.projects import Project
from app.database.quotas import QuotaExceeded, in_words
from app.oci.digest import Digest
from app.oci.errors import BlobUploadUnknown, DigestInvalid
from app.projects.fullness import FullnessWatch
from app.registry.uploads import Receiving
from tests.api.documents import EMPTY, image

from .house import House, body
from .rows import rows, unlink

MiB = 1024 * 1024
QUOTA = 100 * MiB
# More than a session takes before it asks.
BIG = b"big " * (MiB // 2)


@pytest.fixture
async def project(house: House) -> Project:
    return await house.projects.create(await house.admin(), name="physics", public=True, quota_bytes=QUOTA)


async def set_quota(house: House, project: Project, quota: int | None) -> None:
    await house.quotas.set(await house.admin(), project.id, quota)


@asynccontextmanager
async def receive(
    house: House, announced: int | None = None, name: str = "physics/app", *, resumable: bool = True
) -> AsyncIterator[Receiving]:
    repository = await house.open(name)
    session = await house.uploads.begin(repository)
    async with house.uploads.receive(repository, session, announced=announced, resumable=resumable) as receiving:
        yield receiving


async def send(house: House, upload_id: str, data: bytes, announced: int | None = None) -> None:
    """Do as one PATCH does."""
    repository = await house.open()
    session = await house.uploads.find(repository, upload_id)
    async with house.uploads.receive(repository, session, announced=announced) as receiving:
        await receiving.take(body(data))


async def close(house: House, upload_id: str, digest: Digest) -> None:
    """Do as a closing PUT without a body does."""
    repository = await house.open()
    async with house.uploads.receive(repository, await house.uploads.find(repository, upload_id)) as receiving:
        await receiving.commit(digest)


async def push(house: House, *pieces: bytes, announced: int | None = None) -> None:
    async with receive(house, announced) as receiving:
        for piece in pieces:
            await receiving.take(body(piece))
        await receiving.commit(Digest.of(b"".join(pieces)))


async def test_a_blob_is_charged_once(house: House, project: Project) -> None:
    for name in ("physics/app", "physics/tool", "physics/app"):
        await house.push_blob(BIG, to=name)
        assert await house.used(project.id) == len(BIG)
    await house.push_blob(b"small")
    assert await house.used(project.id) == len(BIG) + 5
    digest = Digest.of(BIG)
    await unlink(house.database, await house.id_of("physics/tool"), digest)
    assert await house.used(project.id) == len(BIG) + 5
    await unlink(house.database, await house.id_of(), digest)
    assert await house.used(project.id) == 5


async def test_what_is_announced_is_charged_at_once(house: House, project: Project) -> None:
    async with receive(house, announced=50 * MiB) as receiving:
        assert 50 * MiB <= await house.used(project.id) <= 66 * MiB
        with pytest.raises(QuotaExceeded, match=r"quota of physics: .* MiB of 100.0 MiB used, this needs .* MiB more"):
            await push(house, announced=60 * MiB)
        assert len(await rows(house.database, "SELECT id FROM upload")) == 1, "what does not fit has ended"
        await house.check_books()
        await receiving.take(body(BIG))
        await receiving.commit(Digest.of(BIG))
    assert await house.used(project.id) == len(BIG)


async def test_what_is_announced_and_small_is_refused_at_once(house: House, project: Project) -> None:
    await set_quota(house, project, 1000)
    with pytest.raises(QuotaExceeded) as refused:
        await push(house, announced=1001)
    assert refused.value.message.startswith("quota of physics: 0 B of 1000 B used, this needs 1001 B more")
    assert (refused.value.code, refused.value.answer_status) == ("DENIED", 403)
    await house.push_blob(b"x" * 1000)
    with pytest.raises(QuotaExceeded):
        await house.push_blob(b"y")
    assert await house.used(project.id) == 1000
    assert await rows(house.database, "SELECT id FROM upload") == []


async def test_bytes_are_charged_as_they_arrive(house: House, project: Project) -> None:
    sent = 0
    async with receive(house) as receiving:
        for _ in range(40):
            await receiving.take(body(BIG))
            sent += len(BIG)
            used = await house.used(project.id)
            assert sent <= used <= sent + 16 * MiB
    await house.check_books()


@pytest.mark.parametrize("announced", [True, False])
async def test_the_last_byte_of_a_quota(house: House, project: Project, announced: bool) -> None:
    await set_quota(house, project, 5 * len(BIG))
    await push(house, *[BIG] * 5, announced=5 * len(BIG) if announced else None)
    assert await house.used(project.id) == 5 * len(BIG)
    for known in (None, 1):
        with pytest.raises(QuotaExceeded):
            await push(house, b"y", announced=known)


async def test_what_does_not_fit_is_told_in_the_middle(house: House, project: Project) -> None:
    await set_quota(house, project, 5 * len(BIG) - 1)
    with pytest.raises(QuotaExceeded):  # noqa: PT012  # the fifth piece is refused
        async with receive(house) as receiving:
            for sent in range(5):
                assert await house.used(project.id) >= sent * len(BIG)
                await receiving.take(body(BIG))
    assert sent == 4
    assert await house.used(project.id) == 0


@pytest.mark.parametrize("resumable", [True, False])
async def test_what_a_failed_request_had_is_given_back(house: House, project: Project, resumable: bool) -> None:
    """Its session ends if nobody knows its address."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # some error that nobody foresaw
        async with receive(house, 50 * MiB, resumable=resumable) as receiving:
            await receiving.take(body(BIG))
            assert await house.used(project.id) >= 50 * MiB
            raise ZeroDivisionError
    assert await house.used(project.id) == 0
    assert len(await rows(house.database, "SELECT id FROM upload")) == resumable


async def test_what_had_a_wrong_digest_is_given_back(house: House, project: Project) -> None:
    with pytest.raises(DigestInvalid):  # noqa: PT012  # the commit is refused
        async with receive(house, 50 * MiB, resumable=False) as receiving:
            await receiving.take(body(BIG))
            await receiving.commit(Digest.of(b"else"))
    assert await house.used(project.id) == 0


@pytest.mark.parametrize("end", ["cancel", "idle", "killed"])
async def test_what_an_ended_session_had_is_given_back(house: House, project: Project, end: str) -> None:
    async with receive(house, 50 * MiB) as receiving:
        await receiving.take(body(BIG))
        if end == "killed":
            # A worker that is killed writes nothing more: what it had is known from the session's row.
            await receiving._writer.close()
            receiving._ended = True
    await house.check_books()
    if end == "cancel":
        await house.uploads.cancel(await house.open(), receiving.session.id)
    else:
        async with house.database.transaction() as transaction:
            await transaction.execute(text("UPDATE upload SET updated_at = 1"))
        await house.collection.collect()
    assert await house.used(project.id) == 0


async def test_a_session_that_goes_on_keeps_what_it_has(house: House, project: Project) -> None:
    """A client that left after a little of much: what it announced is given back, and charged anew when it is back."""
    repository = await house.open()
    session = await house.uploads.begin(repository)
    await send(house, session.id, BIG, announced=80 * MiB)
    assert len(BIG) <= await house.used(project.id) <= len(BIG) + 16 * MiB
    for _ in range(3):
        await send(house, session.id, BIG)
        await house.check_books()
    with pytest.raises(DigestInvalid):
        await close(house, session.id, Digest.of(b"else"))
    await close(house, session.id, Digest.of(BIG * 4))
    assert await house.used(project.id) == 4 * len(BIG)


async def test_a_session_that_does_not_fit_any_more_ends(house: House, project: Project) -> None:
    repository = await house.open()
    session = await house.uploads.begin(repository)
    await send(house, session.id, BIG)
    with pytest.raises(QuotaExceeded):
        await send(house, session.id, b"", announced=QUOTA)
    assert await house.used(project.id) == 0
    with pytest.raises(BlobUploadUnknown):
        await house.uploads.find(repository, session.id)


async def test_what_waits_in_a_session_is_charged(house: House, project: Project) -> None:
    """However little: many sessions that nobody ends would be much."""
    await set_quota(house, project, 2500)
    for number in (1, 2):
        async with receive(house) as receiving:
            await receiving.take(body(b"x" * 1000))
        assert await house.used(project.id) == number * 1000
    with pytest.raises(QuotaExceeded):
        async with receive(house) as receiving:
            await receiving.take(body(b"x" * 1000))
    assert len(await rows(house.database, "SELECT id FROM upload")) == 2
    assert await house.used(project.id) == 2000


async def test_many_at_once_never_exceed_it(house: House, project: Project) -> None:
    """Of eight that bring 3 x 2 MiB each, five fit into 30 MiB; charged in steps, a few less may get through."""
    await set_quota(house, project, 30 * MiB)

    async def push_watched(number: int) -> bool:
        content = [bytes([number]) * (2 * MiB)] * 3
        try:
            async with receive(house, name=f"physics/app{number % 3}") as receiving:
                for data in content:
                    await receiving.take(body(data))
                    assert await house.used(project.id) <= 30 * MiB
                await receiving.commit(Digest.of(b"".join(content)))
        except QuotaExceeded:
            return False
        return True

    outcomes = await asyncio.gather(*(push_watched(number) for number in range(8)))
    # In step, they can refuse each other all. What they had reserved is free again.
    outcomes.append(sum(outcomes) == 5 or await push_watched(8))
    assert outcomes[-1]
    assert sum(outcomes[:-1]) <= 5
    assert await house.used(project.id) == min(sum(outcomes), 5) * 6 * MiB


async def test_many_small_ones_at_once_never_exceed_it(house: House, project: Project) -> None:
    """They are charged with their commit, and exactly: as many get through as fit."""
    await set_quota(house, project, 5 * 1000 + 999)
    outcomes = await asyncio.gather(
        *(house.push_blob(bytes([number]) * 1000) for number in range(8)), return_exceptions=True
    )
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 3
    assert await house.used(project.id) == 5000


async def test_mounts(house: House, project: Project) -> None:
    """From within the project they are free, from another one they are charged."""
    other = await house.projects.create(await house.admin(), name="biology", public=True, quota_bytes=len(BIG) - 1)
    digest = await house.push_blob(BIG)
    assert await house.blobs.mount(await house.open("physics/tool"), digest, await house.open())
    assert await house.blobs.mount(await house.open("physics/third"), digest, None)
    assert await house.used(project.id) == len(BIG)
    with pytest.raises(QuotaExceeded, match="quota of biology"):
        await house.blobs.mount(await house.open("biology/app"), digest, await house.open())
    await set_quota(house, other, len(BIG))
    for name in ("biology/app", "biology/tool"):
        assert await house.blobs.mount(await house.open(name), digest, await house.open())
    assert await house.used(other.id) == len(BIG)


async def test_without_a_quota_nothing_is_asked(house: House, project: Project) -> None:
    await set_quota(house, project, None)
    async with receive(house, announced=1 << 50) as receiving:
        for _ in range(3):
            await receiving.take(body(BIG))
        assert await house.used(project.id) == 0
        await receiving.commit(Digest.of(BIG * 3))
    assert await house.used(project.id) == 3 * len(BIG)


async def test_a_quota_that_comes_while_bytes_arrive(house: House, project: Project) -> None:
    await set_quota(house, project, None)
    with pytest.raises(QuotaExceeded):  # noqa: PT012  # the commit is refused
        async with receive(house) as receiving:
            await receiving.take(body(BIG))
            await set_quota(house, project, len(BIG) - 1)
            await receiving.commit(Digest.of(BIG))
    assert await house.used(project.id) == 0
    async with receive(house) as receiving:
        await set_quota(house, project, None)
        await receiving.take(body(BIG))
        await receiving.commit(Digest.of(BIG))
    assert await house.used(project.id) == len(BIG)


async def test_a_mirror_is_charged_and_never_refused(house: House) -> None:
    admin = await house.admin()
    hub = await house.projects.create(admin, name="hub", public=True, upstream="docker.io")
    await house.push_blob(BIG, to="hub/library/redis")
    assert await house.used(hub.id) == len(BIG)
    with pytest.raises(Invalid, match="cache size"):
        await house.quotas.set(admin, hub.id, 5)


async def test_who_may_set_what(house: House, project: Project) -> None:
    mari, admin = await house.person("mari"), await house.admin()
    await house.push_blob(b"x" * 3000)
    assert (await house.quotas.set(mari, project.id, 3000)).quota_bytes == 3000
    with pytest.raises(PreconditionFailed, match=r"uses 2.9 KiB already"):
        await house.quotas.set(mari, project.id, 2999)
    assert (await house.quotas.set(admin, project.id, 2999)).quota_bytes == 2999
    with pytest.raises(QuotaExceeded):
        await house.push_blob(b"y")
    for quota in (None, 10_001):
        with pytest.raises(Forbidden):
            await house.quotas.set(mari, project.id, quota)
    for quota in (-1, 1 << 64):
        with pytest.raises(Invalid):
            await house.quotas.set(admin, project.id, quota)
    for number in (4711, -1, 1 << 80):
        with pytest.raises(Missing):
            await house.quotas.set(admin, number, 5)
    assert (await house.quotas.set(admin, project.id, None)).quota_bytes is None


async def test_a_warning_from_85_percent_on(house: House, project: Project) -> None:
    await set_quota(house, project, 1000)
    await house.push_blob(b"x" * 849)
    assert await house.quotas.warning(project.id) is None
    await house.push_blob(b"y")
    assert await house.quotas.warning(project.id) == "quota of physics: 850 B of 1000 B used"
    await set_quota(house, project, 0)
    assert (await house.quotas.usage(project.id)).share == 1
    await set_quota(house, project, None)
    assert await house.quotas.warning(project.id) is None
    assert (await house.quotas.usage(project.id)).share == 0


async def test_pages_of_quotas(house: House, project: Project) -> None:
    other = await house.project("biology", by=await house.person("mari"))
    await house.push_blob(b"x", to="biology/app")
    assert [usage.project for usage in await house.database.read(quotas.page, Page(50))] == ["physics", "biology"]
    assert [
        usage.project for usage in await house.database.read(quotas.page, Page(50, sort=(("used.storage", True),)))
    ] == [
        "biology",
        "physics",
    ]
    (found,) = await house.database.read(quotas.page, Page(50, project.id))
    assert (found.project_id, found.owner, found.used_bytes, found.quota_bytes) == (other.id, "mari", 1, 1000)
    assert (
        await house.database.read(quotas.page, Page(50, offset=1))
        == await house.database.read(quotas.page, Page(50, search="BIO"))
        == [found]
    )
    assert (
        (await house.database.read(quotas.total)).number,
        (await house.database.read(quotas.total, search="bio")).number,
    ) == (2, 1)


async def test_a_deleted_repository_gives_its_part_back(house: House, project: Project) -> None:
    for name in ("physics/app", "physics/tool"):
        await house.push_blob(EMPTY, to=name)
    for number in range(3):
        await house.push_blob(bytes([number]) * 100)
        await house.push(image(bytes([number]) * 100), f"v{number}")
    await house.push_blob(BIG)
    repository_id = await house.id_of()
    with pytest.raises(BlobUploadUnknown):  # noqa: PT012  # the commit is refused
        async with receive(house, announced=10 * MiB) as held:
            await house.repositories.remove(repository_id)
            assert await house.used(project.id) == len(EMPTY)
            await held.commit(Digest.of(b""))
    with pytest.raises(Missing):
        await house.repositories.remove(repository_id)
    await house.push_blob(BIG)
    assert await house.id_of() != repository_id or house.database.is_sqlite
    assert await house.used(project.id) == len(EMPTY) + len(BIG)


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (MiB - 1, "1.0 MiB"), (1288490189, "1.2 GiB")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words


async def test_how_full_quotas_are_is_counted(house: House) -> None:
    admin = await house.admin()
    allowed = {"empty": 1000, "half": 1000, "most": 1000, "full": 1000, "frozen": 0, "free": None}
    for name, quota in allowed.items():
        await house.projects.create(admin, name=name, public=True, quota_bytes=quota)
    for name, size in {"half": 500, "most": 900, "full": 1000, "free": 9000}.items():
        await house.push_blob(name.encode()[-1:] * size, to=f"{name}/app")
    async with house.database.reading() as transaction:
        found = await quotas.fullness(transaction, (0.0, 0.85, 0.95))
    assert found == quotas.Fullness(used_bytes=2400, allowed_bytes=4000, fullest=1.0, above=(3, 2, 1))


async def test_how_full_quotas_are_is_shown(house: House, project: Project) -> None:
    await house.push_blob(bytes(int(QUOTA * 0.9)))
    await FullnessWatch(house.database).look()
    assert REGISTRY.get_sample_value("registry_quota_projects", {"above": "0.85"}) == 1
    assert REGISTRY.get_sample_value("registry_quota_projects", {"above": "0.95"}) == 0
    assert REGISTRY.get_sample_value("registry_quota_fullest_ratio") == pytest.approx(0.9, abs=0.001)
    assert REGISTRY.get_sample_value("registry_quota_allowed_bytes") == QUOTA
