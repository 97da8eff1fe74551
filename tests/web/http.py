"""A browser's way of asking, without the browser: cookies, forms and redirects that are looked at."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Self
from urllib.parse import urlencode


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def location(self) -> str:
        return self.headers["Location"] or ""


class Person:
    """Keeps cookies; sends ``headers`` with everything, and the token of the last page with every form."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.cookies: dict[str, str] = {}
        self.token = ""
        self.headers: dict[str, str] = {}

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(self._host, timeout=30)
        sent = {"Accept": "text/html", **self.headers, **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read().decode())
        connection.close()
        for line in response.headers.get_all("Set-Cookie") or []:
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
        found = re.search(r'name="_xsrf" value="([^"]+)"', answer.text)
        self.token = found[1] if found else self.token
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post(
        self, path: str, fields: Mapping[str, str | list[str]] | None = None, *, token: str | None = None
    ) -> Answer:
        form = {**(fields or {}), "_xsrf": self.token if token is None else token}
        body = urlencode({name: value for name, value in form.items() if value != ""}, doseq=True).encode()
        return self.ask("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"})

    def log_in(self, username: str, password: str) -> Self:
        self.get("/login")
        answer = self.post("/login", {"username": username, "password": password, "next": "/"})
        assert answer.status == 303, (answer.status, re.findall(r'role="alert".*?</div>', answer.text, re.DOTALL))
        self.get("/help")
        return self

    def message(self, answer: Answer) -> str:
        """Follow a form's redirect and read the message that it left."""
        assert answer.status == 303, (answer.status, answer.text[:500])
        page = self.get(answer.location)
        found = re.search(r'class="note note-(\w+)".*?<span>(.*?)</span>', page.text, re.DOTALL)
        return f"{found[1]}: {found[2]}" if found else ""
