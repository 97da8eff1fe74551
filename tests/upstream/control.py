"""The tests' own listener: JSON in, JSON out; a mistake answers 400 with its reason.

`client.Hub` is its one client and spells every call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from .counters import Counters
from .faults import Fault
from .limits import Limit
from .listener import Listener
from .state import State

Call = Callable[[dict[str, Any]], Any]


class Control:
    def __init__(self, state: State, listeners: Mapping[str, Listener]) -> None:
        self._state, self._listeners = state, listeners

    def routes(self) -> list[web.RouteDef]:
        calls: list[Call] = [
            self.add, self.tag, self.remove, self.referrers_api, self.account, self.limit, self.uncount, self.count,
            self.leave, self.spend, self.pace, self.lifetimes, self.logins, self.challenge, self.revoke, self.fault,
            self.clear_faults, self.counters, self.reset_counters,
            self.reset,
        ]  # fmt: skip
        return [
            web.put("/blobs/{digest}", self.put_blob),
            *(web.post(f"/{call.__name__}", _json(call)) for call in calls),
            web.post("/up", self.up),
            web.post("/down", self.down),
        ]

    async def put_blob(self, request: web.Request) -> web.Response:
        self._state.content.blobs[request.match_info["digest"]] = await request.read()
        return web.json_response({})

    async def up(self, request: web.Request) -> web.Response:
        for name in await request.json():
            await self._listeners[name].up()
        return web.json_response({})

    async def down(self, request: web.Request) -> web.Response:
        for name in await request.json():
            await self._listeners[name].down()
        return web.json_response({})

    def add(self, call: dict[str, Any]) -> None:
        manifests = {digest: (media_type, text.encode()) for digest, (media_type, text) in call["manifests"].items()}
        tags = dict.fromkeys(call["tags"], call["digest"])
        self._state.content.add(call["repository"], manifests, call["blobs"], tags, call["readers"])

    def tag(self, call: dict[str, Any]) -> None:
        repository = self._state.content.repositories[call["repository"]]
        if call["digest"] not in repository.manifests:
            raise ValueError(f"{call['repository']} has no {call['digest']}")
        repository.tags[call["tag"]] = call["digest"]

    def remove(self, call: dict[str, Any]) -> None:
        self._state.content.remove(call["repository"], call["reference"])

    def referrers_api(self, call: dict[str, Any]) -> None:
        self._state.content.referrers_api = call["there"]

    def account(self, call: dict[str, Any]) -> None:
        self._state.tokens.accounts[call["username"]] = call["password"]

    def limit(self, call: dict[str, Any]) -> None:
        limit = Limit(call["count"], call["window"])
        if call["source"] is None:
            self._state.limits.default = limit
        else:
            self._state.limits.by_source[call["source"]] = limit

    def uncount(self, call: dict[str, Any]) -> None:
        self._state.limits.uncounted.add((call["repository"], call["source"]))

    def count(self, call: dict[str, Any]) -> None:
        uncounted = self._state.limits.uncounted
        uncounted -= {one for one in uncounted if one[0] == call["repository"]}

    def leave(self, call: dict[str, Any]) -> None:
        self._state.limits.leave(call["source"], call["remaining"])

    def spend(self, call: dict[str, Any]) -> None:
        self._state.limits.spend(call["source"], call["count"])

    def pace(self, call: dict[str, Any]) -> None:
        self._state.line.bandwidth, self._state.line.latency = call["bandwidth"], call["latency"]

    def lifetimes(self, call: dict[str, Any]) -> None:
        self._state.tokens.lifetime, self._state.links_live = call["token"], call["link"]

    def logins(self, call: dict[str, Any]) -> None:
        self._state.logins = call["kind"]

    def challenge(self, call: dict[str, Any]) -> None:
        self._state.service, self._state.scope = call["service"], call["scope"]

    def revoke(self, call: dict[str, Any]) -> None:
        self._state.tokens.revoke()

    def fault(self, call: dict[str, Any]) -> None:
        self._state.faults.plan(Fault(**call))

    def clear_faults(self, call: dict[str, Any]) -> None:
        self._state.faults.clear()

    def counters(self, call: dict[str, Any]) -> dict[str, Any]:
        return vars(self._state.counters)

    def reset_counters(self, call: dict[str, Any]) -> None:
        self._state.counters = Counters()

    def reset(self, call: dict[str, Any]) -> None:
        self._state.reset()


def _json(call: Call) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            return web.json_response(call(await request.json()) or {})
        except (KeyError, TypeError, ValueError) as error:
            return web.Response(status=400, text=f"{call.__name__}: {error!r}")

    return answer
