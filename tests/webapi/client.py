"""A small client of the REST API that holds every answer against the document.

It is told operations by their ids, as the document names them, and finds method and path there itself. An answer with
a status, a header or a body that the document does not have is a failure wherever it comes up.
"""

from __future__ import annotations

import http.client
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from app.web.api.document import BASE, document

TIMEOUT = 30.0

OPERATIONS: Mapping[str, tuple[str, str]] = {
    operation.id: (method.upper(), path)
    for path, item in document().paths.items()
    for method, operation in item.items()
}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The words of an error; there is exactly one."""
        (error,) = self.json()["errors"]
        return str(error["message"])

    @property
    def number(self) -> int:
        """The number of what was just made."""
        assert self.status == 201, self
        return int(self.headers["Location"].rpartition("/")[2])

    def __str__(self) -> str:
        return f"{self.status} {dict(self.headers.items())} {self.body[:600]!r}"


class Api:
    """The API as one caller sees it: anonymous, by user name and secret, or by the headers given."""

    def __init__(
        self, host: str, username: str | None = None, secret: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.host, self.username, self.secret = host, username, secret
        self._headers = dict(headers or {})
        if username is not None:
            self._headers["Authorization"] = "Basic " + b64encode(f"{username}:{secret}".encode()).decode()

    def do(self, operation: str, body: object = None, query: Mapping[str, Any] | None = None, **path: object) -> Answer:
        """Do an operation of the document; a repository's name is encoded as it has to be."""
        method, template = OPERATIONS[operation]
        if "repository_name" in path:
            path["repository_name"] = quote(str(path["repository_name"]), safe="")
        spelled = template
        for name, value in path.items():
            spelled = spelled.replace(f"{{{name}}}", quote(str(value), safe=""))
        if query:
            spelled += "?" + urlencode({name: _text(value) for name, value in query.items()})
        answer = self.call(method, spelled, body)
        check(template, method.lower(), answer)
        return answer

    def call(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request; ``body`` is sent as JSON, or as it is where it is bytes."""
        sent = {**self._headers, **(headers or {})}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, timeout=TIMEOUT)
        try:
            connection.request(method, BASE + path, data, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()


def check(path: str, method: str, answer: Answer) -> None:
    """Hold an answer against the document; raises AssertionError."""
    assert answer.headers["X-Request-Id"], answer
    assert answer.status < 500, answer
    place: tuple[str | int, ...] = ("paths", path, method, "responses")
    responses = document().content["paths"][path][method]["responses"]
    status = str(answer.status)
    assert status in responses or answer.status >= 400, f"{method} {path}: {answer} is not in the document"
    place += (status if status in responses else "default",)
    said = responses[place[-1]]
    if "$ref" in said:
        place = tuple(said["$ref"].removeprefix("#/").split("/"))
        said = document().content["components"]["responses"][place[-1]]
    for name, header in said.get("headers", {}).items():
        known = document().content["components"]["headers"][header["$ref"].rpartition("/")[2]]
        assert not known.get("required") or answer.headers[name] is not None, f"{method} {path}: {answer} lacks {name}"
    content = said.get("content")
    if method == "head" or content is None:
        assert answer.body == b"", f"{method} {path}: {answer} has a body that the document does not have"
        return
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert kind in content, f"{method} {path}: {answer} is of a type that the document does not have"
    if kind == "application/json":
        faults = list(document().validator(*place, "content", kind, "schema").iter_errors(answer.json()))
        assert not faults, f"{method} {path}: {answer}: {faults[0]}"


def _text(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
