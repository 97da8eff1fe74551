"""Start the upstream; it prints one line of JSON with its URLs when it listens, and ends at SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal

from .cdn import Cdn
from .control import Control
from .listener import Listener
from .realm import Realm
from .registry import Registry
from .state import State


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description="A strict stand-in for Docker Hub.")
    parser.add_argument("--port", type=int, default=0, help="of the registry; 0: a free one, as the others always take")
    parser.add_argument("--cdn-host", default="127.0.0.1", help="the CDN's address, such as 127.0.0.2")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.cdn_host))


async def _serve(port: int, cdn_host: str) -> None:
    state = State()
    cdn = Cdn(state)
    listeners = {
        "registry": Listener(
            [*Realm(state).routes(), *Registry(state).routes(), *cdn.routes(own_host=False)], "127.0.0.1", port
        ),
        "realm": Listener(Realm(state).routes(), "127.0.0.1", 0),
        "cdn": Listener(cdn.routes(), cdn_host, 0),
    }
    control = Listener(Control(state, listeners).routes(), "127.0.0.1", 0)
    state.registry_url, state.cdn_url = listeners["registry"].url, listeners["cdn"].url
    state.realm_url = listeners["realm"].url + "/token"
    for listener in (*listeners.values(), control):
        await listener.up()
    ended = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, ended.set)
    urls = {"registry": state.registry_url, "realm": state.realm_url, "cdn": state.cdn_url, "control": control.url}
    print(json.dumps(urls), flush=True)
    await ended.wait()


main()
