"""The heads of requests, read as Tornado reads them but for what it reads too widely."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPInputError

from app.web.connection import parse_head

_LINES = [
    b"Host: a",
    b"host: b",
    b"X-Long: " + b"v" * 2000,
    b"Authorization: Bearer a.b-c",
    b"Accept: text/plain, \t*/*;q=0.1",
    b"Empty:",
    b"Space: \t v \t",
    b"Latin: \xe4\xff",
    b"Name : v",
    b" folded",
    b"no colon",
    b": no name",
    b"Return: a\rb",
    b"Ends: a\r",
    b"Nul: \x00",
    b"Colons: a:b:c",
]


def _by_tornado(data: bytes) -> tuple[str, HTTPHeaders]:
    # It reads only its argument.
    return HTTP1Connection._parse_headers(cast("HTTP1Connection", None), data)


@given(st.lists(st.sampled_from(_LINES), max_size=6), st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]))
def test_a_head_is_read_as_tornado_reads_it(lines: list[bytes], before: bytes) -> None:
    head = before + b"".join(line + b"\r\n" for line in [b"GET /v2/ HTTP/1.1", *lines, b""])
    for _ in range(2):  # the second time from memory
        try:
            expected = _by_tornado(head)
        except HTTPInputError:
            with pytest.raises(HTTPInputError):
                parse_head(head)
            continue
        start, headers = parse_head(head)
        assert start == expected[0]
        assert list(headers.get_all()) == list(expected[1].get_all())
        assert dict(headers) == dict(expected[1])


def test_a_change_of_one_requests_headers_shows_in_no_other() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"
    parse_head(head)[1].pop("Expect")
    assert parse_head(head)[1]["Expect"] == "100-continue"


@pytest.mark.parametrize("line", [b"Host: a\n", b"Host: a\nX: b"])
def test_a_bare_line_feed_is_refused(line: bytes) -> None:
    with pytest.raises(HTTPInputError, match="line feed"):
        parse_head(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n")
