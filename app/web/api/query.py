"""Parse Harbor's parameters that choose from a list and order it: ``q`` and ``sort``.

    q=name=lab            is lab                    q=name=~la           has "la" in it
    q=id=[1~5]            from 1 to 5               q=name={lab "a b"}   is one of these
    q=label_id=(1 2)      has all of these          several: with commas between
    sort=-name            by name, in reverse

``q`` names fields and ``sort`` one field. `openapi.yaml` lists the permitted fields of each operation; a request with
any other field is refused.

Source: Harbor, src/lib/q/builder.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from app.access.errors import Invalid

_MOST_TERMS = 20
_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s"'~,\[\]{}()]+)"""
_TERM = re.compile(
    rf"""\s*(?P<field>[A-Za-z_.]+)=(?:
        \[(?P<low>{_VALUE}?)~(?P<high>{_VALUE}?)\]
      | \{{(?P<any>{_VALUE}(?:\s+{_VALUE})*)\}}
      | \((?P<all>{_VALUE}(?:\s+{_VALUE})*)\)
      | ~(?P<like>"[^"]*"|'[^']*'|[^,"'\[\]{{}}()]++)
      | (?P<is>"[^"]*"|'[^']*'|[^,"'~\[\]{{}}()]++)
    )\s*(?:,|\Z)""",
    re.VERBOSE,
)
_NEXT_VALUE = re.compile(rf"\s*({_VALUE})")
_TIME_FORMATS = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")


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
        return Form.RANGE, [match["low"], match["high"]]
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
    for spelled in _TIME_FORMATS:
        try:
            return datetime.strptime(text, spelled).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    raise Invalid('q: the value of %(field)s must be a time such as "2026-04-09 02:36:00"', field=field)


def parse_sort(text: str, known: Sequence[str]) -> str:
    """Return ``sort`` after checking it: one field, with "-" in front for descending order; raises Invalid.

    ``known`` lists the fields; a field with "-" in front has descending order only. Names are unique, so one field is
    enough.
    """
    word = text.strip()
    if word not in known and word not in {f"-{field}" for field in known if not field.startswith("-")}:
        raise Invalid(
            "sort must be one of these: %(known)s",
            known=", ".join(known) or "none, because this list has one order only",
        )
    return word
