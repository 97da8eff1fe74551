"""The realm's listener: `GET /token`, however it is spelled, with scopes cut down to what may be pulled."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from aiohttp import web

from . import wire
from .state import State

# As Docker Hub and ghcr.io, public.ecr.aws, quay.io, gcr.io, nvcr.io and GitLab spell it.
PATHS = ("/token", "/token/", "/v2/auth", "/v2/token", "/proxy_auth", "/jwt/auth")


class Realm:
    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        handler = self._state.gate("token", self.token)
        return [web.get(path, handler, allow_head=False) for path in PATHS]

    async def token(self, request: web.Request) -> web.StreamResponse:
        state = self._state
        state.counters.token += 1
        fault = state.fault("token", request)
        await state.hold(fault, request)
        if answer := wire.instead(fault, path=request.path_qs):
            return answer
        authorization = request.headers.get("Authorization")
        user = state.tokens.login(authorization) if authorization is not None else None
        if authorization is not None and user is None:
            return web.json_response({"details": "incorrect username or password"}, status=401)
        if request.query.get("service") != state.service:
            return web.json_response({"details": f"service must be {state.service}"}, status=400)
        text = state.tokens.issue(user, self._pulls(user, request.query.getall("scope", [])))
        issued_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        answered = {
            "token": text,
            "access_token": text,
            "expires_in": int(state.tokens.lifetime),
            "issued_at": issued_at,
        }
        body = json.dumps(answered).encode()
        return await wire.send(request, state, body, {"Content-Type": "application/json"}, fault=fault)

    def _pulls(self, user: str | None, scopes: list[str]) -> frozenset[str]:
        """Keep of the scopes asked for the repositories that ``user`` may pull."""
        content = self._state.content
        if self._state.scope is not None:
            every = content.repositories if self._state.scope in scopes else ()
            return frozenset(name for name in every if content.may_pull(name, user))
        asked = [scope.split(":") for line in scopes for scope in line.split()]
        return frozenset(
            parts[1]
            for parts in asked
            if len(parts) == 3
            and parts[0] == "repository"
            and "pull" in parts[2].split(",")
            and content.may_pull(parts[1], user)
        )
