"""What the audit log says of log-ins and logouts."""

from __future__ import annotations

from typing import Any

from tests.parts.process import eventually
from tests.parts.service import ADMIN, PASSWORD, Service
from tests.webapi.client import Api


async def noted(site: Service, text: str = "", *, until: str, by: str = "") -> list[tuple[str, str, str]]:
    """Wait until an operation is noted; gives operation, kind and who (kind:name), the newest first.

    ``by``: who must have done it; earlier tests may have left notes of others.
    """

    async def found() -> list[tuple[str, str, str]] | None:
        rows = entries(site, text)
        told = [(row["operation"], row["resource_type"], f"{row['user_kind']}:{row['username']}") for row in rows]
        return told if any(operation == until and by in ("", who) for operation, _, who in told) else None

    return await eventually(found, what=f"{until} in the audit log")


def entries(site: Service, text: str = "") -> list[dict[str, Any]]:
    """List the newest entries that have a text in them."""
    query = {"page_size": 100} | ({"q": f"text=~{text}"} if text else {})
    rows: list[dict[str, Any]] = Api(site.host, ADMIN, PASSWORD).do("listAuditLogs", query=query).json()
    return rows
