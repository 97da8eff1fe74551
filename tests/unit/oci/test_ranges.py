"""Ranges of a blob that is read, and of a chunk that is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.errors import BlobUploadInvalid, RangeInvalid
from app.oci.ranges import ByteRange, parse_chunk, parse_range


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1), ("bytes=0-99", 0, 100), ("bytes=0-", 0, 100), ("bytes=99-", 99, 100),
        ("bytes=10-19", 10, 20), ("bytes=10-10000", 10, 100), ("bytes=-1", 99, 100), ("bytes=-100", 0, 100),
        ("bytes=-101", 0, 100), (" bytes=5-6 ", 5, 7), ("bytes=0-9223372036854775807", 0, 100),
        ("bytes=007-008", 7, 9),
    ],
)  # fmt: skip
def test_ranges(header: str, start: int, stop: int) -> None:
    found = parse_range(header, 100)
    assert found == ByteRange(start, stop)
    assert found is not None
    assert found.length == stop - start
    assert found.content_range(100) == f"bytes {start}-{stop - 1}/100"


@pytest.mark.parametrize(
    "header",
    [
        None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=0-1,5-6", "bytes=0-1-2", "bytes=--1",
        "bytes=+1-2", "bytes 0-1", "items=0-1", "Bytes=0-1", "bytes=0x1-2", "bytes=1.5-2", "bytes=١-٢", "bytes=²-",
        "bytes=0-1\x00", "bytes=0-" + "9" * 20, "bytes=" + "9" * 5000 + "-", "bytes=-" + "9" * 5000,
    ],
)  # fmt: skip
def test_what_is_sent_whole(header: str | None) -> None:
    assert parse_range(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=500-0", "bytes=1-0", "bytes=-0"])
def test_ranges_that_hold_nothing(header: str) -> None:
    with pytest.raises(RangeInvalid) as caught:
        parse_range(header, 100)
    assert caught.value.status == 416
    assert caught.value.headers == {"Content-Range": "bytes */100"}


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-5"])
def test_nothing_lies_in_an_empty_blob(header: str) -> None:
    with pytest.raises(RangeInvalid):
        parse_range(header, 0)


@given(st.text(alphabet="bytes=0123456789-, ", max_size=60), st.integers(0, 10**12))
def test_a_range_lies_within_the_blob(header: str, size: int) -> None:
    for text in (header, "bytes=" + header):
        try:
            found = parse_range(text, size)
        except RangeInvalid:
            continue
        assert found is None or 0 <= found.start < found.stop <= size


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 10**12))
def test_what_a_range_names_is_what_is_read(first: int, last: int, size: int) -> None:
    expected = range(size)[first : last + 1]
    if not expected:
        with pytest.raises(RangeInvalid):
            parse_range(f"bytes={first}-{last}", size)
    else:
        assert parse_range(f"bytes={first}-{last}", size) == ByteRange(expected.start, expected.stop)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0-0", ByteRange(0, 1)), ("0-1023", ByteRange(0, 1024)), (" 5-9 ", ByteRange(5, 10)),
        ("bytes 5-9/10", ByteRange(5, 10)), ("bytes 5-9/*", ByteRange(5, 10)), (None, None),
        ("0-9999999999999999998", ByteRange(0, 9999999999999999999)),
    ],
)  # fmt: skip
def test_chunks(header: str | None, expected: ByteRange | None) -> None:
    assert parse_chunk(header) == expected


@pytest.mark.parametrize(
    "header",
    ["", "-", "5", "5-", "-5", "9-5", "a-b", "0-1,2-3", "0 - 1", "٠-٩", "1-²", "0-" + "9" * 20, "bytes=0-5", "0-1\x00"],
)
def test_what_is_no_chunk(header: str) -> None:
    with pytest.raises(BlobUploadInvalid, match="expected FIRST-LAST"):
        parse_chunk(header)
