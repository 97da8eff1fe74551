"""How the challenges of a 401 are read, and what is kept of a token service's answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import Credential
from app.mirror.answers import Challenge, parse_challenges
from app.mirror.login import basic

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/redis:pull"'


@pytest.mark.parametrize(
    ("headers", "challenges"),
    [
        ([], []),
        ([""], []),
        ([" , ,"], []),
        (
            [HUB],
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:library/redis:pull",
                    },
                )
            ],
        ),
        (['Basic realm="a, b"'], [("basic", {"realm": "a, b"})]),
        (["BASIC Realm=x"], [("basic", {"realm": "x"})]),
        (['Bearer realm="a" , scope = "r:x:pull,push"'], [("bearer", {"realm": "a", "scope": "r:x:pull,push"})]),
        ([r'Basic realm="say \"hi\" \\"'], [("basic", {"realm": r'say "hi" \ '.strip()})]),
        (
            ['Basic realm="x", Bearer realm="y",service=z'],
            [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "service": "z"})],
        ),
        (['Basic realm="x"', 'Bearer realm="y"'], [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        (['Negotiate, Basic realm="x"'], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (['Bearer realm="first",realm="second"'], [("bearer", {"realm": "first"})]),
        (['Bearer realm="never closed'], [("bearer", {})]),
        (["=nonsense"], []),
    ],
)
def test_challenges_are_read(headers: list[str], challenges: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(headers)[: len(challenges) or 1] == [Challenge(*challenge) for challenge in challenges]


@given(st.lists(st.text(max_size=200), max_size=3))
def test_no_header_breaks_the_reader(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower() != ""


def test_a_long_hostile_header_is_read_without_looking_back() -> None:
    # Quadratic time would run into the suite's own timeout here.
    hostile = [
        'Bearer realm="' + "\\" * 200_001,
        "Bearer " + "a=" * 100_000,
        " ,\t" * 100_000,
        "Basic " + "a" * 200_000 + "=",
    ]
    assert [challenge.scheme for challenge in parse_challenges(hostile)] == ["bearer", "bearer", "basic"]


def test_a_credential_does_not_show() -> None:
    credential = Credential("robot", "s3cret")
    assert basic(credential) == "Basic cm9ib3Q6czNjcmV0"
    assert "s3cret" not in repr(credential) + str(credential)
