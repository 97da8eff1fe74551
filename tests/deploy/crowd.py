"""Clients that pull and push all the time, each request on a connection of its own, and remember what failed."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import closing
from types import TracebackType
from typing import Self

from .conftest import NAME, PASSWORD, Site

_PROJECT = "crowd"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Crowd:
    """Half of the clients pull, half push, from entering to leaving; no attempt is made twice."""

    def __init__(self, site: Site, *, clients: int) -> None:
        self._site = site
        self._stop = threading.Event()
        work = (self._pull, self._push)
        self._threads = [threading.Thread(target=self._run, args=(work[n % 2], n)) for n in range(clients)]
        self.failures: list[str] = []
        self.pulls = self.pushes = 0

    def __enter__(self) -> Self:
        self._site.host.ssh(f"registry-admin create-project {_PROJECT} --public")
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

    def _run(self, work: Callable[[int, int], None], number: int) -> None:
        count = 0
        while not self._stop.wait(0.05):
            count += 1
            try:
                work(count, number)
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(f"{error!r}")

    def _pull(self, count: int, number: int) -> None:
        token = json.loads(self._ask("GET", f"/service/token?service={NAME}&scope=repository:{_PROJECT}/x:pull")[2])[
            "token"
        ]
        bearer = {"Authorization": f"Bearer {token}"}
        manifest = json.loads(self._ask("GET", f"/v2/{_PROJECT}/x/manifests/first", headers=bearer)[2])
        digest = manifest["layers"][0]["digest"]
        blob = self._ask("GET", f"/v2/{_PROJECT}/x/blobs/{digest}", headers=bearer)[2]
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
        kind = {"Content-Type": _MANIFEST, **basic()}
        self._ask("PUT", f"/v2/{_PROJECT}/x/manifests/{tag}", json.dumps(manifest).encode(), headers=kind)
        self.pushes += 1

    def _blob(self, data: bytes) -> str:
        place = self._ask("POST", f"/v2/{_PROJECT}/x/blobs/uploads/", headers=basic())[1]["Location"]
        path = place.removeprefix(f"https://{NAME}")
        place = self._ask("PATCH", path, data, headers=basic())[1]["Location"].removeprefix(f"https://{NAME}")
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self._ask("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", headers=basic())
        return digest

    def _ask(
        self, method: str, path: str, body: bytes | None = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        with closing(connect(self._site)) as connection:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            data = answer.read()
        assert answer.status < 300, f"{method} {path}: {answer.status} {data[:300]!r}"
        return answer.status, answer.headers, data


def connect(site: Site) -> http.client.HTTPSConnection:
    """Open a connection to the host's address, under the registry's name."""
    context = ssl.create_default_context(cafile=str(site.authority.file))
    connection = http.client.HTTPSConnection(NAME, timeout=60, context=context)
    plain = socket.create_connection((site.host.address, 443), timeout=60)
    connection.sock = context.wrap_socket(plain, server_hostname=NAME)
    return connection


def basic() -> dict[str, str]:
    """Give the header of the admin."""
    return {"Authorization": f"Basic {base64.b64encode(f'admin:{PASSWORD}'.encode()).decode()}"}
