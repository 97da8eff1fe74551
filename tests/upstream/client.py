"""Starts the upstream and speaks to its control listener.

Every call is one short exchange with another process, so it is fine inside an async test as well.
"""

from __future__ import annotations

import http.client
import json
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from tests.images import Image
from tests.parts.process import Process, python

from .counters import Counters
from .faults import Action, Fault, Kind
from .state import Logins

LOOPBACK = "127.0.0.1"
ListenerName = Literal["registry", "realm", "cdn"]


class Hub:
    """A running upstream; ``url``, ``realm``, ``cdn`` are its base URLs and ``host`` the registry's HOST:PORT."""

    def __init__(self, folder: Path, *, cdn_host: str = "127.0.0.2", port: int = 0) -> None:
        """Start it, with its output in ``folder``; ended by `close` or as a context manager."""
        self._process = Process(
            "upstream", python("-m", "tests.upstream", "--port", str(port), "--cdn-host", cdn_host), folder
        )
        urls = self._process.until(self._urls)
        self.url, self.realm, self.cdn = urls["registry"], urls["realm"], urls["cdn"]
        self.host = urlsplit(self.url).netloc
        self._control = urlsplit(urls["control"]).netloc

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, image: Image, repository: str, *tags: str, readers: list[str] | None = None) -> Image:
        """Put ``image`` under ``repository`` and its tags; ``readers``: the accounts that may pull (None: all)."""
        for digest, data in image.blobs.items():
            self._send("PUT", f"/blobs/{digest}", data)
        manifests = {digest: (kind, payload.decode()) for digest, (kind, payload) in image.manifests.items()}
        self._call(
            "add", repository=repository, manifests=manifests, blobs=list(image.blobs), tags=tags,
            digest=image.digest, readers=readers,
        )  # fmt: skip
        return image

    def tag(self, repository: str, tag: str, digest: str) -> None:
        """Make or move a tag to a manifest that is there."""
        self._call("tag", repository=repository, tag=tag, digest=digest)

    def remove(self, repository: str, reference: str | None = None) -> None:
        """Remove a tag, a manifest by digest, or (None) the repository."""
        self._call("remove", repository=repository, reference=reference)

    def referrers_api(self, *, there: bool) -> None:
        """Have the API for referrers, or answer it as an unknown path."""
        self._call("referrers_api", there=there)

    def account(self, username: str, password: str) -> None:
        """Make an account that the realm takes."""
        self._call("account", username=username, password=password)

    def limit(self, count: int | None, *, window: int = 21600, source: str | None = None) -> None:
        """Set how many manifest GETs a source has in ``window`` seconds; None: no limit and no rate headers.

        ``source``: a user's name or an anonymous client's address; None: every source that has no limit of its own.
        """
        self._call("limit", count=count, window=window, source=source)

    def uncount(self, repository: str, *, source: str | None = None) -> None:
        """Count no GET of ``repository`` any more, for ``source`` or (None) for all, and state no limit for it."""
        self._call("uncount", repository=repository, source=source)

    def count(self, repository: str) -> None:
        """Count the GETs of ``repository`` again."""
        self._call("count", repository=repository)

    def leave(self, remaining: int, *, source: str = LOOPBACK) -> None:
        """Make ``remaining`` what is left to ``source``."""
        self._call("leave", remaining=remaining, source=source)

    def spend(self, count: int, *, source: str = LOOPBACK) -> None:
        """Spend as another one behind the same source would."""
        self._call("spend", count=count, source=source)

    def pace(self, *, bandwidth: float | None = None, latency: float = 0.0) -> None:
        """Set the line: bytes a second for all connections together (None: as fast as it goes), seconds a request."""
        self._call("pace", bandwidth=bandwidth, latency=latency)

    def lifetimes(self, *, token: float = 300, link: int = 300) -> None:
        """Set how many seconds new tokens and new links to the CDN live."""
        self._call("lifetimes", token=token, link=link)

    def logins(self, kind: Logins) -> None:
        """Set how clients log in: "bearer" as at Docker Hub, "basic" alone, or "none" at all."""
        self._call("logins", kind=kind)

    def challenge(self, *, service: str | None, scope: str | None = None) -> None:
        """Name another service, or none, in challenges; ``scope`` stands there for every repository (None: its own).

        The realm wants the same service, and tokens for ``scope`` are good for what is there by then.
        """
        self._call("challenge", service=service, scope=scope)

    def revoke_tokens(self) -> None:
        """Make every token that is out worthless."""
        self._call("revoke")

    def fault(
        self,
        kind: Kind,
        action: Action,
        *,
        path: str = "*",
        times: int | None = 1,
        **details: Any,
    ) -> None:
        """Plan a fault; see `Fault` for what each action does and takes."""
        self._call("fault", **asdict(Fault(kind, action, path=path, times=times, **details)))

    def clear_faults(self) -> None:
        """Plan none any more, and let what is stalled or slow go on."""
        self._call("clear_faults")

    def counters(self) -> Counters:
        """Read what the upstream has seen since the last reset."""
        counted = Counters(**self._call("counters"))
        counted.blob_gets, counted.blob_bytes = Counter(counted.blob_gets), Counter(counted.blob_bytes)
        counted.requests = Counter(counted.requests)
        return counted

    def reset_counters(self) -> None:
        self._call("reset_counters")

    def down(self, *listeners: ListenerName) -> None:
        """Refuse connections on these listeners (none named: all three) and cut those that are open."""
        self._send("POST", "/down", json.dumps(listeners or ("registry", "realm", "cdn")).encode())

    def up(self, *listeners: ListenerName) -> None:
        """Listen again, on the same ports and with the same content."""
        self._send("POST", "/up", json.dumps(listeners or ("registry", "realm", "cdn")).encode())

    def reset(self) -> None:
        """Bring it back to how it started: empty, with 100 GETs in 6 hours, no faults, everything listening."""
        self._call("reset")
        self.up()

    def _urls(self) -> dict[str, str] | None:
        lines = [line for line in self._process.output().splitlines(keepends=True) if line.endswith("}\n")]
        return json.loads(lines[0]) if lines else None

    def _call(self, name: str, **fields: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._send("POST", f"/{name}", json.dumps(fields).encode()))
        return answer

    def _send(self, method: str, path: str, body: bytes) -> bytes:
        with closing(http.client.HTTPConnection(self._control, timeout=30)) as connection:
            connection.request(method, path, body=body)
            response = connection.getresponse()
            data = response.read()
        if response.status != 200:
            raise ValueError(f"the upstream refused {path}: {data.decode(errors='replace')}")
        return data
