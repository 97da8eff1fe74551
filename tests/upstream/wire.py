"""How answers are sent: over the line, and through the fault that struck them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from aiohttp import web

from .faults import Fault, pause
from .state import State

_CHUNK = 64 * 1024
_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}
_PAGE = b"<!DOCTYPE html><html><title>Sign in</title><h1>Sign in to the guest network</h1></html>\n"


def error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Make an error in the distribution specification's JSON."""
    body = json.dumps({"errors": [{"code": code, "message": message, "detail": None}]}).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def storage_error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Make an error in an object store's XML."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(status=status, text=text, content_type="application/xml", headers=headers)


def instead(fault: Fault | None, challenge: Mapping[str, str] | None = None, *, path: str = "") -> web.Response | None:
    """Give the answer that a fault puts in place of the real one; None where it leaves or only bends that.

    ``challenge`` goes with a planned 401, ``path`` is that of the request with its query.
    """
    if fault is None:
        return None
    if fault.action == "status":
        headers = dict(challenge or {}) if fault.status == 401 else {}
        if fault.retry_after is not None:
            headers["Retry-After"] = fault.retry_after
        if fault.kind == "cdn":
            return storage_error(fault.status, "PlannedFault", "planned fault", headers)
        unknown = "BLOB_UNKNOWN" if fault.kind == "blob" else "MANIFEST_UNKNOWN"
        code = unknown if fault.status == 404 else _CODES.get(fault.status, "UNKNOWN")
        return error(fault.status, code, "planned fault", headers)
    if fault.action in ("html", "page"):
        return web.Response(
            status=200 if fault.action == "html" else fault.status, body=_PAGE, content_type="text/html"
        )
    if fault.action == "redirect":
        return web.Response(status=307, headers={"Location": fault.url})
    if fault.action == "moved":
        return web.Response(status=307, headers={"Location": fault.url + path.replace("/v2/", f"/v2/{fault.text}", 1)})
    if fault.action == "see_other":
        return web.Response(status=303, headers={"Location": fault.url})
    return None


async def send(
    request: web.Request,
    state: State,
    body: bytes,
    headers: Mapping[str, str],
    *,
    status: int = 200,
    fault: Fault | None = None,
    sent: Callable[[int], None] = lambda size: None,
) -> web.StreamResponse:
    """Send ``body`` as fast as the line and the fault allow; ``sent`` hears of each piece's size."""
    action = fault.action if fault is not None else None
    response = web.StreamResponse(status=status, headers=headers)
    if action == "no_digest":
        response.headers.popall("Docker-Content-Digest", None)
    if action == "chunked" and request.method != "HEAD":
        response.enable_chunked_encoding()
    elif action != "chunked" and not (action == "no_length" and request.method == "HEAD"):
        response.content_length = len(body) + (fault.delta if fault and action == "wrong_length" else 0)
    if fault is not None and action == "header":
        name, _, value = fault.text.partition(":")
        response.headers[name] = value.strip()
    if action == "corrupt":
        body = _corrupt(body)
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            await _write(response, state, memoryview(body), fault, sent)
            if action == "cut" or (action == "wrong_length" and fault and fault.delta > 0):
                _close(request)
        await response.write_eof()
    except ConnectionError:
        _close(request)
    return response


async def _write(
    response: web.StreamResponse, state: State, body: memoryview, fault: Fault | None, sent: Callable[[int], None]
) -> None:
    over = state.faults.over

    async def put(part: memoryview, chunk: int = _CHUNK, delay: float = 0.0) -> None:
        for start in range(0, len(part), chunk):
            piece = part[start : start + chunk]
            if delay:
                await pause(over, delay)
            await state.line.carry(len(piece))
            await response.write(piece)
            sent(len(piece))

    if fault is not None and fault.action == "cut":
        await put(body[: len(body) // 2 if fault.after is None else fault.after])
    elif fault is not None and fault.action == "stall" and fault.after is not None:
        await put(body[: fault.after])
        await pause(over, fault.seconds)
        await put(body[fault.after :])
    elif fault is not None and fault.action == "slow":
        chunk = max(1, fault.rate // 10)
        await put(body, chunk, chunk / fault.rate)
    else:
        await put(body)


def _corrupt(body: bytes) -> bytes:
    other = bytearray(body)
    other[len(body) // 2] ^= 1
    return bytes(other)


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()
