"""Clients that mean harm, as a program: ``python -m tests.crowd.hostile``, with a `Target` as JSON on standard input.

It attacks until it gets SIGTERM, and then prints how each kind of attack was answered. Each kind comes from addresses
of its own. Each client begins again as soon as it was answered or cut off.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import re
import signal
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlencode

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_JSON = {"Content-Type": "application/json"}
_LARGE = 1_000_000
# No answer came: the connection was closed or reset.
CUT = "cut"


@dataclass(frozen=True)
class Target:
    """Who is attacked, by how many clients of each kind from how many addresses, and what the attackers know.

    ``nice``: how much the attackers leave the processor to others, so that nobody waits for their own work.
    ``pause``: the seconds between two attacks of a client. ``member``: the user name and password of a hostile member,
    who may push to ``repository``. ``blob``: the path of a large public blob. ``names``: accounts whose passwords are
    guessed. ``authority``: the file of the certificates to trust; None: plain HTTP.
    """

    port: int
    host: str
    authority: str | None
    clients: Mapping[str, int]
    addresses: int
    nice: int
    pause: float
    member: tuple[str, str]
    repository: str
    blob: str
    names: tuple[str, ...] = field(default=())


def address_of(kind: str, number: int = 0) -> str:
    """Return the address from which a client attacks."""
    return f"127.2.{list(ATTACKS).index(kind)}.{1 + number}"


class Attacker:
    """A hostile client of one kind."""

    def __init__(self, kind: str, number: int, target: Target, counts: Counter[tuple[str, str]]) -> None:
        self.target = target
        self._address = address_of(kind, number % target.addresses)
        self._kind = kind
        self._counts = counts
        self._trusts = None if target.authority is None else ssl.create_default_context(cafile=target.authority)

    async def run(self) -> None:
        """Attack again and again."""
        while True:
            with suppress(OSError, EOFError, ssl.SSLError):
                await ATTACKS[self._kind](self)
            await asyncio.sleep(self.target.pause * random.uniform(0.5, 1.5))

    async def connect(self, receive_buffer: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection from this client's address."""
        raw = socket.socket()
        try:
            if receive_buffer is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
            raw.bind((self._address, 0))
            raw.setblocking(False)
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.target.port))
            name = None if self._trusts is None else "localhost"
            return await asyncio.open_connection(sock=raw, ssl=self._trusts, server_hostname=name, limit=4096)
        except BaseException:
            raw.close()
            raise

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, length: int | None = None
    ) -> str:
        """Send a request on a connection of its own, and return the answer's head; `EOFError` if there is none.

        ``length`` is the stated length of the body, of which ``body`` may be the beginning only.
        """
        reader, writer = await self.connect()
        try:
            writer.write(self.head(method, path, {**headers, "Content-Length": str(length or len(body))}) + body)
            return await self.answer(reader)
        finally:
            writer.transport.abort()

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        """Spell a head."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.target.host}", *map(": ".join, headers.items())]
        return "\r\n".join([*lines, "", ""]).encode()

    async def answer(self, reader: asyncio.StreamReader) -> str:
        """Read the head of an answer and count its status."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (OSError, EOFError, asyncio.LimitOverrunError):
            self.count(CUT)
            raise EOFError from None
        self.count(head.split(" ", 2)[1])
        return head

    def count(self, status: str) -> None:
        """Count an attack's outcome."""
        self._counts[self._kind, status] += 1

    def login(self) -> str:
        """Spell a wrong log-in: of an account that exists, or of a name that is nobody's."""
        name = random.choice((*self.target.names, f"nobody-{random.random()}"))
        return _basic(name, f"guess {random.random()}")


async def _idle(attacker: Attacker) -> None:
    """Ask for something small, and keep the connection."""
    reader, writer = await attacker.connect()
    try:
        writer.write(attacker.head("GET", "/healthz", {}))
        await attacker.answer(reader)
        while await reader.read(4096):
            pass
        attacker.count(CUT)
    finally:
        writer.transport.abort()


async def _slow_head(attacker: Attacker) -> None:
    """Send a head that never ends, sometimes most of it at once."""
    reader, writer = await attacker.connect()
    closed = asyncio.ensure_future(attacker.answer(reader))
    try:
        writer.write(attacker.head("GET", "/", {"X-Long": "x" * random.choice((10, 20_000))})[:-2])
        while not closed.done():
            writer.write(b"X-More: " + b"x" * 100 + b"\r\n")
            await asyncio.wait([closed], timeout=1)
        await closed
    finally:
        closed.cancel()
        writer.transport.abort()


async def _slow_body(attacker: Attacker) -> None:
    """Send a large form, or a manifest, except its last byte."""
    size = random.choice((1_000, _LARGE, _LARGE))
    path = random.choice(("/login", "/service/token", "/addresses", "/saml/acs", "/api/v2.0/projects"))
    await attacker.ask("POST", path, _FORM, b"x" * (size - 1), length=size)


async def _slow_reader(attacker: Attacker) -> None:
    """Ask for a large blob and read as little as the kernel allows."""
    token = await _token(attacker, f"repository:{attacker.target.repository}:pull", {})
    reader, writer = await attacker.connect(receive_buffer=4096)
    try:
        writer.write(attacker.head("GET", attacker.target.blob, {"Authorization": f"Bearer {token}"}))
        await attacker.answer(reader)
        # Longer than any patience.
        await asyncio.sleep(300)
    finally:
        writer.transport.abort()


async def _large_json(attacker: Attacker) -> None:
    """Send a document that takes long to check, as nobody and as a member."""
    rights = {"kind": "project", "namespace": "a", "access": [{"resource": "repository", "action": "pull"}]}
    count = random.choice((1_200, 9_000))
    body = json.dumps({"name": "x", "level": "project", "duration": 1, "permissions": [rights] * count}).encode()
    login = random.choice(({}, {"Authorization": _basic(*attacker.target.member)}))
    await attacker.ask("POST", "/api/v2.0/robots", {**_JSON, **login}, body)


async def _bait(attacker: Attacker) -> None:
    """Give the address helper texts that a careless pattern would try in countless ways."""
    text = random.choice(
        ("nginx:" + "$aaaa" * 5_000 + "!", "!\n" * 16_000, "! " * 16_000, "\n" * 30_000, "FROM " * 6_000)
    )
    visitor, token = await _form(attacker, "/")
    form = urlencode({"_xsrf": token, "text": text}).encode()
    await attacker.ask("POST", "/addresses", {**_FORM, "Cookie": f"visitor={visitor}"}, form)


async def _xml(attacker: Attacker) -> None:
    """Send a costly answer of the university, without a log-in that was begun and with one."""
    many = " ".join(f'a{number}="{number}"' for number in range(random.choice((10_000, 25_000))))
    text = random.choice((f'<r:Response xmlns:r="urn:oasis:names:tc:SAML:2.0:protocol" {many}/>', "<a>" * 60_000))
    form = urlencode({"SAMLResponse": base64.b64encode(text.encode()).decode()}).encode()
    begun = await attacker.ask("GET", "/saml/login", {}) if random.random() < 0.5 else ""
    cookie = begun.partition("Set-Cookie: ")[2].partition(";")[0]
    await attacker.ask("POST", "/saml/acs", {**_FORM, **({"Cookie": cookie} if cookie else {})}, form)


async def _guess(attacker: Attacker) -> None:
    """Guess a password in one of the places that take one."""
    login = {"Authorization": attacker.login()}
    if random.random() < 0.25:
        visitor, token = await _form(attacker, "/login")
        form = {"_xsrf": token, "username": random.choice(attacker.target.names), "password": str(random.random())}
        await attacker.ask("POST", "/login", {**_FORM, "Cookie": f"visitor={visitor}"}, urlencode(form).encode())
        return
    path = random.choice(("/v2/", "/api/v2.0/users/current", "/service/token"))
    await attacker.ask("GET", path, login)


async def _large_manifest(attacker: Attacker) -> None:
    """Push a manifest that takes long to read, as a member."""
    place = attacker.target.repository
    token = await _token(attacker, f"repository:{place}:pull,push", {"Authorization": _basic(*attacker.target.member)})
    body = json.dumps({"schemaVersion": 2, "annotations": {str(number): "x" for number in range(200_000)}}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/vnd.oci.image.index.v1+json"}
    await attacker.ask("PUT", f"/v2/{place}/manifests/large", headers, body)


async def _upload(attacker: Attacker) -> None:
    """Open an upload, as a member, and leave it."""
    scope = f"repository:{attacker.target.repository}:pull,push"
    token = await _token(attacker, scope, {"Authorization": _basic(*attacker.target.member)})
    for _ in range(20):
        path = f"/v2/{attacker.target.repository}/blobs/uploads/"
        await attacker.ask("POST", path, {"Authorization": f"Bearer {token}"})


async def _slow_upload(attacker: Attacker) -> None:
    """Begin to send a layer, as a member, and stop."""
    place = attacker.target.repository
    token = await _token(attacker, f"repository:{place}:pull,push", {"Authorization": _basic(*attacker.target.member)})
    headers = {"Authorization": f"Bearer {token}"}
    begun = await attacker.ask("POST", f"/v2/{place}/blobs/uploads/", headers)
    session = re.search(r"(?i)\r\nlocation: (?:https?://[^/]*)?(\S+)", begun)
    if session is not None:
        await attacker.ask("PATCH", session[1], headers, b"x" * 700_000, length=_LARGE)


ATTACKS: Mapping[str, Callable[[Attacker], Awaitable[None]]] = {
    "guess": _guess,
    "idle": _idle,
    "slow head": _slow_head,
    "slow body": _slow_body,
    "slow reader": _slow_reader,
    "large JSON": _large_json,
    "large manifest": _large_manifest,
    "bait": _bait,
    "XML": _xml,
    "upload": _upload,
    "slow upload": _slow_upload,
}


async def _form(attacker: Attacker, path: str) -> tuple[str, str]:
    """Open a page, and return the visitor's cookie and the token of its form."""
    head, text = await _get(attacker, path, {})
    visitor = head.partition("visitor=")[2].partition(";")[0]
    return visitor, text.partition('name="_xsrf" value="')[2].partition('"')[0]


async def _token(attacker: Attacker, scope: str, headers: Mapping[str, str]) -> str:
    _, text = await _get(attacker, "/service/token?" + urlencode({"scope": scope}), headers)
    return str(json.loads(text)["token"])


async def _get(attacker: Attacker, path: str, headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the head and the text of a whole answer; counts any but 200, and raises EOFError then."""
    reader, writer = await attacker.connect()
    try:
        writer.write(attacker.head("GET", path, {**headers, "Connection": "close"}))
        head, _, text = (await reader.read(-1)).decode("latin-1").partition("\r\n\r\n")
    finally:
        writer.transport.abort()
    status = head.split(" ", 2)[1] if head else CUT
    if status != "200":
        attacker.count(status)
        raise EOFError
    return head, text


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


async def _attack(target: Target) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    attackers = [
        Attacker(kind, number, target, counts) for kind, count in target.clients.items() for number in range(count)
    ]
    tasks = [asyncio.ensure_future(attacker.run()) for attacker in attackers]
    await stopped.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return counts


def as_json(target: Target) -> str:
    """Spell a target for the program."""
    return json.dumps(asdict(target))


def main() -> None:
    """Attack the target of standard input."""
    target = Target(**json.load(sys.stdin))
    if target.nice:
        os.nice(target.nice)
        with suppress(OSError):
            # If the kernel groups processes by their session, the group's niceness is what counts.
            Path("/proc/self/autogroup").write_text(str(target.nice))
    counts = asyncio.run(_attack(target))
    outcomes: dict[str, dict[str, int]] = {}
    for (kind, status), count in sorted(counts.items()):
        outcomes.setdefault(kind, {})[status] = count
    print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main()
