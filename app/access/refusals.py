"""Puts down who was not let in, by a name that is somebody's or by none.

A user name that is nobody's may be a password that was typed into the wrong field: it is written nowhere.
"""

from __future__ import annotations

from collections.abc import Callable

from app.database import Database, credentials
from app.oci.errors import TooManyRequests, Unauthorized

from .accounts import acceptable

# What is to be answered with one of these was a log-in that failed.
FAILED = (Unauthorized, TooManyRequests)


class Refusals:
    """Tells ``note`` (a name, "" for nobody's, and an address), which does not wait."""

    def __init__(self, database: Database, note: Callable[[str, str], None]) -> None:
        self._database = database
        self._note = note

    async def add(self, username: str, address: str) -> None:
        """Note a log-in that failed; raises Unavailable."""
        known = False
        if acceptable(username, "-"):
            known = await self._database.read(credentials.is_name, username)
        self._note(username if known else "", address)
