"""What the upstream still gives is spent to the last pull and not beyond, whoever asks, whatever becomes of Redis."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.api.client import Registry
from tests.images import OCI_MANIFEST, Image, digest_of, multi, single
from tests.parts.process import eventually
from tests.parts.service import Service
from tests.parts.valkey import Valkey
from tests.upstream.client import Hub

from .client import Answer, Client
from .conftest import clean_log
from .crowd import crowd
from .inside import committed

WARM = "library/warm"
_numbers = itertools.count(1)


@pytest.fixture
def limited(hub: Hub) -> Hub:
    """The upstream with a hundred pulls in six hours, as Docker Hub has it for who does not log in."""
    hub.limit(100)
    return hub


@pytest.fixture(scope="module")
def started(hub_process: Hub, valkey_process: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    overrides = {"projects": {"mirror": {"upstream": "docker.io"}, "lab": {}}}
    folder = tmp_path_factory.mktemp("budget")
    with Service(
        folder, upstream=hub_process.url, processes=2, redis=valkey_process.url, overrides=overrides, hurried=True
    ) as service:
        yield service


@pytest.fixture
def budgeted(limited: Hub, valkey: Valkey, started: Service) -> Iterator[Service]:
    """Two workers with a Redis that a test may break, and that has just forgotten what it knew of the budget."""
    with clean_log(started):
        yield started


@pytest.fixture
async def warm(limited: Hub, budgeted: Service) -> Image:
    """An image that is cached."""
    image = limited.add(multi("warm"), WARM, "1")
    async with Client(budgeted.url) as client:
        await client.pull(f"mirror/{WARM}", "1", image)
    await committed(budgeted)
    return image


def cold(hub: Hub, number: int) -> list[str]:
    """Put images of one manifest each under names that nobody has asked for."""
    names = [f"library/cold{next(_numbers)}" for _ in range(number)]
    for name in names:
        hub.add(single(name, sizes=(100,)), name, "1")
    return names


def leave(hub: Hub, valkey: Valkey, count: int) -> int:
    """Have the upstream give ``count`` more, and the service know no better than it says; gives what it has given."""
    hub.leave(count)
    valkey.flush()
    return hub.counters().get_manifest


def refused_in_words(answer: Answer) -> bool:
    """Say whether a pull was refused for want of budget; AssertionError where that was not said as it should be."""
    if answer.status == 200:
        return False
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS"), answer
    # Those who wait in the queue may be promised a later window.
    assert 1 <= int(answer.headers["Retry-After"]) <= 8 * 21600
    assert "cached content can still be pulled" in answer.words
    return True


@asynccontextmanager
async def pulling(do: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Do something over and over beside the block, and once more when it is through."""
    over = asyncio.Event()

    async def repeat() -> None:
        while not over.is_set():
            await do()
        await do()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        over.set()
        await task


@pytest.mark.parametrize(
    "spends", [pytest.param(0, marks=pytest.mark.long, id="alone"), pytest.param(3, id="another-spends-too")]
)
async def test_ten_left(limited: Hub, budgeted: Service, valkey: Valkey, warm: Image, spends: int) -> None:
    names = cold(limited, 100)
    limited.pace(latency=0.02)
    given = leave(limited, valkey, 10)

    async def disturb() -> None:
        for step in range(1, max(2, spends + 1)):

            async def some(wanted: int = given + step) -> bool:
                return limited.counters().get_manifest >= wanted

            await eventually(some, what="a few cold pulls")
            if step == 1:
                valkey.flush()
            if spends:
                limited.spend(1)

    async with crowd(budgeted, 50) as clients:

        async def warm_pulls(client: Client) -> None:
            for _ in range(5):
                await client.pull(f"mirror/{WARM}", "1", warm)

        async def cold_pulls(position: int) -> list[Answer]:
            return [await clients[position].manifest(f"mirror/{name}", "1") for name in names[position::50]]

        answers, _, _ = await asyncio.gather(
            asyncio.gather(*map(cold_pulls, range(50))), asyncio.gather(*map(warm_pulls, clients)), disturb()
        )
    refused = [refused_in_words(answer) for of_one in answers for answer in of_one]
    asked = limited.counters()
    served = refused.count(False)
    assert served == asked.get_manifest - given
    if spends:
        # Nobody can know of what another one spends at this very moment; the first refusal tells us.
        assert asked.get_manifest_429 <= 1
        assert 10 - spends <= served <= 10
    else:
        assert asked.get_manifest_429 == 0
        assert served == 10


async def test_an_index_is_not_begun_that_could_not_be_ended(limited: Hub, budgeted: Service, valkey: Valkey) -> None:
    images = {f"library/multi{number}": multi(f"multi {number}") for number in range(3)}
    for name, image in images.items():
        limited.add(image, name, "1")
    (first, one), (second, two), (third, _) = images.items()
    async with crowd(budgeted, 3) as clients:
        leave(limited, valkey, 1)
        assert refused_in_words(await clients[0].manifest(f"mirror/{first}", "1"))
        assert limited.counters().get_manifest == 0
        leave(limited, valkey, 3)
        await clients[0].pull_manifest(f"mirror/{first}", "1", one.digest, one)
        # One is left besides the one promised to the image that was begun.
        refused, _ = await asyncio.gather(
            clients[1].manifest(f"mirror/{second}", "1"), clients[0].pull(f"mirror/{first}", "1", one)
        )
        assert refused_in_words(refused)
        assert refused_in_words(await clients[2].manifest(f"mirror/{third}", "1"))
        leave(limited, valkey, 2)
        await clients[1].pull(f"mirror/{second}", "1", two)
    assert (limited.counters().get_manifest, limited.counters().get_manifest_429) == (4, 0)


async def test_what_is_not_counted_is_pulled_when_nothing_is_left(
    limited: Hub, budgeted: Service, valkey: Valkey
) -> None:
    names, image = cold(limited, 2), multi("sponsored")
    limited.add(image, "library/sponsored", "1")
    limited.uncount("library/sponsored")
    async with crowd(budgeted, 2) as clients:
        leave(limited, valkey, 1)
        assert not refused_in_words(await clients[0].manifest(f"mirror/{names[0]}", "1"))
        assert refused_in_words(await clients[0].manifest(f"mirror/{names[1]}", "1"))
        await asyncio.gather(*(client.pull("mirror/library/sponsored", "1", image) for client in clients))
        # What was not counted taught nothing: the rest is still known.
        assert refused_in_words(await clients[1].manifest(f"mirror/{names[1]}", "1"))
        metrics = (await clients[0].ask("GET", "/metrics")).body.decode()
    asked = limited.counters()
    assert (asked.get_manifest, asked.get_manifest_uncounted, asked.get_manifest_429) == (1, 2, 0)
    gauges = [line for line in metrics.splitlines() if line.startswith("registry_budget_limit{")]
    assert gauges
    assert not any(line.endswith("Inf") for line in gauges)


async def test_an_image_that_is_counted_from_now_on_is_reserved(
    limited: Hub, budgeted: Service, valkey: Valkey
) -> None:
    first, second, third = (single(f"moves {number}", sizes=(100,)) for number in range(3))
    limited.add(first, "library/moves", "1")
    limited.add(second, "library/moves", "2")
    limited.add(third, "library/moves", "3")
    limited.uncount("library/moves")
    async with crowd(budgeted, 1) as (client,):
        leave(limited, valkey, 1)
        await client.pull("mirror/library/moves", "1", first)
        limited.count("library/moves")
        assert not refused_in_words(await client.manifest("mirror/library/moves", "2"))
        assert refused_in_words(await client.manifest("mirror/library/moves", "3"))
    asked = limited.counters()
    assert (asked.get_manifest, asked.get_manifest_uncounted, asked.get_manifest_429) == (1, 1, 0)


async def test_askers_of_an_index_alone_leave_nothing_unused(limited: Hub, budgeted: Service, valkey: Valkey) -> None:
    names = [f"library/only{next(_numbers)}" for _ in range(40)]
    for name in names:
        limited.add(multi(name), name, "1")
    async with crowd(budgeted, 40) as clients:
        leave(limited, valkey, 10)
        answers = await asyncio.gather(
            *(client.manifest(f"mirror/{name}", "1") for client, name in zip(clients, names, strict=True))
        )
    served = [refused_in_words(answer) for answer in answers].count(False)
    asked = limited.counters()
    # An index that could not be ended is not begun, so the very last GET waits for an image of one manifest.
    assert served == asked.get_manifest == 9
    assert asked.get_manifest_429 == 0


async def test_thirty_left_for_clients_of_all_kinds_at_once(limited: Hub, budgeted: Service, valkey: Valkey) -> None:
    """Manifests that are refused, images that are not counted, askers of an index alone, and a thief.

    No GET exceeds what the upstream gives. None stays unused, because more clients ask than it has pulls for.
    """
    names, indexes, stolen = cold(limited, 40), _put(limited, multi, 8), 5
    refused = _put(limited, _no_json, 1) | _put(limited, _schema_1, 1)
    sponsored = _put(limited, multi, 3)
    for name in sponsored:
        limited.uncount(name)
    limited.pace(latency=0.02)
    given = leave(limited, valkey, 30)
    answers: list[Answer] = []

    async with crowd(budgeted, 52) as (stubborn, *clients):

        async def retry() -> None:
            answers.extend([await stubborn.manifest(f"mirror/{name}", "1") for name in refused])

        async def steal() -> None:
            async def some() -> bool:
                return limited.counters().get_manifest > given + len(refused)

            await eventually(some, what="a pull")
            limited.spend(stolen)

        async def ask(clients: list[Client], names: Iterable[str]) -> list[Answer]:
            asked = (client.manifest(f"mirror/{name}", "1") for client, name in zip(clients, names, strict=True))
            return await asyncio.gather(*asked)

        async def pull_sponsored(client: Client, name: str) -> None:
            await client.pull(f"mirror/{name}", "1", sponsored[name])

        await retry()
        async with pulling(retry):
            of_indexes, of_images, *_ = await asyncio.gather(
                ask(clients[:8], indexes),
                ask(clients[8:48], names),
                steal(),
                asyncio.gather(*map(pull_sponsored, clients[48:], sponsored)),
            )
        ((late, image),) = _put(limited, multi, 1).items()
        limited.uncount(late)
        await clients[0].pull(f"mirror/{late}", "1", image)

    asked = limited.counters()
    assert asked.get_manifest - given == 30 - stolen
    # Nobody can know of a thief at this very moment; the first refusal tells us.
    assert asked.get_manifest_429 <= 1
    assert asked.get_manifest_uncounted == 2 * (len(sponsored) + 1)
    assert 200 in {answer.status for answer in of_indexes}
    served = [refused_in_words(answer) for answer in of_indexes + of_images].count(False)
    # However often it is asked for, a manifest that cannot be used costs once.
    assert served == 30 - stolen - len(refused)
    assert {answer.status for answer in answers} == {404, 502}


def _put(hub: Hub, make: Callable[[str], Image], number: int) -> dict[str, Image]:
    """Put images under names that nobody has asked for."""
    names = [f"library/kind{next(_numbers)}" for _ in range(number)]
    return {name: hub.add(make(name), name, "1") for name in names}


def _no_json(seed: str) -> Image:
    return _unusable(seed.encode())


def _schema_1(seed: str) -> Image:
    return _unusable(json.dumps({"schemaVersion": 1, "name": seed, "fsLayers": [], "history": []}).encode())


def _unusable(payload: bytes) -> Image:
    """Make an image whose manifest, labelled like any other one, cannot be used."""
    digest = digest_of(payload)
    return Image({}, {digest: (OCI_MANIFEST, payload)}, digest)


async def test_a_greedy_client_does_not_starve_a_modest_one(limited: Hub, budgeted: Service, valkey: Valkey) -> None:
    names, (first, *modest_names) = cold(limited, 60), cold(limited, 5)
    limited.pace(latency=0.1)
    given = leave(limited, valkey, 21)
    async with crowd(budgeted, 2) as (greedy, modest):

        async def modestly() -> list[Answer]:
            async def begun() -> bool:
                return limited.counters().get_manifest >= given + 8

            await eventually(begun, what="the greedy one to have had most of its share")
            return [await modest.manifest(f"mirror/{name}", "1") for name in modest_names]

        # It is known by now: who is alone may have everything before another one is heard of.
        assert not refused_in_words(await modest.manifest(f"mirror/{first}", "1"))
        answers, modest_answers = await asyncio.gather(
            asyncio.gather(*(greedy.manifest(f"mirror/{name}", "1") for name in names)), modestly()
        )
    assert [refused_in_words(answer) for answer in modest_answers] == [False] * 4
    served = [refused_in_words(answer) for answer in answers].count(False)
    assert served == 10
    assert any("you have had your share" in answer.words for answer in answers if answer.status == 429)
    assert limited.counters().get_manifest_429 == 0


async def test_who_is_alone_may_have_it_all(limited: Hub, budgeted: Service, valkey: Valkey) -> None:
    names = cold(limited, 16)
    leave(limited, valkey, 12)
    async with crowd(budgeted, 1) as (client,):
        answers = await asyncio.gather(*(client.manifest(f"mirror/{name}", "1") for name in names))
    assert sorted(map(refused_in_words, answers)) == [False] * 12 + [True] * 4
    assert limited.counters().get_manifest_429 == 0


async def test_an_upstream_that_asks_to_wait_is_left_alone(
    limited: Hub, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cached, *names = cold(limited, 12)
    folder = tmp_path_factory.mktemp("waiting")
    with Service(folder, upstream=limited.url, processes=2, redis=valkey.url) as service, clean_log(service):
        async with crowd(service, 6) as clients:
            assert (await clients[0].manifest(f"mirror/{cached}", "1")).status == 200
            limited.fault("manifest", "status", method="GET", status=429, retry_after="600")
            first = await clients[0].manifest(f"mirror/{names[0]}", "1")
            assert (first.status, first.code) == (429, "TOOMANYREQUESTS")
            before = limited.counters()
            for client, name in zip(clients + clients, [*names, names[0]], strict=True):
                answer = await client.manifest(f"mirror/{name}", "1")
                assert refused_in_words(answer)
                # A promise is for a full minute after that.
                assert 500 <= int(answer.headers["Retry-After"]) <= 600 + 120
                assert (await client.manifest(f"mirror/{cached}", "1")).status == 200
            after = limited.counters()
    assert (after.get_manifest, after.get_manifest_429) == (before.get_manifest, before.get_manifest_429)


Trouble = Callable[[Valkey], Awaitable[None]]


async def _stop(valkey: Valkey) -> None:
    valkey.stop()
    await asyncio.sleep(2)
    valkey.start()


async def _freeze(valkey: Valkey) -> None:
    valkey.pause()
    await asyncio.sleep(3)
    valkey.resume()


async def _restart(valkey: Valkey) -> None:
    for _ in range(3):
        valkey.stop()
        valkey.start()
        await asyncio.sleep(0.5)


async def _flush(valkey: Valkey) -> None:
    for _ in range(20):
        valkey.flush()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "trouble", [_stop, *(pytest.param(each, marks=pytest.mark.long) for each in (_freeze, _restart)), _flush]
)
async def test_redis_in_trouble(limited: Hub, budgeted: Service, valkey: Valkey, warm: Image, trouble: Trouble) -> None:
    names = cold(limited, 40)
    limited.pace(latency=0.03)
    given = leave(limited, valkey, 30)
    registry = Registry(budgeted.host, budgeted.username, budgeted.password)
    pushed: list[Image] = []
    async with crowd(budgeted, 6) as clients:

        async def push() -> None:
            image = single(f"pushed {len(pushed)} {trouble.__name__}", sizes=(2_000,))
            await asyncio.to_thread(registry.push_image, "lab/pushed", f"v{len(pushed)}", image)
            pushed.append(image)

        async def warm_pull() -> None:
            await clients[0].pull(f"mirror/{WARM}", "1", warm)

        async def cold_pulls(position: int) -> list[Answer]:
            return [await clients[position + 1].manifest(f"mirror/{name}", "1") for name in names[position::4]]

        async with pulling(warm_pull), pulling(push):
            first, _ = await asyncio.gather(asyncio.gather(*map(cold_pulls, range(4))), trouble(valkey))
        answers = {
            name: answer
            for position, of_one in enumerate(first)
            for name, answer in zip(names[position::4], of_one, strict=True)
        }
        # Redis may have granted a pull and lost the answer. That pull is released a second later, so nobody loses it.
        # What is left belongs to the client that has had the least of it, so each of the four asks again.
        for name in [name for name, answer in answers.items() if refused_in_words(answer)]:
            for client in clients[1:5]:
                if refused_in_words(answers[name]):
                    answers[name] = await client.manifest(f"mirror/{name}", "1")
        last = len(pushed) - 1
        assert last >= 1
        admin = await asyncio.to_thread(registry.pull_image, "lab/pushed", f"v{last}")
        assert admin[pushed[last].digest] == pushed[last].payload
    refused = [refused_in_words(answer) for answer in answers.values()]
    asked = limited.counters()
    assert asked.get_manifest_429 == 0
    words = [answer.words for answer in answers.values() if answer.status == 429]
    assert refused.count(False) == asked.get_manifest - given == 30, words


async def test_what_was_looked_at_last_may_be_gone(
    limited: Hub, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The budget is asked for by a HEAD of something that was there a moment ago, and that is nobody else's trouble."""
    kept, gone = limited.add(multi("kept"), "library/kept", "1"), limited.add(multi("gone"), "library/gone", "1")
    folder = tmp_path_factory.mktemp("probe")
    with Service(folder, upstream=limited.url, redis=valkey.url) as service, clean_log(service):
        async with Client(service.url) as client:
            await client.pull_manifest("mirror/library/kept", "1", kept.digest, kept)
            await client.pull_manifest("mirror/library/gone", "1", gone.digest, gone)
            limited.remove("library/gone")
            valkey.flush()
            await client.pull("mirror/library/kept", "1", kept)


async def test_a_second_account_pays_where_the_first_has_none_left(
    limited: Hub, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = cold(limited, 6)
    accounts = [{"username": name, "password": "its-password"} for name in ("first", "second")]
    for account, count in zip(accounts, (1, 3), strict=True):
        limited.account(account["username"], account["password"])
        limited.limit(count, source=account["username"])
    limited.limit(0, source="127.0.0.1")
    folder = tmp_path_factory.mktemp("accounts")
    overrides = {"upstreams": {"docker.io": {"credentials": accounts}}}
    with Service(folder, upstream=limited.url, redis=valkey.url, overrides=overrides) as service, clean_log(service):
        async with Client(service.url) as client:
            answers = [await client.manifest(f"mirror/{name}", "1") for name in names]
    assert [refused_in_words(answer) for answer in answers] == [False] * 4 + [True] * 2
    assert limited.counters().get_manifest_429 == 0


async def test_the_budget_can_be_seen(limited: Hub, budgeted: Service, valkey: Valkey) -> None:
    (name,) = cold(limited, 1)
    leave(limited, valkey, 42)
    async with Client(budgeted.url) as client:
        assert (await client.manifest(f"mirror/{name}", "1")).status == 200
        text = (await client.ask("GET", "/metrics")).body.decode()
    for name, value in (("limit", 100), ("remaining", 41)):
        values = {
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith(f"registry_budget_{name}{{") and 'upstream="docker.io"' in line
        }
        assert value in values, text


async def test_who_had_its_share_has_what_others_fetch(
    limited: Hub, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (*names, last) = cold(limited, 9)
    folder = tmp_path_factory.mktemp("share")
    with Service(folder, upstream=limited.url, redis=valkey.url) as service, clean_log(service):
        async with crowd(service, 4) as (first, *others):
            limited.leave(20)
            for client, name in zip([first] * 5 + others, names, strict=True):
                assert (await client.manifest(f"mirror/{name}", "1")).status == 200
            limited.pace(latency=0.2)
            leading = asyncio.create_task(first.manifest(f"mirror/{last}", "1"))

            async def asked() -> bool:
                return limited.counters().requests[f"HEAD /v2/{last}/manifests/1"] > 0

            await eventually(asked, what="the one that has had its share to be first")
            answers = await asyncio.gather(leading, *(client.manifest(f"mirror/{last}", "1") for client in others))
            assert [answer.status for answer in answers] == [200] * 4
            (another,) = cold(limited, 1)
            assert refused_in_words(await first.manifest(f"mirror/{another}", "1"))
            assert not refused_in_words(await others[0].manifest(f"mirror/{another}", "1"))
