"""What is read out of manifests and configs that anybody may have written."""

from __future__ import annotations

import json

import pytest

from app.registry.image_details import (
    HistoryStep,
    Platform,
    children_of,
    config_of,
    layer_sizes,
    platforms_of,
    read_config,
)
from tests.api.documents import descriptor, document, image, index

LINUX = {"os": "linux", "architecture": "arm64", "variant": "v8"}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        document(manifests=5),
        document(manifests=["x", 5, None, {}]),
        document(manifests=[{"digest": "x", "size": True}]),
        document(config="x", layers={}),
    ],
)
def test_what_is_odd_is_left_out(payload: bytes) -> None:
    assert children_of(payload) == []
    assert platforms_of(payload) == ()
    assert config_of(payload) is None
    assert layer_sizes(payload) == []


def test_platforms_once_each_without_attestations() -> None:
    unknown = {"os": "unknown", "architecture": "unknown"}
    platforms = [LINUX, LINUX, unknown, {"os": "linux"}, "linux", None, {"os": 5, "architecture": "amd64"}]
    payload = index(
        manifests=[descriptor(str(number).encode(), platform=platform) for number, platform in enumerate(platforms)]
    )
    assert len(children_of(payload)) == len(platforms)
    assert platforms_of(payload) == (Platform("linux", "arm64", "v8"),)
    assert str(platforms_of(payload)[0]) == "linux/arm64/v8"


def test_history_takes_its_sizes_from_the_layers() -> None:
    steps = [{"created_by": "a"}, {"created_by": "b", "empty_layer": True}, {"comment": "c"}, {"author": "d"}]
    config = read_config(json.dumps({"history": steps}).encode(), layer_sizes(image(b"12", b"123")))
    assert config is not None
    assert config.history == [
        HistoryStep("", "a", "", "", empty_layer=False, size=2),
        HistoryStep("", "b", "", "", empty_layer=True, size=None),
        HistoryStep("", "", "c", "", empty_layer=False, size=3),
        HistoryStep("", "", "", "d", empty_layer=False, size=None),
    ]


def test_text_that_no_page_can_hold() -> None:
    config = read_config(b'{"author": "half \\ud800", "config": {"Env": ["A=\\udfff", 5]}}', ())
    assert config is not None
    assert (config.author, config.env) == ("half ?", ["A=?", ""])


def test_what_is_too_long_is_cut() -> None:
    config = read_config(json.dumps({"author": "x" * 10**6, "history": [{}] * 10**4}).encode(), ())
    assert config is not None
    assert len(config.author) == 20_000
    assert len(config.history) == 1000
