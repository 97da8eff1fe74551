"""Clients that are slow or many: what they hold is bounded in time and number, and nobody else pays for it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from tests.api.client import Registry, basic, closing, digest_of, expect, refused
from tests.api.conftest import PROJECTS
from tests.api.documents import OCI_INDEX, OCI_MANIFEST, fresh, index
from tests.api.wire import Connection
from tests.parts.process import wait_for
from tests.parts.service import ADMIN, PASSWORD, Service

# Of an impatient service (`tests.parts.hurried`), and what passes on a busy machine before it must have acted.
PATIENCE_SECONDS = 3
MOST_CONNECTIONS = 30
MOST_BYTES = 8_000_000
AT_MOST = 30
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("impatient")
    with Service(folder, impatient=True, overrides={"projects": PROJECTS}) as service:
        yield service
        assert service.faults() == []


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The same behind a proxy: whoever connects says who the client is."""
    overrides = {"projects": PROJECTS, "server": {"trusted_proxies": ["127.0.0.1"]}}
    with Service(tmp_path_factory.mktemp("behind"), impatient=True, overrides=overrides) as service:
        yield service
        assert service.faults() == []


@pytest.fixture
def pusher(impatient: Service) -> Registry:
    return Registry(impatient.host, impatient.username, impatient.password)


def bearer(registry: Registry, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {registry.token(f'repository:{name}:pull,push')}"}


def given_up(connection: Connection) -> None:
    """Read the 408 and the end of the connection."""
    connection.socket.settimeout(AT_MOST)
    assert "did not arrive in time" in refused(connection.answer(), 408, "SIZE_INVALID")
    assert connection.ended()


BEGUN = [
    ("POST", "/service/token", {"Content-Length": "1000"}, b"grant_type=password"),
    ("POST", "/service/token", {"Transfer-Encoding": "chunked"}, b"5\r\ngrant\r\n"),
    ("POST", "/login", {"Content-Length": "1000"}, b""),
    ("POST", "/api/v2.0/projects", {"Content-Length": "1000", "Authorization": basic(ADMIN, PASSWORD)}, b"{"),
    ("POST", "/addresses", {"Content-Length": "1000"}, b"text="),
]


def test_forms_that_do_not_end(impatient: Service) -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(impatient.host)) for _ in BEGUN]
        for connection, (method, path, framing, begun) in zip(connections, BEGUN, strict=True):
            connection.request(method, path, {**FORM, **framing}, begun)
        for connection in connections:
            given_up(connection)
    assert time.monotonic() - began > PATIENCE_SECONDS / 3


def test_an_upload_that_stops_keeps_what_arrived(pusher: Registry, name: str) -> None:
    data = fresh(1_000_000)
    session = pusher.begin(name)
    with Connection(pusher.host) as connection:
        connection.request("PATCH", session, {**bearer(pusher, name), "Content-Length": str(len(data))}, data[:600_000])
        connection.socket.settimeout(AT_MOST)
        assert connection.ended()
    assert expect(pusher.call("GET", session), 204)["Range"] == "0-599999"
    expect(pusher.call("PUT", closing(session, digest_of(data)), data[600_000:]), 201)


def test_a_manifest_that_stops(pusher: Registry, name: str) -> None:
    with Connection(pusher.host) as connection:
        headers = {**bearer(pusher, name), "Content-Type": OCI_MANIFEST, "Content-Length": "1000"}
        connection.request("PUT", f"/v2/{name}/manifests/slow", headers, b"{")
        connection.socket.settimeout(AT_MOST)
        assert "incomplete" in refused(connection.answer(), 400, "SIZE_INVALID")
        assert connection.ended()
    with Connection(pusher.host) as connection:
        # The client waits to be told to send, and then does not.
        connection.request("PUT", f"/v2/{name}/manifests/slow", {**headers, "Expect": "100-continue"})
        connection.socket.settimeout(AT_MOST)
        refused(connection.answer(), 400, "SIZE_INVALID")
        assert connection.ended()


def test_a_slow_upload_that_goes_on_is_waited_for(pusher: Registry, name: str) -> None:
    """Longer than the patience, at twice the least rate."""
    data = fresh(4096 * 2 * PATIENCE_SECONDS)
    with Connection(pusher.host) as connection:
        headers = {**bearer(pusher, name), "Content-Length": str(len(data))}
        connection.request("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(data)}", headers)
        for start in range(0, len(data), 2048):
            connection.send(data[start : start + 2048])
            time.sleep(0.5)
        expect(connection.answer(), 201)


@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_an_answer_that_nobody_reads(impatient: Service, pusher: Registry, name: str, what: str) -> None:
    if what == "blob":
        path = f"blobs/{pusher.push_blob(name, fresh(20_000_000))}"
    else:
        payload = index(annotations={"filling": "x" * 4_100_000})
        path = f"manifests/{pusher.push_manifest(name, 'large', payload, OCI_INDEX)}"
    given = f"unread-{what}-{name[4:]}"
    with Connection(pusher.host, receive_buffer=4096) as connection:
        connection.request("GET", f"/v2/{name}/{path}", {**bearer(pusher, name), "X-Request-Id": given})
        wait_for(lambda: given in impatient.log(), timeout=AT_MOST, what="the request to be ended")
        with pytest.raises(ConnectionError):
            connection.answer()


def test_one_address_has_so_many_connections_and_then_others(impatient: Service) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(Connection(impatient.host)) for _ in range(MOST_CONNECTIONS)]
        for connection in held:
            connection.request("GET", "/healthz")
            expect(connection.answer(), 200)
        with Connection(impatient.host) as one_more:
            one_more.request("GET", "/healthz")
            answer = one_more.answer()
            assert "too many connections" in refused(answer, 429, "TOOMANYREQUESTS")
            assert int(answer["Retry-After"]) > 0
            assert one_more.ended()
        held[0].close()
        wait_for(lambda: _status(impatient.host) == 200, what="the place to be free again")
        # Those that are connected go on.
        held[1].request("GET", "/v2/")
        refused(held[1].answer(), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("what", ["forms", "manifests"])
def test_one_address_has_so_many_bytes_in_memory(impatient: Service, pusher: Registry, name: str, what: str) -> None:
    """Large bodies are refused then, and no log-in is."""
    path, size, headers = "/addresses", 500_000, FORM
    if what == "manifests":
        path, size = f"/v2/{name}/manifests/large", 4_000_000
        headers = {**bearer(pusher, name), "Content-Type": OCI_MANIFEST}

    def is_full() -> bool:
        """Hold all of it, which the patience ends soon; return whether others were refused meanwhile."""
        with ExitStack() as stack:
            for _ in range(MOST_BYTES // size):
                held = stack.enter_context(Connection(impatient.host))
                held.request("PUT" if what == "manifests" else "POST", path, {**headers, "Content-Length": str(size)})
                held.send(b"x" * (size - 1))
            assert pusher.token()
            pusher.push_manifest(name, "small", index(), OCI_INDEX)
            return _of_large_form(impatient.host) == 429

    # The pause is for the connections of the attempt before, which would be too many with those of the next one.
    wait_for(is_full, what="a large form to be refused", interval=1)
    wait_for(lambda: _of_large_form(impatient.host) in (400, 403), what="the bytes to be free")


def _of_large_form(host: str) -> int:
    with Connection(host) as connection, suppress(ConnectionError):
        connection.request("POST", "/addresses", {**FORM, "Content-Length": "500000"}, b"x" * 500_000)
        return connection.answer().status
    return 0


def test_a_proxys_connections_count_for_the_clients_that_use_them(behind: Service, name: str) -> None:
    """Only while they do: a proxy keeps many open."""
    there, elsewhere = {"X-Forwarded-For": "2001:db8::1"}, {"X-Forwarded-For": "198.51.100.7"}
    roaming = {"X-Forwarded-For": "2001:db8::2"}
    slow = {"Content-Length": "1000", **FORM}
    with ExitStack() as stack:
        idle = [stack.enter_context(Connection(behind.host)) for _ in range(2 * MOST_CONNECTIONS)]
        for connection in idle:
            connection.request("GET", "/healthz", there)
            expect(connection.answer(), 200)
        for connection in idle[:MOST_CONNECTIONS]:
            connection.request("POST", "/service/token", {**there, **slow}, b"x")
        wait_for(lambda: _status(behind.host, roaming) == 429, what="the block to be full")
        for path in ("/v2/", "/", "/api/v2.0/projects", "/service/token"):
            idle[-1].request("GET", path, elsewhere)
            assert idle[-1].answer().status in (200, 302, 401)
        # As many places are free again as bodies are given up.
        for connection in idle[:MOST_CONNECTIONS]:
            given_up(connection)
        assert _status(behind.host, roaming) == 200


def test_a_proxys_connection_may_carry_many_clients(behind: Service, name: str) -> None:
    """Each request is its own client's, also after one that another part of the service has answered."""
    given = f"carried-{name[4:]}"
    addresses = ["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"]
    with Connection(behind.host) as connection:
        for path, address in zip(("/help", "/v2/", "/help", "/help"), addresses, strict=True):
            connection.request("GET", path, {"X-Forwarded-For": address, "X-Request-Id": given})
            connection.answer()
    wait_for(lambda: behind.log().count(given) == len(addresses), what="the log lines")
    lines = [json.loads(line) for line in behind.log().splitlines() if given in line]
    assert [line["client"] for line in lines] == addresses


def test_a_lab_behind_one_address_is_not_limited(service: Service) -> None:
    """64 engines with ten connections each, which log in at once in all three ways."""
    login = {"Authorization": basic(service.username, service.password)}
    paths = ["/v2/", "/service/token", "/api/v2.0/projects", "/healthz", "/v2/"]
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(service.host)) for _ in range(64 * 10)]

        def ask(number: int) -> int:
            connections[number].request("GET", paths[number % len(paths)], login)
            return connections[number].answer().status

        with ThreadPoolExecutor(64) as pool:
            assert set(pool.map(ask, range(len(connections)))) == {200}


def _status(host: str, headers: dict[str, str] | None = None) -> int:
    with Connection(host) as connection, suppress(ConnectionError):
        connection.request("GET", "/healthz", headers)
        return connection.answer().status
    return 0
