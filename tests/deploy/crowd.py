"""Clients that pull and push all the time, each request on a connection of its own, and remember what came of it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from .authority import Authority
from .conftest import NAME, PASSWORD

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Door(Protocol):
    """Where the registry is entered, and whose certificate it shows there."""

    @property
    def address(self) -> str: ...

    @property
    def authority(self) -> Authority: ...


class Postponed(Exception):
    """The registry said 503 or 507, and when to come again."""


class Crowd:
    """Half of the clients pull, half push, from entering to leaving.

    ``first``: the path of the manifest that all of them pull. ``attempts``: how often one and the same pull or push may
    be begun before it has failed. ``patient``: a push that is told 503 or 507 with ``Retry-After`` has not failed; it
    is counted in ``postponed``.
    """

    def __init__(self, door: Door, *, clients: int, attempts: int = 1, patient: bool = False) -> None:
        self._door, self._attempts, self._patient = door, attempts, patient
        # Of its own, because uploads that a fault has cut stay open, and a project may have so many.
        self._project = f"crowd-{uuid.uuid4().hex[:8]}"
        self.first = f"/v2/{self._project}/x/manifests/first"
        self._stop = threading.Event()
        work = (self._pull, self._push)
        self._threads = [threading.Thread(target=self._run, args=(work[n % 2], n)) for n in range(clients)]
        self.failures: list[str] = []
        self.again: list[str] = []
        self.kept: list[str] = []
        self.pulls = self.pushes = self.postponed = 0

    def __enter__(self) -> Self:
        project(self._door, self._project)
        self._push(0, -1)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def lost(self) -> list[str]:
        """Ask for everything that was answered 201, and name what does not come back as it was."""
        return [path for path in dict.fromkeys(self.kept) if not self._is_there(path)]

    def _is_there(self, path: str) -> bool:
        status, _, data = ask(self._door, "GET", path, headers=basic())
        return status == 200 and f"sha256:{hashlib.sha256(data).hexdigest()}" == path.rpartition("/")[2]

    def _run(self, work: Callable[[int, int], None], number: int) -> None:
        count = 0
        while not self._stop.wait(0.2):
            count += 1
            self._try(work, count, number)

    def _try(self, work: Callable[[int, int], None], count: int, number: int) -> None:
        for attempt in range(1, self._attempts + 1):
            began = time.strftime("%H:%M:%S")
            try:
                work(count, number)
            except Postponed:
                self.postponed += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                said = f"{began} to {time.strftime('%H:%M:%S')}, {work.__name__}: {error!r}"
                (self.again if attempt < self._attempts else self.failures).append(said)
                continue
            return

    def _pull(self, count: int, number: int) -> None:
        scope = f"/service/token?service={NAME}&scope=repository:{self._project}/x:pull"
        bearer = {"Authorization": f"Bearer {json.loads(self._ask('GET', scope)[1])['token']}"}
        manifest = json.loads(self._ask("GET", self.first, headers=bearer)[1])
        digest = manifest["layers"][0]["digest"]
        blob = self._ask("GET", f"/v2/{self._project}/x/blobs/{digest}", headers=bearer)[1]
        assert "sha256:" + hashlib.sha256(blob).hexdigest() == digest
        self.pulls += 1

    def _push(self, count: int, number: int) -> None:
        data = f"layer {number} {count}".encode() * 10_000
        layer = self._blob(data)
        config = self._blob(b"{}")
        manifest = {
            "schemaVersion": 2, "mediaType": _MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": config},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": len(data), "digest": layer}],
        }  # fmt: skip
        tag = "first" if number < 0 else f"n{number}"
        payload = json.dumps(manifest).encode()
        self._write("PUT", f"/v2/{self._project}/x/manifests/{tag}", payload, {"Content-Type": _MANIFEST})
        self.kept.append(f"/v2/{self._project}/x/manifests/sha256:{hashlib.sha256(payload).hexdigest()}")
        self.pushes += 1

    def _blob(self, data: bytes) -> str:
        place = self._write("POST", f"/v2/{self._project}/x/blobs/uploads/")
        place = self._write("PATCH", place, data)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self._write("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}")
        self.kept.append(f"/v2/{self._project}/x/blobs/{digest}")
        return digest

    def _write(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> str:
        """Send what changes something and give the path it is led to."""
        answer = self._ask(method, path, body, headers={**basic(), **(headers or {})})[0]
        return answer.get("Location", "").removeprefix(f"https://{NAME}")

    def _ask(
        self, method: str, path: str, body: bytes | None = None, *, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPMessage, bytes]:
        status, answered, data = ask(self._door, method, path, body, headers=headers)
        if self._patient and method != "GET" and status in (503, 507) and "Retry-After" in answered:
            raise Postponed
        assert status < 300, f"{method} {path}: {status} {data[:300]!r}"
        return answered, data


def ask(
    door: Door, method: str, path: str, body: bytes | None = None, *, headers: dict[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send a request through a door, follow it to the object store where it leads there, and give the answer."""
    with closing(connect(door)) as connection:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        data = answer.read()
    if answer.status != 307:
        return answer.status, answer.headers, data
    place = urlsplit(answer.headers["Location"])
    with closing(http.client.HTTPConnection(place.netloc, timeout=60)) as store:
        store.request(method, f"{place.path}?{place.query}")
        stored = store.getresponse()
        return stored.status, answer.headers, stored.read()


def project(door: Door, name: str) -> None:
    """Make a public project without a quota, where it is not there yet."""
    body = {"project_name": name, "metadata": {"public": "true"}, "storage_limit": -1}
    kind = {"Content-Type": "application/json", **basic()}
    status, _, said = ask(door, "POST", "/api/v2.0/projects", json.dumps(body).encode(), headers=kind)
    assert status in (201, 409), said


def connect(door: Door) -> http.client.HTTPSConnection:
    """Open a connection to an address, under the registry's name."""
    context = ssl.create_default_context(cafile=str(door.authority.file))
    connection = http.client.HTTPSConnection(NAME, timeout=60, context=context)
    plain = socket.create_connection((door.address, 443), timeout=60)
    connection.sock = context.wrap_socket(plain, server_hostname=NAME)
    return connection


def basic() -> dict[str, str]:
    """Give the header of the admin."""
    return {"Authorization": f"Basic {base64.b64encode(f'admin:{PASSWORD}'.encode()).decode()}"}
