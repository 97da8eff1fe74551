"""A mail server on the loopback address, strict about the order of commands, which keeps what it takes."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Self, cast


@dataclass
class Taken:
    """A letter that the server answered with 250, or swallowed without an answer."""

    sender: str
    to: list[str]
    message: EmailMessage
    encrypted: bool


@dataclass
class SmtpServer:
    """``says`` answers a command in place of the server: a line, or None to end the connection at once."""

    tls: ssl.SSLContext | None = None
    login: tuple[str, str] | None = None
    says: Callable[[str], str | None] = lambda _: ""
    taken: list[Taken] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await _Session(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class _Session:
    """One connection; a command out of order gets 503."""

    def __init__(self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self._encrypted = self._greeted = False
        self._known = server.login is None
        self._sender: str | None = None
        self._to: list[str] = []

    async def run(self) -> None:
        self._say("220 here")
        while line := (await self._reader.readline()).decode():
            assert line.endswith("\r\n")
            word, blank, rest = line.rstrip("\r\n").partition(" ")
            command = word.upper() + blank + rest
            said = self._server.says(command)
            if said is None:
                return
            answer = said or await self._answer(command)
            self._say(answer)
            if answer.startswith("221"):
                return
            if answer == "220 go ahead":
                await self._writer.start_tls(cast("ssl.SSLContext", self._server.tls))
                self._encrypted, self._greeted = True, False

    def _say(self, text: str) -> None:
        self._writer.write(text.encode() + b"\r\n")

    async def _answer(self, command: str) -> str:
        word, _, rest = command.partition(" ")
        match word:
            case "EHLO":
                self._greeted = True
                offers = ["STARTTLS"] if self._server.tls and not self._encrypted else []
                offers += ["AUTH PLAIN"] if self._server.login and self._encrypted else []
                return "\r\n".join(["250-here", *(f"250-{offer}" for offer in offers), "250 8BITMIME"])
            case "STARTTLS" if self._server.tls and not self._encrypted:
                return "220 go ahead"
            case "AUTH" if self._encrypted and self._server.login:
                expected = base64.b64encode("\0{}\0{}".format(*self._server.login).encode()).decode()
                self._known = rest == f"PLAIN {expected}"
                return "235 welcome" if self._known else "535 who"
            case "RSET":
                self._sender, self._to = None, []
                return "250 fine"
            case "QUIT":
                return "221 bye"
            case "MAIL" if self._greeted and self._known and self._sender is None:
                self._sender = _address(rest, "FROM:")
                return "250 fine"
            case "RCPT" if self._sender is not None:
                self._to.append(_address(rest, "TO:"))
                return "250 fine"
            case "DATA" if self._to:
                self._say("354 go on")
                return await self._take()
        return "503 not now"

    async def _take(self) -> str:
        lines = []
        while (line := await self._reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line.removeprefix(b"."))
        message = message_from_bytes(b"".join(lines), policy=default)
        self._server.taken.append(Taken(self._sender or "", self._to, message, self._encrypted))
        self._sender, self._to = None, []
        said = self._server.says("the end of a letter")
        if said is None:
            raise ConnectionAbortedError
        return said or "250 taken"


def _address(rest: str, before: str) -> str:
    assert rest.upper().startswith(f"{before}<"), rest
    return rest[len(before) + 1 :].partition(">")[0]
