"""The registry's listener: `/v2/` as Docker Hub answers it.

A name that is private, unknown or of one component (`redis`: `library/` is not implied) gets 401, not 404.
Only GETs of manifests count against the limit. Blobs are redirected, nothing can be pushed. Tags come a thousand to a
page, referrers one, if there is an API for them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable

from aiohttp import web

from tests.images import OCI_INDEX

from . import wire
from .cdn import sign
from .content import Repository
from .faults import Fault, Kind
from .state import State
from .tokens import Token

_MOST_TAGS = 1000
_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


class Registry:
    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        gate = self._state.gate
        manifests, blobs, name = gate("manifest", self.manifest), gate("blob", self.blob), "/v2/{name:.+}"
        return [
            web.get("/v2/", gate("ping", self.ping), allow_head=False),
            web.get(name + "/manifests/{reference}", manifests),
            web.get(name + "/blobs/{digest:[^/]+:[^/]+}", blobs),
            web.get(name + "/tags/list", gate("list", self.tags), allow_head=False),
            web.get(name + "/referrers/{digest:[^/]+:[^/]+}", gate("list", self.referrers), allow_head=False),
            web.route("*", "/v2/{name:.*}", gate("ping", self.refuse)),
        ]

    async def ping(self, request: web.Request) -> web.StreamResponse:
        state = self._state
        if self._token(request, None) is None:
            return self._challenge("ping", request, None)
        state.counters.ping += 1
        fault = state.fault("ping", request)
        await state.hold(fault, request)
        return wire.instead(fault) or web.json_response({})

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        state, counters = self._state, self._state.counters
        name, counted = request.match_info["name"], request.method == "GET"
        token, repository = self._allowed(request)
        if token is None or repository is None:
            return self._challenge("manifest", request, name)
        fault = state.fault("manifest", request)
        await state.hold(fault, request)
        if not counted:
            counters.head_manifest += 1
        source = token.user or request.remote or ""
        refused = wire.instead(fault, self._challenge_headers(name, fault), path=request.path_qs) or (
            self._count(name, source, token.user) if counted else None
        )
        if refused is not None:
            if counted and refused.status == 429:
                counters.get_manifest_429 += 1
            return refused
        limits = state.limits.headers(source, token.user) if state.limits.counts(name, source) else {}
        return await self._send_manifest(request, repository, limits, fault)

    def _count(self, name: str, source: str, user: str | None) -> web.Response | None:
        state = self._state
        if not state.limits.counts(name, source):
            state.counters.get_manifest_uncounted += 1
            return None
        if state.limits.take(source):
            state.counters.get_manifest += 1
            return None
        text = "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading"
        return wire.error(429, "TOOMANYREQUESTS", text, state.limits.headers(source, user))

    async def _send_manifest(
        self, request: web.Request, repository: Repository, limits: dict[str, str], fault: Fault | None
    ) -> web.StreamResponse:
        reference = request.match_info["reference"]
        accepted = _accepted(request.headers.getall("Accept", []))
        found = repository.find(reference)
        if found is not None and found[1] == _DOCKER_LIST and found[1] not in accepted and reference != found[0]:
            found = _default_platform(repository, found[2])
        if found is None:
            return wire.error(404, "MANIFEST_UNKNOWN", "manifest unknown", limits)
        digest, media_type, payload = found
        if media_type not in accepted:
            text = f"{media_type} found, but accept header does not support it"
            return wire.error(404, "MANIFEST_UNKNOWN", text, limits)
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        return await wire.send(request, self._state, payload, headers | limits, fault=fault)

    async def blob(self, request: web.Request) -> web.StreamResponse:
        state, counters = self._state, self._state.counters
        name, digest = request.match_info["name"], request.match_info["digest"]
        token, repository = self._allowed(request)
        if token is None or repository is None:
            return self._challenge("blob", request, name)
        if request.method == "HEAD":
            counters.head_blob += 1
        else:
            counters.get_blob += 1
        fault = state.fault("blob", request)
        await state.hold(fault, request)
        if answer := wire.instead(fault, self._challenge_headers(name, fault), path=request.path_qs):
            return answer
        if digest not in repository.blobs:
            return wire.error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        counters.redirects += 1
        base = "" if fault is not None and fault.action == "relative" else state.cdn_url
        method = "GET" if fault is not None and fault.action == "get_signed" else request.method
        return web.Response(status=307, headers={"Location": base + sign(method, digest, state.links_live)})

    async def tags(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]

        def page(repository: Repository) -> tuple[dict[str, object], str | None]:
            tags = sorted(tag for tag in repository.tags if tag > request.query.get("last", ""))
            count = min(int(request.query.get("n", _MOST_TAGS)), _MOST_TAGS)
            more = f"/v2/{name}/tags/list?n={count}&last={tags[count - 1]}" if len(tags) > count else None
            return {"name": name, "tags": tags[:count]}, more

        return await self._list(request, page, "application/json")

    async def referrers(self, request: web.Request) -> web.StreamResponse:
        name, subject = request.match_info["name"], request.match_info["digest"]
        if not self._state.content.referrers_api:
            return await self.refuse(request)

        def page(repository: Repository) -> tuple[dict[str, object], str | None]:
            found = [one for one in repository.referrers(subject) if one["digest"] > request.query.get("last", "")]
            more = f"/v2/{name}/referrers/{subject}?last={found[0]['digest']}" if len(found) > 1 else None
            return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found[:1]}, more

        return await self._list(request, page, OCI_INDEX)

    async def _list(
        self,
        request: web.Request,
        page: Callable[[Repository], tuple[dict[str, object], str | None]],
        content_type: str,
    ) -> web.StreamResponse:
        state, name = self._state, request.match_info["name"]
        token, repository = self._allowed(request)
        if token is None or repository is None:
            return self._challenge("list", request, name)
        state.counters.list += 1
        fault = state.fault("list", request)
        await state.hold(fault, request)
        if answer := wire.instead(fault, self._challenge_headers(name, fault), path=request.path_qs):
            return answer
        document, more = page(repository)
        headers = {"Content-Type": content_type} | ({"Link": f'<{more}>; rel="next"'} if more else {})
        return await wire.send(request, state, json.dumps(document).encode(), headers, fault=fault)

    async def refuse(self, request: web.Request) -> web.StreamResponse:
        """Answer everything else, pushes among it: no token ever holds more than pull."""
        if request.method in ("GET", "HEAD"):
            return wire.error(404, "NOT_FOUND", "no such route")
        name = re.split("/(?:blobs|manifests|referrers|tags)/", request.match_info["name"])[0]
        return self._challenge("ping", request, name)

    def _allowed(self, request: web.Request) -> tuple[Token | None, Repository | None]:
        name = request.match_info["name"]
        token = self._token(request, name)
        if token is None or name not in token.pulls:
            return None, None
        return token, self._state.content.repositories.get(name)

    def _token(self, request: web.Request, name: str | None) -> Token | None:
        """Give the token of a request; one made up where there is no token service but Basic, or no login at all."""
        state, authorization = self._state, request.headers.get("Authorization")
        if state.logins == "bearer":
            return state.tokens.check(authorization)
        user = state.tokens.login(authorization) if authorization and state.logins == "basic" else None
        if state.logins == "basic" and user is None:
            return None
        pulls = {name} if name is not None and state.content.may_pull(name, user) else set()
        return Token(user, frozenset(pulls), math.inf)

    def _challenge(self, kind: Kind, request: web.Request, name: str | None) -> web.Response:
        self._state.counters.unauthorized += 1
        fault = self._state.fault(kind, request, challenge=True)
        return wire.error(401, "UNAUTHORIZED", "authentication required", self._challenge_headers(name, fault))

    def _challenge_headers(self, name: str | None, fault: Fault | None) -> dict[str, str]:
        """Spell the challenge that goes with a 401, a planned one too."""
        if fault is not None and fault.action == "challenge":
            return {"WWW-Authenticate": fault.text}
        if self._state.logins == "basic":
            return {"WWW-Authenticate": 'Basic realm="registry"'}
        realm = fault.url if fault is not None and fault.action == "realm" else self._state.realm_url
        challenge = f'Bearer realm="{realm}"'
        if self._state.service is not None:
            challenge += f',service="{self._state.service}"'
        if name is not None:
            scope = self._state.scope or f"repository:{name}:pull"
            challenge += f',scope="{scope}",error="insufficient_scope"'
        return {"WWW-Authenticate": challenge}


def _default_platform(repository: Repository, payload: bytes) -> tuple[str, str, bytes] | None:
    """Give what an old client gets for a tag when it knows no lists: the image for linux/amd64."""
    for child in json.loads(payload)["manifests"]:
        if (child["platform"]["os"], child["platform"]["architecture"]) == ("linux", "amd64"):
            return repository.find(child["digest"])
    return None


def _accepted(headers: Iterable[str]) -> set[str]:
    """Name the types a client accepts; ``*/*`` accepts none, as with Docker Hub."""
    return {part.partition(";")[0].strip() for header in headers for part in header.split(",")}
