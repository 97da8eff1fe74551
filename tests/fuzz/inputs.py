"""Generate inputs: valid ones by their grammar, then some edits. Count how many inputs each target has had.

hypothesis draws a seed for some inputs, and shows the input of a failure. They are made from the seed here, because
drawing each of their parts costs more than the parsers under test.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

_FEW = 40
_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", _FEW))
# So many inputs are made from a seed.
_BATCH = 20
# An edit replaces so many characters at most, and a random piece has as many.
_MOST_EDITED = 20
_MOST_PIECE = 8

Test = Callable[..., None]
T = TypeVar("T")
Text = TypeVar("Text", str, bytes)
COUNTED: Counter[str] = Counter()
_EXAMPLES_OF = "examples"

_DEEP: Any = json.loads("[" * 200 + "]" * 200)
_ODD: Sequence[Any] = (
    None, True, False, 0, -1, 2**31, 2**63 - 1, 2**63, 10**400, 1e308, 1.5, float("inf"), float("nan"), "", "\0",
    "\ud800", "\u212a", "²", "٣", "x" * 5000, "a\r\nb", "{a,b}", "%s %(x)s", [], {}, ["a", 1], {"a": {"b": []}}, _DEEP,
)  # fmt: skip
# Characters that parsers tend to treat alone, and a range of code points for the others.
_SPECIAL = "\0\t\n\r \"'%&+,-./:;<=>?@[\\]_{}~0aA²٣İ\u212a\u2028\ud800\udcff\U0001f600"


def fuzz(*makes: Callable[[Random], Any], costs: int = 1) -> Callable[[Test], Test]:
    """Try inputs on the last parameters of a test, each made by one of ``makes``.

    ``costs``: an input takes as long as so many of an ordinary parser.
    """

    def decorate(test: Test) -> Test:
        signature = inspect.signature(test)

        def attempt(fixtures: dict[str, Any], inputs: Sequence[Any]) -> None:
            COUNTED[test.__name__] += 1
            test(*fixtures.values(), *inputs)

        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            for inputs in getattr(test, _EXAMPLES_OF, ()):
                attempt(fixtures, inputs)

            @settings(
                max_examples=max(1, _EXAMPLES // costs // _BATCH),
                derandomize=_EXAMPLES == _FEW,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(st.integers(0, 2**64 - 1))
            def try_seed(seed: int) -> None:
                chance = Random(seed)
                for _ in range(_BATCH):
                    inputs = [make(chance) for make in makes]
                    try:
                        attempt(fixtures, inputs)
                    except BaseException:
                        note(f"{test.__name__}: {inputs!r}")
                        raise

            try_seed()

        fixtures = list(signature.parameters.values())[: -len(makes)]
        vars(run)["__signature__"] = signature.replace(parameters=fixtures)
        return run

    return decorate


def example(*inputs: Any) -> Callable[[Test], Test]:
    """Try these inputs each time, before those that are made."""

    def decorate(test: Test) -> Test:
        vars(test).setdefault(_EXAMPLES_OF, []).append(inputs)
        return test

    return decorate


def character(chance: Random, most: int = 0x10FFFF) -> str:
    """Return a character of any kind, up to a code point."""
    special = chance.choice(_SPECIAL)
    if chance.random() < 0.4 and ord(special) <= most:
        return special
    return chr(chance.randrange(chance.choice([0x80, 0x100, min(most, 0x3000), most]) + 1) % (most + 1))


def text(chance: Random, longest: int = 20, most: int = 0x10FFFF) -> str:
    """Return a text of any characters, such as JSON can hold: also halves of surrogate pairs."""
    return "".join(character(chance, most) for _ in range(chance.randrange(longest + 1)))


def header(chance: Random) -> str:
    """Return a header of a request: Tornado reads bytes as Latin-1."""
    return text(chance, most=255)


def upstream_header(chance: Random) -> str:
    """Return a header of an upstream: aiohttp reads UTF-8, and keeps any other byte as half a surrogate pair."""
    return chance.randbytes(chance.randrange(_MOST_EDITED)).decode(errors="surrogateescape")


def edit(chance: Random, valid: Text, pieces: Sequence[Text], most: int = 4) -> Text:
    """Put pieces in some places of a text, in addition or instead: given ones, its own, or random ones."""
    for _ in range(chance.randrange(most + 1)):
        start = chance.randrange(len(valid) + 1)
        stop = min(len(valid), start + (chance.randrange(_MOST_EDITED) if chance.random() < 0.5 else 0))
        valid = valid[:start] + _piece(chance, valid[start:stop], pieces) + valid[stop:]
    return valid


def _piece(chance: Random, own: Text, pieces: Sequence[Text]) -> Text:
    kind = chance.random()
    if kind < 0.5 and pieces:
        return chance.choice(pieces)
    if kind < 0.6:
        return own * 2
    if kind < 0.7:
        return own[:0]
    random: Any = text(chance, _MOST_PIECE) if isinstance(own, str) else chance.randbytes(chance.randrange(_MOST_PIECE))
    found: Text = random
    return found


def edited(make: Callable[[Random], Text], *pieces: Text, most: int = 4) -> Callable[[Random], Text]:
    """Return what makes a valid text and edits it."""
    return lambda chance: edit(chance, make(chance), pieces, most)


def one_of(*values: T) -> Callable[[Random], T]:
    """Return what chooses one of these values."""
    return lambda chance: chance.choice(values)


def odd_value(chance: Random) -> Any:
    """Return a value that has no place in most documents."""
    return text(chance) if chance.random() < 0.3 else copy.deepcopy(chance.choice(_ODD))


def odd(chance: Random, document: Any, most: int = 4) -> Any:
    """Return a document of JSON with odd values in some of its places, some values less, and some more."""
    found = copy.deepcopy(document)
    for _ in range(chance.randrange(most + 1)):
        places = _places(found)
        if not places or chance.random() < 0.02:
            return odd_value(chance)
        holder, key = chance.choice(places)
        what = chance.random()
        if what < 0.4:
            del holder[key]
        elif what < 0.5 and isinstance(holder, dict):
            holder[chance.choice([str(key).upper(), f"{key}\0", text(chance)])] = odd_value(chance)
        else:
            holder[key] = odd_value(chance)
    return found


def odd_json(chance: Random, *documents: Any, pieces: Sequence[bytes] = ()) -> bytes:
    """Return one of these documents with odd values, as JSON that may be cut or malformed."""
    written = json.dumps(odd(chance, chance.choice(documents))).encode()
    return edit(chance, written, pieces, 2) if chance.random() < 0.5 else written


def _places(value: Any) -> list[tuple[Any, Any]]:
    """List where values are in a document: what holds each, and its key there."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
        for key, item in items:
            if len(found) < 200:
                found.append((holder, key))
                waiting.append(item)
    return found
