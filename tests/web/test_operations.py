"""The operators' first page: what was refused or failed and why, the budget and its forecast, and the state of all."""

from __future__ import annotations

import re
import time
import uuid

import pytest
from playwright.sync_api import expect

from app.database import Transaction, budget_samples, requests
from app.database.requests import KeptRequest
from tests.api.client import Registry
from tests.images import single
from tests.parts.process import wait_for
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.web.http import Person
from tests.web.person import Opener, Visitor
from tests.web.scene import PASSWORD, within

pytestmark = pytest.mark.usefixtures("clean_log")


def kept(**values: object) -> KeptRequest:
    """Make a request as the store has it."""
    usual: dict[str, object] = {
        "at": time.time(), "request_id": uuid.uuid4().hex[:16], "host": "r1", "method": "GET",
        "path": "/v2/mirror/library/redis/manifests/7", "route": "manifests", "status": 429, "outcome": "refused",
        "code": "TOOMANYREQUESTS", "cause": "budget spent", "why": "nothing is left", "who": "person:mari.tamm",
        "client": "198.51.100.7", "repository": "mirror/library/redis", "reference": "7", "digest": "", "pulls": 0,
        "bytes": 120, "seconds": 0.2, "phases": {"upstream": 0.1},
    }  # fmt: skip
    return KeptRequest(**{**usual, **values})  # type: ignore[arg-type]  # the fields' own types


def keep(stage: Service, *some: KeptRequest) -> None:
    async def add(transaction: Transaction) -> None:
        await requests.add(transaction, some)

    within(stage.folder, add)


def test_five_pulls_beyond_the_limit_leave_traces(stage: Service, hub_process: Hub, open_context: Opener) -> None:
    """Who, what, why, when and the request's id, in the list and by each way of searching."""
    mark = f"spent-{uuid.uuid4().hex[:6]}"
    hub_process.add(single(mark, sizes=(1_000,)), f"library/{mark}", "1")
    admin = Person(stage.host).log_in(stage.username, stage.password)
    # An account of its own, so that the other tests have pulls left.
    hub_process.account(mark, "secret")
    hub_process.limit(10, source=mark)
    hub_process.leave(0, source=mark)
    cache = {"name": mark, "cache": "on", "upstream": "docker.io", "username": mark, "password": "secret"}
    assert admin.post("/new-project", cache).status == 303
    owner = Registry(stage.host, stage.username, stage.password)
    name = f"{mark}/library/{mark}"
    answers = [owner.manifest(name, "1") for _ in range(5)]
    assert [answer.status for answer in answers] == [429] * 5
    wait_for(lambda: admin.get(f"/administration/requests?q={name}").text.count(f"GET {name}:1") == 5, what="five")
    request_id = answers[0].headers["X-Request-Id"]
    page = admin.get(f"/administration/requests?q={request_id}").text
    for told in ("429", stage.username, "127.0.0.1", f"{name}:1", "TOOMANYREQUESTS", request_id):
        assert told in page
    assert page.count(f"GET {name}:1") == 1
    assert f"{name}:1" in admin.get(f"/administration/requests?q={stage.host}/{name}:1").text
    overview = open_context(width=820).log_in(stage.username, stage.password).go("/administration")
    expect(overview.row(name)).to_contain_text("429 refused")
    overview.screen("overview")


def test_a_request_is_found_by_its_person_and_told_in_words(admin: Visitor, stage: Service) -> None:
    mark = uuid.uuid4().hex[:8]
    keep(
        stage,
        kept(who=f"person:{mark}", status=403, code="DENIED", cause="quota", why="quota of lab", outcome="refused"),
        kept(who=f"robot:robot${mark}", status=503, outcome="failed", code="UNAVAILABLE", cause="upstream down"),
        kept(who=f"person:{mark}", status=200, outcome="hit", code="", cause="", seconds=9.0, phases={"store": 8.0}),
        kept(who=f"person:{mark}", status=200, outcome="filled", code="", cause="", pulls=2, request_id=mark),
    )
    admin.go(f"/administration/requests?q={mark}")
    rows = admin.page.locator("table.list tbody tr")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("2 pulls of the upstream's limit")
    admin.go("/administration/requests").fill("A request's id, a repository, an address or a name", f"robot${mark}")
    admin.page.keyboard.press("Enter")
    admin.page.wait_for_url("**q=robot*")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("The upstream did not answer, was late, or failed.")
    expect(rows.first).to_contain_text("see its status page")
    for shown, told in (("refused", "quota has no room"), ("slow", "The store of blobs was slow."),
                        ("failed", "did not answer"), ("filled", "fetched it from the upstream")):  # fmt: skip
        admin.go(f"/administration/requests?show={shown}")
        expect(rows.first).to_contain_text(told)
    admin.screen("requests")


def test_many_requests_are_turned(stage: Service) -> None:
    client = f"203.0.113.{int(uuid.uuid4()) % 250}"
    keep(stage, *(kept(client=client, reference=f"turned-{number:02}") for number in range(30)))
    admin = Person(stage.host).log_in(stage.username, stage.password)
    first = admin.get(f"/administration/requests?q={client}").text
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following
    second = admin.get(following[1].replace("&amp;", "&")).text
    seen = re.findall(r"redis:turned-(\d\d)", first) + re.findall(r"redis:turned-(\d\d)", second)
    assert seen == [f"{number:02}" for number in reversed(range(30))]
    assert len(first.encode()) < 100_000


def test_no_page_of_requests_is_heavy(stage: Service) -> None:
    """Whatever clients send, at the length that is kept."""
    mark, long = uuid.uuid4().hex[:8], '<"&' * 166
    keep(stage, *(kept(request_id=mark, method=long, path=f"/{long}", repository=long[:number * 20], reference=long,
                       client=long, why=long) for number in range(30)))  # fmt: skip
    answer = Person(stage.host).log_in(stage.username, stage.password).get(f"/administration/requests?q={mark}")
    assert answer.text.count("<tr>") == 26
    assert len(answer.text.encode()) < 100_000


def test_the_budget_has_a_forecast_and_its_spenders(admin: Visitor, stage: Service, hub_process: Hub) -> None:
    name = f"library/spender-{uuid.uuid4().hex[:6]}"
    hub_process.add(single(name, sizes=(1_000,)), name, "1")
    Registry(stage.host, "mari.tamm", PASSWORD).pull_image(f"mirror/{name}", "1")
    left = re.search(r"(\d+) of 200 left", admin.go("/administration").text())
    assert left

    async def spend(transaction: Transaction) -> None:
        # A steep fall, so that the pulls end before the window does.
        for minutes in (20, 10):
            await budget_samples.remove_before(transaction, "docker.io", "", time.time())
            at, remaining = time.time() - 60 * minutes, int(left[1]) + 40 * minutes
            await budget_samples.add(transaction, "docker.io", "", at, limit=200, remaining=remaining)

    within(stage.folder, spend)
    admin.go("/administration")
    budget = admin.page.locator(".budget", has_text="docker.io")
    expect(budget).to_contain_text(re.compile(r"Empty at \d\d:\d\d UTC at this pace"))
    expect(budget.locator(".spenders")).to_contain_text("Mari Tamm (mari.tamm)")
    assert "Mari Tamm" in Person(stage.host).log_in(stage.username, stage.password).get("/administration/budgets").text


def test_the_state_says_what_somebody_must_look_at(admin: Visitor, stage: Service, hub_process: Hub) -> None:
    hub_process.down("registry")
    try:
        admin.go("/administration")
    finally:
        hub_process.up("registry")
    looks = {
        look.locator("b").inner_text(): look.inner_text().splitlines() for look in admin.page.locator(".looks li").all()
    }
    assert set(looks) == {
        "Database", "Store of blobs", "Redis", "Upstream docker.io", "Workers", "Disk", "Certificate", "Last backup",
        "Versions",
    }  # fmt: skip
    assert looks["Upstream docker.io"][-1] == "Look"
    assert looks["Last backup"][-1] == "Look"
    assert looks["Database"][-1] == looks["Workers"][-1] == "Good"
    assert "SQLite" in looks["Versions"][1]
    assert "schema" in looks["Versions"][1]
