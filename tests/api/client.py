"""A small client of the distribution API; every request goes out on a connection of its own, to whichever worker.

It is as strict as a client may be: every answer must carry the headers that all answers carry, and a body that
names its digest must have it.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import http.client
import json
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tests.images import Image

TIMEOUT = 30.0
# Tokens live for five minutes; a suite may take longer.
_RENEW_AFTER = 120.0
_NAME = re.compile(
    r"/v2/(.+)/(?:(?:manifests|referrers|blobs/uploads|blobs)/[^/?]+|blobs/uploads/?|tags/list)(?:\?.*)?"
)


@dataclass(frozen=True)
class Answer:
    """What came back; a missing header is a KeyError for ``answer["Name"]``."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def __getitem__(self, name: str) -> str:
        value = self.headers[name]
        if value is None:
            raise KeyError(f"{name} is not among the headers of {self}")
        return str(value)

    def get(self, name: str) -> str | None:
        value = self.headers[name]
        return None if value is None else str(value)

    def json(self) -> Any:
        return json.loads(self.body)

    def __str__(self) -> str:
        return f"{self.status} {dict(self.headers.items())} {self.body[:600]!r}"


class Registry:
    """The registry as one user sees it: anonymous, one with a password, or the bearer of a given token."""

    def __init__(
        self, host: str, username: str | None = None, password: str | None = None, *, token: str | None = None
    ) -> None:
        self.host = host
        self._login = None if username is None else (username, password or "")
        self._given = token
        self.connect: Callable[[], http.client.HTTPConnection] = lambda: http.client.HTTPConnection(
            host, timeout=TIMEOUT
        )
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        self._lock = threading.Lock()

    def call(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        token: str | None = None,
    ) -> Answer:
        """Send one request with a token for its repository and give the answer, whatever its status.

        ``body``: an iterable goes out chunked. ``token``: this one instead; "" for none at all.
        """
        out = {"Authorization": self.authorization(path, token), **(headers or {})}
        answer = send(self.connect(), method, path, body, {name: value for name, value in out.items() if value})
        check_answer(answer, method, path)
        return answer

    def authorization(self, path: str, token: str | None = None) -> str:
        """Give the header for a request: a token for its repository, or the given one."""
        if token is None:
            token = self._given
        if token is None:
            match = _NAME.fullmatch(path)
            actions = "pull" if self._login is None else "pull,push,delete"
            token = self.token(f"repository:{match[1]}:{actions}" if match else "registry:catalog:*")
        return f"Bearer {token}" if token else ""

    def token(self, *scopes: str) -> str:
        """Ask the token service, or take what it gave a moment ago."""
        with self._lock:
            token, until = self._tokens.get(scopes, ("", 0.0))
            if time.monotonic() >= until:
                answer = self.ask_token(*scopes)
                assert answer.status == 200, answer
                token = str(answer.json()["token"])
                self._tokens[scopes] = token, time.monotonic() + _RENEW_AFTER
            return token

    def ask_token(self, *scopes: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request to the token service and give the answer."""
        query = urlencode([("service", self.host), *(("scope", scope) for scope in scopes)])
        login = {} if self._login is None else {"Authorization": basic(*self._login)}
        return exchange(self.host, "GET", f"/service/token?{query}", None, {**login, **(headers or {})})

    def through(self, connect: Callable[[], http.client.HTTPConnection]) -> Registry:
        """Give the same user with connections of a kind (see `workers.landing_on`)."""
        other = copy.copy(self)
        other.connect = connect
        return other

    # blobs

    def begin(self, name: str, query: str = "") -> str:
        """Begin an upload session and give its path."""
        return location(expect(self.call("POST", f"/v2/{name}/blobs/uploads/{query}", b""), 202))

    def push_blob(self, name: str, data: bytes, algorithm: str = "sha256") -> str:
        """Push a blob the way most clients do, POST and PUT; give its digest."""
        digest = digest_of(data, algorithm)
        expect(self.call("PUT", closing(self.begin(name), digest), data), 201)
        return digest

    def blob(self, name: str, digest: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.call("GET", f"/v2/{name}/blobs/{digest}", None, headers)

    # manifests

    def manifest(self, name: str, reference: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.call("GET", f"/v2/{name}/manifests/{reference}", None, headers)

    def put_manifest(self, name: str, reference: str, payload: bytes, media_type: str | None) -> Answer:
        headers = {} if media_type is None else {"Content-Type": media_type}
        return self.call("PUT", f"/v2/{name}/manifests/{reference}", payload, headers)

    def push_manifest(self, name: str, reference: str, payload: bytes, media_type: str) -> str:
        """Push a manifest and give its digest."""
        return expect(self.put_manifest(name, reference, payload, media_type), 201)["Docker-Content-Digest"]

    def tags(self, name: str) -> list[str]:
        """List all tags, page by page."""
        return self.pages(f"/v2/{name}/tags/list", "tags")

    def pages(self, path: str, key: str) -> list[Any]:
        """Follow a listing's ``Link`` headers to the end and give all that the pages have under ``key``."""
        found: list[Any] = []
        following: str | None = path
        while following is not None:
            answer = expect(self.call("GET", following), 200)
            found += answer.json()[key]
            following = next_page(answer)
        return found

    # whole images

    def push_image(self, name: str, tag: str, image: Image) -> None:
        """Push an image or an index with all it has, the parts first."""
        for data in image.blobs.values():
            self.push_blob(name, data)
        for digest, (media_type, payload) in image.manifests.items():
            if digest != image.digest:
                self.push_manifest(name, digest, payload, media_type)
        self.push_manifest(name, tag, image.payload, image.media_type)

    def pull_image(self, name: str, reference: str) -> dict[str, bytes]:
        """Pull an image or an index with all it names, every digest verified; give the bytes by digest."""
        answer = expect(self.manifest(name, reference), 200)
        pulled = {answer["Docker-Content-Digest"]: answer.body}
        document = answer.json()
        for child in document.get("manifests", ()):
            pulled |= self.pull_image(name, child["digest"])
        for part in [*([document["config"]] if "config" in document else []), *document.get("layers", ())]:
            pulled[part["digest"]] = expect(self.blob(name, part["digest"]), 200).body
        return pulled


def exchange(
    host: str, method: str, path: str, body: bytes | Iterable[bytes] | None, headers: Mapping[str, str]
) -> Answer:
    """Send one request on a new connection and give the answer."""
    return send(http.client.HTTPConnection(host, timeout=TIMEOUT), method, path, body, headers)


def send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None,
    headers: Mapping[str, str],
) -> Answer:
    """Send a connection's last request and give the answer, also where it comes before all is sent."""
    chunked = body is not None and not isinstance(body, bytes)
    out = {"Connection": "close", **headers, **({"Transfer-Encoding": "chunked"} if chunked else {})}
    with contextlib.closing(connection):
        # A server that has made up its mind may stop reading; what it said is there to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body, out, encode_chunked=chunked)
        with connection.getresponse() as response:
            return Answer(response.status, response.msg, response.read())


def check_answer(answer: Answer, method: str, path: str) -> None:
    """Check what holds for every answer of the distribution API."""
    assert answer["X-Content-Type-Options"] == "nosniff", answer
    assert answer["Content-Security-Policy"] == "sandbox", answer
    assert answer["X-Request-Id"], answer
    assert answer.get("Set-Cookie") is None, answer
    assert answer.get("Server") is None, answer
    assert method == "HEAD" or answer.status in (204, 304) or int(answer["Content-Length"]) == len(answer.body), answer
    if answer.status >= 400 and method != "HEAD":
        refusal(answer)
    if answer.status in (200, 206, 304, 307) and re.search(r"/(manifests|blobs)/[^/]+\Z", path):
        digest = answer["Docker-Content-Digest"]
        if answer.status == 200 and method == "GET":
            assert digest == digest_of(answer.body, digest.partition(":")[0]), answer


def refusal(answer: Answer) -> dict[str, Any]:
    """Give the one error in an answer's body; AssertionError where it is not the specification's JSON."""
    assert answer["Content-Type"] == "application/json", answer
    document = answer.json()
    assert list(document) == ["errors"], answer
    (error,) = document["errors"]
    assert set(error) <= {"code", "message", "detail"}, answer
    assert re.fullmatch(r"[A-Z_]+", error["code"]), answer
    assert isinstance(error["message"], str), answer
    assert len(error["message"]) > 10, answer
    return dict(error)


def refused(answer: Answer, status: int, code: str) -> str:
    """Check a refusal's status and code; give its words."""
    assert answer.status == status, answer
    error = refusal(answer)
    assert error["code"] == code, answer
    return str(error["message"])


def expect(answer: Answer, status: int) -> Answer:
    """Give the answer back; AssertionError where it has another status."""
    assert answer.status == status, answer
    return answer


def location(answer: Answer) -> str:
    """Give the ``Location`` as a path with its query."""
    parts = urlsplit(answer["Location"])
    return parts.path + (f"?{parts.query}" if parts.query else "")


def closing(session: str, digest: str) -> str:
    """Spell the path that closes an upload session."""
    return f"{session}{'&' if '?' in session else '?'}digest={quote(digest)}"


def next_page(answer: Answer) -> str | None:
    """Give the path of a listing's next page, None where there is none."""
    link = answer.get("Link")
    if link is None:
        return None
    match = re.fullmatch(r'<([^<>"]+)>; rel="next"', link)
    assert match is not None, answer
    return match[1]


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def basic(username: str, password: str) -> str:
    """Spell a Basic ``Authorization``."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()
