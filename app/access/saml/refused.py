"""Why a university log-in is refused: the reason is for the log, and its code for the person in the browser."""

from __future__ import annotations

from enum import StrEnum

_LONGEST = 300


class Code(StrEnum):
    """A word that a person can tell the operators. None of them helps somebody who makes up answers."""

    # The answer cannot be trusted or read.
    ANSWER = "answer"
    # The assertion is not encrypted, but has to be.
    ENCRYPTION = "encryption"
    # The clocks differ, or the answer is old.
    TIME = "time"
    # The browser has no log-in open that this could answer.
    BROWSER = "browser"
    # The identity is missing, not one, of another organisation, or cannot be a user name.
    IDENTITY = "identity"
    # No rule of ``saml.allow`` holds.
    RULE = "rule"
    # The account is disabled, has a password that is kept here, or belongs to somebody with another lasting id.
    ACCOUNT = "account"


class Refused(Exception):
    """A reason in words. It may quote names and addresses that were sent, cut short; never an assertion or a secret."""

    def __init__(self, reason: str, code: Code = Code.ANSWER) -> None:
        super().__init__(reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}…")
        self.code = code
