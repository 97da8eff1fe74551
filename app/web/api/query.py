"""Parse Harbor's parameters that choose from a list and order it: ``q`` and ``sort``.

    q=name=lab            is lab                    q=name=~la           has "la" in it
    q=id=[1~5]            from 1 to 5               q=name={lab "a b"}   is one of these
    q=label_id=(1 2)      has all of these          several: with commas between
    sort=-name,id         by name, in reverse, and then by id

`openapi.yaml` lists the permitted fields of each operation; a request with any other field is refused. Values of ``q``
need quotes only for commas and for blanks in a list of values. Some of Harbor's clients encode ``q`` twice.

Source: Harbor, src/lib/q/builder.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import unquote_plus

from app.access.errors import Invalid
from app.database.text import storable

_MOST_TERMS = 20
_MOST_SORTED = 5
_QUOTED = r"""(?:"[^"]*"|'[^']*')"""
_VALUE = rf"""(?:{_QUOTED}|[^\s"'~,\[\]{{}}()]+)"""
_BOUND = rf"""(?:{_QUOTED}|[^"'~,\[\]{{}}()]*+)"""
_TERM = re.compile(
    rf"""\s*(?P<field>[A-Za-z_.]+)=(?:
        \[(?P<low>{_BOUND})~(?P<high>{_BOUND})\]
      | \{{(?P<any>{_VALUE}(?:\s+{_VALUE})*)\}}
      | \((?P<all>{_VALUE}(?:\s+{_VALUE})*)\)
      | ~(?P<like>{_QUOTED}|[^,"'][^,]*+)
      | (?P<is>{_QUOTED}|[^,"'~\[{{(][^,]*+)
    )\s*(?:,|\Z)""",
    re.VERBOSE,
)
_ENCODED_AGAIN = re.compile(r"%(?:3D|2C)", re.IGNORECASE)
_NEXT_VALUE = re.compile(rf"\s*({_VALUE})")


class Form(StrEnum):
    """How a field is compared."""

    IS = "is"
    LIKE = "like"
    RANGE = "range"
    ANY = "any"
    ALL = "all"


Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison. A range has two values, None for an open end; times are Unix seconds."""

    form: Form
    values: tuple[Value | None, ...]

    @property
    def value(self) -> Value:
        """The value of a term with one value."""
        (value,) = self.values
        return "" if value is None else value


def parse_query(text: str, known: Mapping[str, str]) -> dict[str, Term]:
    """Return the terms of ``q`` by field; raises Invalid.

    ``known`` maps each field to its type and, after a space, its permitted forms.
    """
    if _ENCODED_AGAIN.search(text):
        text = unquote_plus(text)
        if not storable(text):
            raise Invalid("q must be UTF-8 without NUL")
    terms: dict[str, Term] = {}
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None:
            raise Invalid("q cannot be read; use k=v, k=~v, k=[a~b], k={a b} or k=(a b), with commas between")
        field = match["field"]
        if field not in known:
            raise Invalid(
                "q: unknown field %(field)s; known fields are %(known)s",
                field=field[:50],
                known=", ".join(known) or "none",
            )
        if field in terms or len(terms) == _MOST_TERMS:
            raise Invalid("q: %(field)s is given twice", field=field)
        terms[field] = _term(match, field, known[field])
        position = match.end()
    return terms


def _term(match: re.Match[str], field: str, allowed: str) -> Term:
    kind, _, forms = allowed.partition(" ")
    form, raw = _form(match)
    if form not in forms.split():
        raise Invalid("q: %(field)s does not support this form; it supports: %(forms)s", field=field, forms=forms)
    return Term(form, tuple(_read(value, kind, field) if value else None for value in raw))


def _form(match: re.Match[str]) -> tuple[Form, list[str]]:
    if match["low"] is not None:
        return Form.RANGE, [match["low"].strip(), match["high"].strip()]
    for form in (Form.ANY, Form.ALL):
        if match[form] is not None:
            return form, list(_values(match[form]))
    form = Form.LIKE if match[Form.LIKE] is not None else Form.IS
    return form, [match[form].strip() or '""']


def _values(text: str) -> Iterator[str]:
    position = 0
    while match := _NEXT_VALUE.match(text, position):
        yield match[1]
        position = match.end()


def _read(text: str, kind: str, field: str) -> Value:
    quoted = text[0] in "\"'"
    text = text[1:-1] if quoted else text
    if kind == "integer" and re.fullmatch(r"-?[0-9]{1,15}", text):
        return int(text)
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    if kind == "time":
        return _time(text, field)
    if kind != "string":
        raise Invalid(
            "q: the value of %(field)s must be %(kind)s",
            field=field,
            kind="a whole number" if kind == "integer" else "true or false",
        )
    return text


def _time(text: str, field: str) -> float:
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Invalid(
            "q: the value of %(field)s must be a time such as 2026-04-09 02:36:00 or 2026-04-09T02:36:00Z", field=field
        ) from None


def parse_sort(text: str, known: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """Return the fields of ``sort``, each with True for descending ("-" in front); raises Invalid.

    ``known`` lists the fields. An empty text is the list's own order.
    """
    words = [word.strip() for word in text.split(",")] if text else []
    fields = [(word.removeprefix("-"), word.startswith("-")) for word in words]
    if len(fields) > _MOST_SORTED or not all(field in known for field, _ in fields):
        raise Invalid(
            "sort must be at most %(most)s of these, with commas between: %(known)s",
            most=_MOST_SORTED,
            known=", ".join(known),
        )
    return tuple(fields)
