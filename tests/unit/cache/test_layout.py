"""That no two things share a key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.cache import keys


def test_keys_are_as_drawn() -> None:
    assert keys.PREFIX + keys.missing("mirror/library/redis", "7") == "r:missing:mirror/library/redis:7"
    assert keys.budget("docker.io", "us:er", "2001:db8::/64") == "budget:docker.io:us%3Aer:2001:db8::/64"


@given(st.lists(st.text(st.sampled_from("a:%é "), max_size=4), min_size=3, max_size=3, unique=True), st.data())
def test_different_parts_give_different_keys(parts: list[str], data: st.DataObject) -> None:
    other = data.draw(st.permutations(parts))
    assert (keys.budget(*parts) == keys.budget(*other)) == (other == parts)
    assert len({keys.missing("a", "b"), keys.lease("a", "b"), keys.token("a:b")}) == 3
