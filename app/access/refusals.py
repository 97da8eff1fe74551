"""Notes failed log-ins by their user name, or without one if it is unknown.

An unknown user name may be a password that was typed into the wrong field, so it is written nowhere.
"""

from __future__ import annotations

from collections.abc import Callable

from app.database import Database, credentials
from app.oci.errors import TooManyRequests, Unauthorized

from .accounts import acceptable

# A request that is answered with one of these was a failed log-in.
FAILED = (Unauthorized, TooManyRequests)


class Refusals:
    """Calls ``note`` with a user name, or "" for an unknown one, and an address; ``note`` must not wait."""

    def __init__(self, database: Database, note: Callable[[str, str], None]) -> None:
        self._database = database
        self._note = note

    async def add(self, username: str, address: str) -> None:
        """Note a failed log-in; raises Unavailable."""
        known = False
        if acceptable(username, "-"):
            known = await credentials.is_name(self._database, username)
        self._note(username if known else "", address)
