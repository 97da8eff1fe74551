"""Match names of repositories and tags with globs, in Harbor's words.

    *        any text within one part of a name
    **       any text, slashes too; ``**/`` is any number of parts, also none
    ?        one character, but no slash
    {a,b}    a or b

A glob matches whole names. All places that a match may have reached are the bits of one number. Each character of
the name moves them all at once, so the time is proportional to the name.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from functools import lru_cache

MAX_GLOB = 255
# The most texts that the braces of one glob, and its ``**/``, may stand for.
_MOST_ALTERNATIVES = 64

_GLOB = re.compile(r"(?:[a-z0-9._/*?-]|\{[a-z0-9._/*?,-]*\})+\Z")
_TAG_GLOB = re.compile(r"(?:[A-Za-z0-9._*?-]|\{[A-Za-z0-9._*?,-]*\})+\Z")
_PIECE = re.compile(r"\*+|[^*]")


class Glob:
    """A glob, ready to match; it is made from a text for which `is_glob` is true."""

    def __init__(self, text: str) -> None:
        self._start = self._end = self._within = self._across = self._one = 0
        self._character: defaultdict[str, int] = defaultdict(int)
        place = 1
        for alternative in _alternatives(text):
            self._start |= place
            for piece in _PIECE.findall(alternative):
                if piece == "*":
                    self._within |= place
                elif piece.startswith("*"):
                    self._across |= place
                elif piece == "?":
                    self._one |= place
                else:
                    self._character[piece] |= place
                place <<= 1
            self._end |= place
            place <<= 1
        self._empty = self._within | self._across

    def matches(self, name: str) -> bool:
        """Return whether the whole name matches."""
        places = self._start | (self._start & self._empty) << 1
        for character in name:
            stays, moves = self._across, self._character.get(character, 0)
            if character != "/":
                stays, moves = stays | self._within, moves | self._one
            places = (places & stays) | (places & moves) << 1
            # A star may also match nothing more. No two stars stand side by side.
            places |= (places & self._empty) << 1
            if not places:
                return False
        return bool(places & self._end)


@lru_cache(maxsize=1024)
def glob(text: str) -> Glob:
    """Return a glob, made once per worker."""
    return Glob(text)


def is_glob(text: str, *, of_tags: bool = False) -> bool:
    """Return whether a text is a glob that can match the name of a repository, or that of a tag."""
    if len(text) > MAX_GLOB or (_TAG_GLOB.match(text) if of_tags else _GLOB.match(text)) is None:
        return False
    return math.prod(len(alternatives) for alternatives in _choices(text)) <= _MOST_ALTERNATIVES


def is_pattern(text: str) -> bool:
    """Return whether a glob can match more than one name."""
    return any(mark in text for mark in "*?{")


def _alternatives(text: str) -> list[str]:
    return ["".join(chosen) for chosen in itertools.product(*_choices(text))]


def _choices(text: str) -> list[list[str]]:
    """Return the pieces of a glob in order, each with its alternatives."""
    choices: list[list[str]] = []
    while text:
        begins_part = not choices or choices[-1] in (["/"], ["", "**/"])
        if text.startswith("{"):
            inside, _, text = text[1:].partition("}")
            choices.append(inside.split(","))
        elif text.startswith("**/") and begins_part:
            choices.append(["", "**/"])
            text = text[3:]
        else:
            choices.append([text[0]])
            text = text[1:]
    return choices
