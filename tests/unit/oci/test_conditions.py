"""Preconditions of a GET or HEAD, and which clients read indexes."""

from __future__ import annotations

import pytest

from app.oci.accept import reads_indexes
from app.oci.conditions import Conditions, etag, range_applies
from app.oci.digest import Digest
from app.oci.errors import Unsupported
from app.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

DIGEST = Digest.of(b"it")
TAG = f'"{DIGEST}"'


@pytest.mark.parametrize(
    ("none_match", "expected"),
    [
        (None, False), (TAG, True), (f"W/{TAG}", True), (f'"a", {TAG}', True), (f'"a",W/{TAG} , "b"', True),
        ("*", True), (" * ", True), (DIGEST, True), ('"other"', False), ('"*"', False), ("", False),
        (f'"{DIGEST}', False), (f'"x{DIGEST}"', False), (f"w/{TAG}", False),
    ],
)  # fmt: skip
def test_if_none_match_compares_weakly(none_match: str | None, expected: bool) -> None:
    assert Conditions(None, none_match).not_modified(DIGEST) is expected


@pytest.mark.parametrize("match", [TAG, f'"a", {TAG}', "*", DIGEST])
def test_if_match_comes_first(match: str) -> None:
    assert Conditions(match, TAG).not_modified(DIGEST)
    assert not Conditions(match, '"other"').not_modified(DIGEST)


@pytest.mark.parametrize("match", ['"other"', f"W/{TAG}", "", '"*"'])
def test_if_match_compares_strongly(match: str) -> None:
    for none_match in (None, TAG):
        with pytest.raises(Unsupported) as caught:
            Conditions(match, none_match).not_modified(DIGEST)
        assert caught.value.answer_status == 412
        assert caught.value.headers == {"ETag": TAG}


@pytest.mark.parametrize(
    ("if_range", "expected"),
    [
        (None, True), (TAG, True), (f" {TAG}", True), ('"other"', False), (f"W/{TAG}", False), ("", False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False), ("*", False),
    ],
)  # fmt: skip
def test_if_range_wants_this_and_no_date(if_range: str | None, expected: bool) -> None:
    assert range_applies(if_range, DIGEST) is expected
    assert etag(DIGEST) == TAG


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, True), ("", True), ("*/*", True), ("application/*", True), ("application/json", True),
        ("text/html", True),
        (OCI_INDEX, True), (DOCKER_LIST, True), (f"{OCI_MANIFEST}, {OCI_INDEX}", True),
        (f"{OCI_MANIFEST};q=0.9, {DOCKER_LIST.upper()};q=1", True), (f"{DOCKER_MANIFEST}, */*;q=0.1", True),
        (OCI_MANIFEST, False), (f"{DOCKER_MANIFEST},{OCI_MANIFEST}", False), (f"{DOCKER_MANIFEST}, text/html", False),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", False),
    ],
)  # fmt: skip
def test_who_reads_indexes(accept: str | None, expected: bool) -> None:
    assert reads_indexes(accept) is expected
