"""Guessing passwords and planting cookies: slowed down, noted, and of no use; nobody is locked out by it."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from tests.api.client import Answer, Registry, basic, exchange
from tests.parts.process import memory, reset_peak, wait_for
from tests.web.http import Person
from tests.webapi.client import Api
from tests.webapi.house import ADMIN, PASSWORD, House
from tests.webapi.scene import access

# What one address may fail at in a minute, with one account and in all; and how many more may be on their way when the
# bound is reached: of each of two workers as many as are hashed at a time.
_OF_ACCOUNT, _OF_ADDRESS, _ON_THEIR_WAY = 10, 200, 4
_AT_ONCE = 2
_HASH_KIB = 19456
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service with two workers, whose clients say where they are."""
    house = House(tmp_path_factory.mktemp("guessing"), processes=2, preload=False)
    yield house
    house.close()


@pytest.fixture
def address() -> str:
    number = next(_NUMBERS)
    return f"198.19.{number // 256}.{number % 256}"


@pytest.fixture
def somebody(house: House) -> str:
    """A person who has not logged in yet: what was right a moment ago is not asked about again."""
    name = f"somebody-{next(_NUMBERS)}"
    house.add_person(name)
    return name


class Flood:
    """Many guesses at once; ``statuses`` by the address they came from."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.statuses: dict[str, Counter[int]] = {}
        self.answers: list[Answer] = []
        self.minutes = 1
        self.seconds = 0.0

    def send(self, guesses: list[tuple[str, str, str]]) -> None:
        """Send user name, password and address of each, sixteen at a time."""
        began, at = int(time.time() // 60), time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            self.answers = list(pool.map(self._guess, guesses))
        self.minutes, self.seconds = int(time.time() // 60) - began + 1, time.monotonic() - at
        for (_, _, address), answer in zip(guesses, self.answers, strict=True):
            self.statuses.setdefault(address, Counter())[answer.status] += 1

    def _guess(self, guess: tuple[str, str, str]) -> Answer:
        username, password, address = guess
        headers = {"Authorization": basic(username, password), "X-Forwarded-For": address}
        return Registry(self._house.host).ask_token("repository:a/b:pull", headers=headers)


def test_many_wrong_passwords(house: House, somebody: str) -> None:
    addresses = [f"203.0.113.{number}" for number in range(1, 7)]
    guesses = [(somebody, f"guess {number}", address) for number in range(40) for address in addresses]
    workers = house.service.pids()
    assert len(workers) == 2
    Flood(house).send([("nobody", f"guess {number}", f"203.0.114.{number}") for number in range(32)])
    flood, before = Flood(house), {pid: memory(pid, "VmRSS") for pid in workers}
    for pid in workers:
        reset_peak(pid)
    flood.send(guesses)
    most = flood.minutes * (_OF_ACCOUNT + _ON_THEIR_WAY)
    for statuses in flood.statuses.values():
        assert set(statuses) == {401, 429}
        assert _OF_ACCOUNT <= statuses[401] <= most, flood.statuses
    for answer in flood.answers:
        if answer.status == 429:
            assert 1 <= int(answer["Retry-After"]) <= 60
            assert answer.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
    # Two at a time are hashed, however many ask: anything else would be seen by the memory that a hash takes.
    for pid in workers:
        grown = memory(pid, "VmHWM") - before[pid]
        assert grown < (_AT_ONCE + 2) * _HASH_KIB, f"{grown} KiB more"
    _is_let_in_from_elsewhere(house, somebody, addresses[0])


def _is_let_in_from_elsewhere(house: House, username: str, flooded: str) -> None:
    """Whoever sits elsewhere is not locked out; nor is a secret that cannot be guessed, from that address either."""

    def ask(name: str, secret: str, address: str) -> int:
        headers = {"Authorization": basic(name, secret), "X-Forwarded-For": address}
        return Registry(house.host).ask_token("repository:a/b:pull", headers=headers).status

    wrong = [(username, f"more {number}", flooded) for number in range(2 * _OF_ACCOUNT)]
    again = Flood(house)
    again.send(wrong)
    if again.minutes == 1:
        assert ask(username, PASSWORD, flooded) == 429
    assert ask(username, PASSWORD, "198.51.100.7") == 200
    everything = [{"namespace": "*", "access": access("repository:pull")}]
    own = Api(house.host, username, PASSWORD)
    key = own.do("createAccessKey", {"name": "laptop", "duration": 1, "permissions": everything}).json()
    assert ask(username, key["secret"], flooded) == 200


@pytest.mark.long
def test_many_user_names_from_one_address(house: House, somebody: str, address: str) -> None:
    """They are checked one a second, in each worker; a right password that comes after them is not refused."""
    flood, more = Flood(house), 16
    flood.send([(f"guessed-{number}", "12345678", address) for number in range(_OF_ADDRESS + _ON_THEIR_WAY + more)])
    (statuses,) = flood.statuses.values()
    assert set(statuses) == {401}
    # Sixteen at a time are asked, so that some more are on their way when the limit is reached.
    assert flood.minutes > 1 or flood.seconds >= more / len(house.service.pids()) / 2
    flood.send([(somebody, PASSWORD, address)])
    assert flood.answers[0].status == 200


def test_the_form_is_slowed_down_too_and_says_for_how_long(house: House, somebody: str, address: str) -> None:
    person, statuses = Person(house.host), []
    person.get("/login")
    for number in range(2 * _OF_ACCOUNT + 5):
        answer = person.ask(*_form(person, somebody, f"guess {number}"), {**_FORM, "X-Forwarded-For": address})
        statuses.append(answer.status)
        if answer.status == 429:
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert "too many failed log-ins" in answer.text
    # So many are more than two minutes' share.
    assert set(statuses) == {403, 429}
    elsewhere = person.ask(*_form(person, somebody, PASSWORD), {**_FORM, "X-Forwarded-For": "198.51.100.8"})
    assert elsewhere.status == 303


_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _form(person: Person, username: str, password: str) -> tuple[str, str, bytes]:
    fields = {"username": username, "password": password, "_xsrf": person.token}
    return "POST", "/login", urlencode(fields).encode()


def test_a_failed_log_in_is_noted_without_the_password(house: House, somebody: str, address: str) -> None:
    # A name that is nobody's may be a password in the wrong field: that somebody tried is noted, and no more.
    guesses = {somebody: "hunter22 is secret", "my very own password": "another secret"}
    person = Person(house.host)
    person.get("/login")
    for username, password in guesses.items():
        answer = person.ask(*_form(person, username, password), {**_FORM, "X-Forwarded-For": address})
        assert answer.status == 403
    # What nobody can be called is looked for nowhere, and counted with what is nobody's.
    assert person.ask(*_form(person, "no\u2028body", "x"), {**_FORM, "X-Forwarded-For": address}).status == 403

    def noted() -> set[tuple[str, str, str]]:
        # Each of the two workers counts the unknown names that reach it, so there may be two entries of them.
        rows = house.admin.do("listAuditLogs", query={"q": "operation=refuse", "page_size": 100}).json()
        here = [one for one in rows if one["client_address"] == address]
        return {(one["username"], one["resource_type"], one["resource"]) for one in here}

    wait_for(lambda: len(noted()) == len(guesses), what="the audit log")
    assert noted() == {("anonymous", "user", ""), ("anonymous", "user", somebody)}
    everything = house.admin.do("exportAuditLogs").body.decode()
    for password in (*guesses.values(), "my very own password"):
        assert password not in house.service.log()
        assert password not in everything


def test_a_flood_of_wrong_secrets_is_a_few_entries(house: House, somebody: str, address: str) -> None:
    """At the token service, the distribution API and the REST API; of two workers, each with a count of its own."""
    robot = robot_of(house)
    wrong = "hpcr_" + "x" * 40
    flood = Flood(house)
    flood.send([(name, wrong, address) for name in (somebody, robot, "nobody's") for _ in range(100)])
    headers = {"X-Forwarded-For": address}
    for _ in range(20):
        sent = {"Authorization": basic(somebody, wrong), **headers}
        assert exchange(house.host, "GET", "/v2/", None, sent).status in (401, 429)
        assert Api(house.host, somebody, wrong).call("GET", "/projects", headers=headers).status in (401, 429)

    def noted() -> list[tuple[str, int]]:
        rows = house.admin.do("listAuditLogs", query={"q": "operation=refuse", "page_size": 100}).json()
        return [(one["resource"], one["times"]) for one in rows if one["client_address"] == address]

    wait_for(lambda: {name for name, _ in noted()} == {somebody, robot, ""}, what="the audit log")
    # Of each name one by each worker at once, and one with the count for each minute it went on.
    assert len(noted()) <= 2 * 3 * (flood.minutes + 2)
    house.service.restart()
    counted = Counter[str]()
    for name, times in noted():
        counted[name] += times
    assert counted == {somebody: 140, robot: 100, "": 100}
    assert wrong not in house.admin.do("exportAuditLogs").body.decode()


def robot_of(house: House) -> str:
    """Make a robot account of the system; gives its name."""
    permissions = [{"namespace": "*", "access": access("repository:pull")}]
    body = {"name": f"guessed-{next(_NUMBERS)}", "level": "system", "permissions": permissions}
    return str(house.admin.do("createRobot", body).json()["name"])


@pytest.mark.parametrize("planted", ["A" * 43, "0" * 64, "", "../../etc", "session"])
def test_a_planted_cookie_is_not_adopted(house: House, somebody: str, planted: str) -> None:
    victim = Person(house.host)
    victim.cookies["session"] = planted
    assert victim.get("/mine").status == 303
    victim.log_in(somebody, PASSWORD)
    assert victim.cookies["session"] not in ("", planted)
    attacker = Person(house.host)
    attacker.cookies["session"] = planted
    assert attacker.get("/mine").status == 303
    assert victim.get("/mine").status == 200


def test_nor_is_a_session_of_the_one_who_planted_it(house: House, somebody: str) -> None:
    house.add_person(f"attacker-of-{somebody}")
    attacker = Person(house.host).log_in(f"attacker-of-{somebody}", PASSWORD)
    planted = attacker.cookies["session"]
    victim = Person(house.host)
    victim.cookies["session"] = planted
    # Whoever has a session is sent on from the form; logging in all the same ends it.
    victim.get("/projects")
    answer = victim.post("/login", {"username": somebody, "password": PASSWORD})
    assert answer.status == 303
    fresh = Api(house.host, headers={"Cookie": f"session={victim.cookies['session']}"})
    assert (victim.cookies["session"] != planted, fresh.do("getCurrentUser").json()["username"]) == (True, somebody)
    assert attacker.get("/mine").status == 303


def test_a_log_in_takes_a_token_of_its_own_page(house: House, somebody: str) -> None:
    person = Person(house.host)
    person.get("/login")
    answer = person.post("/login", {"username": somebody, "password": PASSWORD}, token="2|made|up|1")
    assert answer.status == 403
    assert "session" not in person.cookies
    assert Person(house.host).post("/login", {"username": ADMIN, "password": PASSWORD}).status == 403
