"""That no two things share a key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.cache import keys

_DIGEST = "sha256:" + "0" * 64


def test_keys_are_as_drawn() -> None:
    assert keys.PREFIX + keys.manifest("mirror/library/redis", _DIGEST) == f"r:manifest:mirror/library/redis:{_DIGEST}"
    assert (
        keys.token("docker.io", "", "repository:library/redis:pull") == "token:docker.io::repository:library/redis:pull"
    )
    assert keys.budget("docker.io", "us:er", "2001:db8::/64") == "budget:docker.io:us%3Aer:2001:db8::/64"


@given(st.lists(st.text(st.sampled_from("a:%é "), max_size=4), min_size=3, max_size=3, unique=True), st.data())
def test_different_parts_give_different_keys(parts: list[str], data: st.DataObject) -> None:
    other = data.draw(st.permutations(parts))
    same = other == parts
    assert (keys.token(*parts) == keys.token(*other)) == same
    assert len({keys.manifest("a", "b"), keys.tag("a", "b"), keys.fresh("a", "b"), keys.missing("a", "b"),
                keys.lease("a", "b")}) == 5  # fmt: skip
