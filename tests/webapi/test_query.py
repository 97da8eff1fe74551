"""The words of ``q`` and ``sort``."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.errors import Invalid
from app.web.api.query import Form, Term, parse_query, parse_sort

KNOWN = {
    "name": "string is like any",
    "size": "integer is range all",
    "public": "boolean is",
    "at": "time range",
}


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", {}),
        ("name=lab", {"name": Term(Form.IS, ("lab",))}),
        ("name=~lab", {"name": Term(Form.LIKE, ("lab",))}),
        ('name="a, b"', {"name": Term(Form.IS, ("a, b",))}),
        ("name='a\"b'", {"name": Term(Form.IS, ('a"b',))}),
        ("name={a 'b c' d}", {"name": Term(Form.ANY, ("a", "b c", "d"))}),
        ("name=~a b ", {"name": Term(Form.LIKE, ("a b",))}),
        ("size=5", {"size": Term(Form.IS, (5,))}),
        ("size=[1~5]", {"size": Term(Form.RANGE, (1, 5))}),
        ("size=[~5]", {"size": Term(Form.RANGE, (None, 5))}),
        ("size=[1~]", {"size": Term(Form.RANGE, (1, None))}),
        ("size=(1 2)", {"size": Term(Form.ALL, (1, 2))}),
        ("public=true,name=x", {"public": Term(Form.IS, (True,)), "name": Term(Form.IS, ("x",))}),
        ('at=["1970-01-01 00:00:10"~]', {"at": Term(Form.RANGE, (10.0, None))}),
        ("at=[1970-01-02~1970-01-03]", {"at": Term(Form.RANGE, (86400.0, 172800.0))}),
        ("name=lab,", {"name": Term(Form.IS, ("lab",))}),
        ("name=o'brien", {"name": Term(Form.IS, ("o'brien",))}),
        ("name=~50% of_it", {"name": Term(Form.LIKE, ("50% of_it",))}),
        ("name=a=b", {"name": Term(Form.IS, ("a=b",))}),
        ("name=~[x]", {"name": Term(Form.LIKE, ("[x]",))}),
        ("at=[1970-01-01 00:00:10~1970-01-01 00:00:20]", {"at": Term(Form.RANGE, (10.0, 20.0))}),
        ("at=[ 1970-01-01T00:00:10Z ~ ]", {"at": Term(Form.RANGE, (10.0, None))}),
        ("at=[1970-01-01T00:00:10.500Z~]", {"at": Term(Form.RANGE, (10.5, None))}),
        ("at=[1970-01-01T02:00:10+02:00~1970-01-01T00:00:20]", {"at": Term(Form.RANGE, (10.0, 20.0))}),
        # Encoded once more than HTTP asks for, in whole or in part.
        ("name%3Dlab%2Cpublic%3Dtrue", {"name": Term(Form.IS, ("lab",)), "public": Term(Form.IS, (True,))}),
        ("public=true%2Cname=a%2Bb", {"name": Term(Form.IS, ("a+b",)), "public": Term(Form.IS, (True,))}),
        ("name%3D%7Ea+b", {"name": Term(Form.LIKE, ("a b",))}),
    ],
)
def test_what_is_understood(text: str, terms: dict[str, Term]) -> None:
    assert parse_query(text, KNOWN) == terms


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lab", "cannot be read"),
        ("=lab", "cannot be read"),
        ("name=", "cannot be read"),
        ("name=[a~b", "cannot be read"),
        ("name={}", "cannot be read"),
        ("name=a,,name=b", "cannot be read"),
        ("colour=red", "unknown field"),
        ("name=a,name=b", "twice"),
        ("name=[a~b]", "not support this form"),
        ("public=~t", "not support this form"),
        ("size=big", "whole number"),
        ("size=[1~big]", "whole number"),
        ("public=yes", "true or false"),
        ("at=[yesterday~]", "time"),
        ("at=[2026-13-01~]", "time"),
        ("name%3D%00", "NUL"),
        ("size=99999999999999999999", "whole number"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        parse_query(text, KNOWN)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert set(parse_query(text, KNOWN)) <= set(KNOWN)


@given(st.text(alphabet="name=~[]{}(), \"'ab1", max_size=60))
def test_anything_like_it_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert set(parse_query(text, KNOWN)) <= set(KNOWN)


def test_sorting() -> None:
    assert parse_sort("", ["name"]) == ()
    assert parse_sort("name", ["name"]) == (("name", False),)
    assert parse_sort("-name", ["name"]) == (("name", True),)
    assert parse_sort("-at, name", ["name", "at"]) == (("at", True), ("name", False))
    for word in ("at", "--name", "name,at", "-", ",", "name,", ",".join(["name"] * 6)):
        with pytest.raises(Invalid, match="name"):
            parse_sort(word, ["name"])
