"""The event of a request, one line of JSON: who asked for which content, how it went, and why.

The server that sends the answer writes it. That is the worker, or a web server in front, which knows the bytes that
were really sent. Then the worker hands over its part in a header of the answer, which the web server keeps from the
client (``server.events: header``; ansible/roles/nginx has the other side).

    hit         the content was here
    stale       as last known, with a Warning
    asked       a HEAD that the upstream answered
    filled      this request made the registry fetch the content from the upstream
    followed    another request made it do so, and this one waited for that
    done        anything else that succeeded
    challenged  401 to a client that showed no valid token: it gets one and asks again
    absent      404 to a HEAD: a client asks whether content is here before it sends it
    refused     any other 4xx
    failed      5xx, or an answer that was cut
    left        the client left before the answer
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Protocol

from app.database.requests import KeptRequest
from app.kit.facts import Facts
from app.projects.requests import Requests

HEADER = "X-Registry-Event"
# Health checks and metrics of monitors, which ask every few seconds.
PROBES = frozenset({"HealthHandler", "ReadyHandler", "MetricsHandler"})

# An answer that begins later is slow (docs/guide/alerts.md, RegistrySlow).
SLOW_SECONDS = 5.0

# Of the pages and the REST API.
_REFUSALS = frozenset({401, 403, 429})
_PULLS = frozenset({"manifests", "blobs", "tags", "referrers"})
_LONGEST = 500
_quote = json.encoder.encode_basestring_ascii


class Observed(Protocol):
    """A request of any kind, with the values that are logged and counted.

    ``tells``: its answer has the event's part in a header. ``waited``: seconds until its answer began. ``challenged``:
    a 401 only asks for a token.
    """

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def route(self) -> str: ...

    @property
    def status(self) -> int: ...

    @property
    def bytes_in(self) -> int: ...

    @property
    def bytes_out(self) -> int: ...

    @property
    def started(self) -> float: ...

    @property
    def waited(self) -> float: ...

    @property
    def request_id(self) -> str: ...

    @property
    def subject(self) -> str: ...

    @property
    def client_address(self) -> str: ...

    @property
    def facts(self) -> Facts: ...

    @property
    def tells(self) -> bool: ...

    @property
    def challenged(self) -> bool: ...


def line(call: Observed, seconds: float) -> str:
    """Return the whole event of a request that took ``seconds``, for a log of our own."""
    return (
        f'{{"time": {time.time():.3f}, "level": "info", "logger": "access", "request_id": "{call.request_id}", '
        f'"method": {_quote(call.method)}, "path": {_quote(call.path)}, "status": {call.status}, '
        f'"bytes": {call.bytes_out}, "seconds": {seconds:.4f}, "client": {_quote(call.client_address)}, '
        f"{part(call)}}}\n"
    )


def part(call: Observed) -> str:
    """Return what a web server in front does not know, as members of a JSON object, in ASCII.

    The web server repeats answers. It does not repeat the members from ``outcome`` on, which hold for one request.
    """
    facts = call.facts
    told = (
        f'"route": "{call.route}", "who": {_quote(call.subject)}, "repository": {_quote(facts.repository)}, '
        f'"reference": {_quote(facts.reference[:_LONGEST])}, "digest": {_quote(facts.digest)}, '
        f'"outcome": "{outcome(call)}"'
    )
    if facts.phases is None and facts.error is None and not facts.pulls:
        return told
    return told + _more(facts)


def _more(facts: Facts) -> str:
    told = f', "pulls": {facts.pulls}' if facts.pulls else ""
    if facts.error is not None:
        why = _quote(facts.why[:_LONGEST])
        told += f', "code": "{facts.code}", "cause": "{facts.cause}", "why": {why}'
    for phase, seconds in (facts.phases or {}).items():
        told += f', "{phase}_ms": {seconds * 1000:.1f}'
    return told


def outcome(call: Observed) -> str:
    """Return the word for how a request went; `app.web.events` explains them."""
    status, facts = call.status, call.facts
    if status < 400:
        if facts.error is not None:
            return "failed"
        return facts.outcome or ("hit" if call.route in _PULLS and call.method in ("GET", "HEAD") else "done")
    if status == 499:
        return "left"
    if status >= 500:
        return "failed"
    if status == 401 and call.challenged:
        return "challenged"
    return "absent" if status == 404 and call.method == "HEAD" else "refused"


def keeper(requests: Requests) -> Callable[[Observed, float], None]:
    """Return what keeps a request and its seconds for operators, if it is one of those that they ask about.

    Clients are often challenged, and ask for what is absent. People mistype addresses of pages. None of that is kept.
    """
    host = socket.gethostname()

    def keep(call: Observed, seconds: float) -> None:
        how, facts = outcome(call), call.facts
        usual = how in ("challenged", "absent", "left") or (
            how == "refused" and not call.path.startswith("/v2") and call.status not in _REFUSALS
        )
        if call.route in PROBES or (usual and max(call.waited, 0.0 if call.bytes_in else seconds) < SLOW_SECONDS):
            return
        phases = {**(facts.phases or {}), "answer": call.waited}
        requests.keep(
            KeptRequest(
                at=time.time(),
                request_id=call.request_id,
                host=host,
                method=call.method,
                path=call.path,
                route=call.route,
                status=call.status,
                outcome=how,
                code=facts.code,
                cause=facts.cause,
                why=facts.why,
                who=call.subject,
                client=call.client_address,
                repository=facts.repository,
                reference=facts.reference,
                digest=facts.digest,
                pulls=facts.pulls,
                bytes=call.bytes_out,
                seconds=seconds,
                phases=phases,
            )
        )

    return keep
