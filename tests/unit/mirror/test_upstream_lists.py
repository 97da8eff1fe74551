"""The entries of an upstream's list: what is read from a page, and how they are kept and paged through."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.mirror.upstream_lists import UpstreamList, descriptor_of, key_of, referrer_entries

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.mark.parametrize(
    ("document", "read"),
    [
        ({"manifests": []}, []),
        ({"manifests": None}, []),
        ({}, None),
        ({"manifests": {}}, None),
        ({"manifests": ["x"]}, None),
        ({"manifests": [{"digest": 1}]}, None),
        ({"manifests": [{"digest": "a b"}]}, None),
        # JSON that another reader, or a deeper stack, could not read again.
        ({"manifests": [{"digest": A, "size": float("inf")}]}, None),
        ({"manifests": [{"digest": A, "size": float("nan")}]}, None),
        ({"manifests": [{"digest": A, "deep": json.loads("[" * 900 + "]" * 900)}]}, None),
        # Whatever else a descriptor holds is passed on.
        ({"manifests": [{"digest": A, "size": "x", "data": "e30=", "annotations": None}]}, [A]),
        ({"manifests": [{"digest": "blake3:1"}]}, ["blake3:1"]),
    ],
)
def test_descriptors_are_read_as_they_are(document: dict[str, Any], read: list[str] | None) -> None:
    entries = referrer_entries(document)
    assert (None if entries is None else list(map(key_of, entries))) == read
    if entries:
        assert [descriptor_of(entry) for entry in entries] == document["manifests"]


def test_a_list_is_paged_by_its_keys_and_survives_redis() -> None:
    entries = sorted(referrer_entries({"manifests": [{"digest": B}, {"digest": A}]}) or [])
    found = UpstreamList(entries, 12.5, cut=True)
    assert UpstreamList.unpacked(found.packed()) == UpstreamList.unpacked(found.packed(), 12.0) == found
    assert UpstreamList.unpacked(found.packed(), 12.5) is None
    assert [key_of(entry) for entry in found.after("")] == [A, B]
    assert [key_of(entry) for entry in found.after(A)] == [B]
    assert list(found.after(B)) == []
    tags = UpstreamList(["1", "1.0", "1.0-a", "Z", "a"], 0.0)
    assert list(tags.after("1.0")) == ["1.0-a", "Z", "a"]


def test_a_list_of_fifty_thousand_tags_is_small_in_redis() -> None:
    found = UpstreamList([f"2024.{number}.{number % 17}-alpine" for number in range(50_000)], 0.0)
    assert found.size() < 5_000_000
    assert len(found.packed()) < 500_000
