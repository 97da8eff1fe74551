"""Requests as operators ask about them."""

from __future__ import annotations

from app.database.requests import KeptRequest


def made(number: int = 0, **changed: object) -> KeptRequest:
    """Make one that was refused; ``number`` is its time and is in its id."""
    values: dict[str, object] = {
        "at": float(number), "request_id": f"id-{number}", "host": "here", "method": "GET", "path": "/v2/",
        "route": "root", "status": 429, "outcome": "refused", "code": "TOOMANYREQUESTS", "cause": "", "why": "",
        "who": "anonymous", "client": "192.0.2.1", "repository": "", "reference": "", "digest": "", "pulls": 0,
        "bytes": 0, "seconds": 0.1,
    }  # fmt: skip
    return KeptRequest(**{**values, **changed})  # type: ignore[arg-type]  # as in the table
