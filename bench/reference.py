"""Two bare Tornado servers, to say what the least is that Python can do: one answer of a manifest's size, from memory.

``python -m bench.reference handler|delegate HOST:PORT``. No routes, no access control, no log, one process.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.web import Application, RequestHandler

BODY = b'{"schemaVersion": 2}'.ljust(1800)


class Handler(RequestHandler):
    async def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        await self.finish(BODY)


class Answer(HTTPMessageDelegate):
    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def finish(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        _ = self._connection.write(head + BODY)
        self._connection.finish()


class Delegate(HTTPServerConnectionDelegate):
    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return Answer(request_conn)


async def main(kind: str, host: str) -> None:
    callback = Application([(r"/.*", Handler)], log_function=lambda handler: None) if kind == "handler" else Delegate()
    address, _, port = host.partition(":")
    HTTPServer(cast("Application", callback)).listen(int(port), address)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
