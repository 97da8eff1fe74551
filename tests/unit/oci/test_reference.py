"""Names, tags and references: what the grammar takes, and what it must not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.digest import Digest
from app.oci.errors import DigestInvalid, ManifestInvalid, NameInvalid
from app.oci.reference import MAX_NAME, Name, Tag, parse_reference

# The specification's own words (distribution-spec, "Pulling manifests"), to compare ours with.
SPEC_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
SPEC_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

NOT_NAMES = [
    "", "/", "a/", "/a", "a//b", "A", "Library/redis", "a b", " a", "a ", "a\n", "\na", "a\x00", "a\x00/b", "a\tb",
    ".", "..", "../a", "a/..", "a/../b", "a/./b", ".a", "a.", "a..b", "a/.b", "_a", "a_", "a___b", "-a", "a-", "a._b",
    "a-_b", "a:b", "a@b", "a%2fb", "%2e%2e", "a\\b", "a/b\\..", "ä", "ａ", "a\u200bb", "١", "a?b", "a#b", "a+b", "a=b",
    "a" * (MAX_NAME + 1), "a/" * 200 + "a", "a" * 300,
]  # fmt: skip
NAMES = ["a", "0", "library/redis", "a/b/c/d/e/f", "a.b", "a_b", "a__b", "a-b", "a---b", "a1.2-3__4/5", "a" * MAX_NAME]
NOT_TAGS = ["", ".", "..", "-a", ".a", "a/b", "a b", "a\n", "a\x00", "a:b", "a@b", "ä", "a%20", "+1", "a" * 129, "²"]
TAGS = ["a", "_", "0", "A", "latest", "1.10-rc_2", "_.-", "a..", "a" * 128, "a--", "v1.0.0_amd64"]


@pytest.mark.parametrize("text", NAMES)
def test_names(text: str) -> None:
    name = Name.parse(text)
    assert name == text
    assert name.project == text.split("/")[0]
    assert name.repository == "/".join(text.split("/")[1:])


@pytest.mark.parametrize("text", NOT_NAMES)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(NameInvalid, match="is not a repository name") as caught:
        Name.parse(text)
    assert len(caught.value.message) < 600


@pytest.mark.parametrize("text", TAGS)
def test_tags(text: str) -> None:
    assert Tag.parse(text) == text
    assert isinstance(parse_reference(text), Tag)


@pytest.mark.parametrize("text", NOT_TAGS)
def test_what_is_no_tag(text: str) -> None:
    with pytest.raises(ManifestInvalid, match="is not a tag"):
        Tag.parse(text)


@given(st.text(alphabet="ab0._-/A:\n\x00", max_size=40))
def test_names_are_those_of_the_specification(text: str) -> None:
    try:
        taken = bool(Name.parse(text))
    except NameInvalid:
        taken = False
    assert taken == bool(SPEC_NAME.fullmatch(text))


@given(st.text(alphabet="aZ0._-/:\n\x00é", max_size=140))
def test_tags_are_those_of_the_specification(text: str) -> None:
    try:
        taken = bool(Tag.parse(text))
    except ManifestInvalid:
        taken = False
    assert taken == bool(SPEC_TAG.fullmatch(text))


@given(st.text(max_size=300))
def test_a_reference_is_a_tag_or_a_digest_or_an_error(text: str) -> None:
    try:
        reference = parse_reference(text)
    except (DigestInvalid, ManifestInvalid):
        return
    assert reference == text
    assert isinstance(reference, Digest) == (":" in text)


@pytest.mark.parametrize("text", ["a" * 254 + "!", "a-" * 127 + "!", "a_" * 127, "a/" * 127, "-" * 255, "a__" * 85])
def test_no_name_takes_for_ever(text: str) -> None:
    # An expression that backtracks would not end before the test's time is up.
    for _ in range(1000):
        with pytest.raises(NameInvalid):
            Name.parse(text)
