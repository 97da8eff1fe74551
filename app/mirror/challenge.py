"""The ways to log in that an upstream's 401 offers.

Source: RFC 9110, 11 (challenges).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'[ \t,]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')
_SCHEME = re.compile(rf"[ \t,]*({_WORD})(?=[ \t,]|\Z)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in; ``scheme`` and the names of parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read every ``WWW-Authenticate`` header of an answer; what cannot be read is passed over."""
    challenges: list[Challenge] = []
    for header in headers:
        parameters: dict[str, str] | None = None
        position = 0
        while position < len(header):
            match = _PARAMETER.match(header, position) if parameters is not None else None
            if match is not None and parameters is not None:
                value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
                parameters.setdefault(match[1].lower(), value)
            elif match := _SCHEME.match(header, position):
                parameters = {}
                challenges.append(Challenge(match[1].lower(), parameters))
            else:
                break
            position = match.end()
    return challenges
