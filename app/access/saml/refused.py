"""The reason why a university log-in is refused, for the log and never for the browser."""

from __future__ import annotations

_LONGEST = 300


class Refused(Exception):
    """A reason in words. It may quote names and addresses that were sent, cut short; never an assertion or a secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}…")
