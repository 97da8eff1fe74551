"""Proves of a regular expression that it takes time in proportion to the text, whatever the text is.

Python's matcher tries one way after another. It is linear if it never has two ways to try: at each choice (another
round of a repeat or not, this alternative or that one) the next character must say which. Then a way that was given
up fails at its first character. `fault` checks this on the parsed pattern: what each way can begin with. A possessive
repeat of one character (``\\s*+``) is no choice, because it gives nothing back. One more case is linear, such as
``.+/a/[^/]+``: a repeat of one character may give back if what follows it reads on only to the next such character.

A search starts anew at every character, so a start that fails must not have read far. `fault` allows a searched
pattern a repeat without a bound only if nothing after it can fail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]  # only these know a pattern's parts
from typing import Any

Characters = frozenset[str]

# ASCII, some of each kind of other character that a class can tell apart, and those whose case folds oddly.
_ALL: Characters = frozenset([*map(chr, range(0x180)), *"\u0660\u1e9e\u2028\u212a\u4e00\U0001f600"])
_END: Characters = frozenset(["the end of the text"])
_SINGLE = {_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN}
_REPEATS = {_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT}
# A choice outside of repeats at most doubles the time, if it is not decided. So there may be some.
_MOST_CHOICES = 3
# In characters: what a failed start of a search may read, and a look-ahead.
_FAR = 512


class Ambiguous(Exception):
    """There is more than one way to try."""


def fault(pattern: re.Pattern[str], *, searched: bool) -> str | None:
    """Say why a pattern may take more than linear time, None if it cannot; ``searched``: not only where it begins."""
    parsed = _parser.parse(pattern.pattern, pattern.flags)
    proof = _Proof(parsed.state)
    try:
        proof.sequence(parsed.data, _END, [], looped=False)
        # One look-ahead before all else is made once.
        first = 1 if not searched and parsed.data and parsed.data[0][0] is _constants.ASSERT else 0
        _check_looks(parsed.data[first:])
        if searched:
            _check_search(parsed.data, last=True)
    except Ambiguous as reason:
        return str(reason)
    return f"{proof.choices} choices are left open" if proof.choices > _MOST_CHOICES else None


class _Proof:
    """Goes through a pattern from its end; ``choices`` counts those that are left open and do no harm."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self.choices = 0

    def sequence(self, items: Sequence[Any], after: Characters, rest: Sequence[Any], *, looped: bool) -> Characters:
        """List what some items, and the ``rest`` after them, can begin with; ``after`` is that of the rest alone.

        ``looped``: they are in a repeat, where an open choice would be made again and again. Raises Ambiguous.
        """
        for place in reversed(range(len(items))):
            after = self._item(items[place], after, [*items[place + 1 :], *rest], looped=looped)
        return after

    def _item(self, item: tuple[Any, Any], after: Characters, rest: Sequence[Any], *, looped: bool) -> Characters:
        operation, value = item
        if operation in _SINGLE:
            return self._members(item)
        if operation is _constants.SUBPATTERN and not value[1] and not value[2]:
            return self.sequence(value[3].data, after, rest, looped=looped)
        if operation is _constants.BRANCH:
            firsts = [self.sequence(branch.data, after, rest, looped=looped) for branch in value[1]]
            for one, other in combinations(firsts, 2):
                self._choose(one & other, looped=looped)
            return frozenset().union(*firsts)
        if operation in _REPEATS:
            return self._repeat(item, after, rest, looped=looped)
        if operation is _constants.AT:
            ends = {_constants.AT_END_STRING: _END, _constants.AT_END: _END | {"\n"}}
            return ends.get(value, after)
        if operation in (_constants.ASSERT, _constants.ASSERT_NOT):
            self.sequence(value[1].data, frozenset(), [], looped=looped)
            return after
        if operation is _constants.GROUPREF and not looped:
            return _ALL | after
        raise Ambiguous(f"nothing is known about {operation} here")

    def _repeat(self, item: tuple[Any, Any], after: Characters, rest: Sequence[Any], *, looped: bool) -> Characters:
        operation, (least, most, body) = item
        again: Characters = frozenset()
        if most > 1:
            if body.getwidth()[0] == 0:
                raise Ambiguous("a repeat of what may be empty")
            again = _Proof(self._state).sequence(body.data, frozenset(), [], looped=True)
        first = self.sequence(body.data, again | after, [item, *rest], looped=looped or most > 1)
        both = first & after if least != most else frozenset()
        stops = not looped and _reads_far(item[1]) and self._stop_at(both, rest)
        if not (_is_single(body) and (stops or operation is _constants.POSSESSIVE_REPEAT)):
            self._choose(both, looped=looped or most > 1)
        return first if least else first | after

    def _choose(self, both: Characters, *, looped: bool) -> None:
        if both and looped:
            raise Ambiguous(f"two ways go on with {min(both)!r}")
        self.choices += bool(both)

    def _stop_at(self, characters: Characters, items: Sequence[Any]) -> bool:
        """Say whether no repeat without a bound among some items reads past any of these characters."""
        known = _SINGLE | _REPEATS | {_constants.SUBPATTERN, _constants.BRANCH, _constants.AT}
        for operation, value in items:
            if operation not in known:
                return False
            if operation in _REPEATS and _reads_far(value):
                if not _is_single(value[2]) or self._members(value[2].data[0]) & characters:
                    return False
            elif not all(self._stop_at(characters, part.data) for part in _parts(operation, value)):
                return False
        return True

    def _members(self, item: tuple[Any, Any]) -> Characters:
        single = _compiler.compile(_parser.SubPattern(self._state, [item]))
        return frozenset(filter(single.fullmatch, _ALL))


def _is_single(body: Any) -> bool:
    return len(body.data) == 1 and body.data[0][0] in _SINGLE


def _reads_far(repeat: Any) -> bool:
    _, most, body = repeat
    return bool(most * body.getwidth()[1] > _FAR)


def _check_search(items: Sequence[Any], *, last: bool) -> None:
    """Raise Ambiguous unless a start that fails has read at most `_FAR`; ``last``: nothing after these can fail."""
    for place, (operation, value) in enumerate(items):
        ends = last and all(each[0] in _REPEATS and each[1][0] == 0 for each in items[place + 1 :])
        if operation is _constants.SUBPATTERN:
            _check_search(value[3].data, last=ends)
        elif operation is _constants.BRANCH:
            for branch in value[1]:
                _check_search(branch.data, last=ends)
        elif operation in _REPEATS and _reads_far(value) and not (ends and _is_single(value[2])):
            raise Ambiguous("a search reads far before it fails")


def _check_looks(items: Sequence[Any]) -> None:
    """Raise Ambiguous if a look-ahead that may be made more than once reads far."""
    for operation, value in items:
        if operation in (_constants.ASSERT, _constants.ASSERT_NOT) and value[1].getwidth()[1] > _FAR:
            raise Ambiguous("a look-ahead reads far")
        for part in _parts(operation, value):
            _check_looks(part.data)


def _parts(operation: Any, value: Any) -> Sequence[Any]:
    if operation is _constants.SUBPATTERN:
        return [value[3]]
    if operation is _constants.BRANCH:
        return list(value[1])
    return [value[2]] if operation in _REPEATS else []
