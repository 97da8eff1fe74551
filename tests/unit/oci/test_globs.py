"""Globs over repository names, in Harbor's words, and in linear time."""

from __future__ import annotations

import itertools
import time

import pytest

from app.oci.globs import MAX_GLOB, Glob, glob, is_glob


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("library/redis", ["library/redis"], ["library/redis2", "xlibrary/redis", "library", "a/library/redis"]),
        ("library/*", ["library/redis", "library/a-b.c"], ["library/a/b", "library", "other/redis"]),
        ("*", ["redis"], ["library/redis"]),
        ("**", ["redis", "library/redis", "a/b/c/d"], []),
        ("*/miner*", ["evil/miner", "evil/miner-2"], ["miner", "evil/xminer", "a/b/miner", "evil/miner/x"]),
        ("**/miner*", ["miner", "evil/miner1", "a/b/miner"], ["a/xminer", "miner/x"]),
        ("library/**", ["library/a", "library/a/b"], ["library", "xlibrary/a"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "ab", "a/x/yb"]),
        ("**miner**", ["miner", "a/miner/b", "xminery"], ["mine/r"]),
        ("a?c", ["abc", "a-c"], ["ac", "a/c", "abbc"]),
        ("{library,bitnami}/*", ["library/a", "bitnami/b"], ["other/a", "library,bitnami/a"]),
        ("a{,-b}", ["a", "a-b"], ["a-", "ab"]),
        ("{**/,}x", ["x", "a/b/x"], ["ax"]),
        ("*a*a*a*", ["aaa", "xaxaxax"], ["aa", "xaxax"]),
        ("***", ["a/b"], []),
    ],
)
def test_a_glob_matches_whole_names(text: str, yes: list[str], no: list[str]) -> None:
    assert is_glob(text)
    assert [name for name in (*yes, *no) if glob(text).matches(name)] == yes


def slowly(text: str, name: str) -> bool:
    """Say the same by trying each way, for globs without braces and without ``**/``."""
    if not text:
        return not name
    if text.startswith("*"):
        rest = text.lstrip("*")
        deep = len(text) - len(rest) > 1
        ends = (end for end in range(len(name) + 1) if deep or "/" not in name[:end])
        return any(slowly(rest, name[end:]) for end in ends)
    if not name or (text[0] != name[0] and not (text[0] == "?" and name[0] != "/")):
        return False
    return slowly(text[1:], name[1:])


def test_it_agrees_with_trying_each_way() -> None:
    names = ["".join(each) for size in range(5) for each in itertools.product("a/", repeat=size)]
    for size in range(1, 5):
        for text in map("".join, itertools.product("a/*?", repeat=size)):
            if "**/" not in text:
                made = Glob(text)
                assert [made.matches(name) for name in names] == [slowly(text, name) for name in names], text


@pytest.mark.parametrize(
    "text",
    ["", "Library/*", "a b", "[a-z]", "{a", "a}", "{a{b}}", "a\n", "a:b", "!a", "a" * (MAX_GLOB + 1), "{a,b}" * 7],
)
def test_what_is_no_glob(text: str) -> None:
    assert not is_glob(text)


def test_no_name_takes_long() -> None:
    """A matcher that tries one way after another would take years."""
    worst = glob("{*a,**a}" * 6 + "*a" * 60 + "b")
    began = time.process_time()
    for _ in range(10):
        assert not worst.matches("a" * 255)
    assert time.process_time() - began < 2
