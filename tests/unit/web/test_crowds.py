"""What one client's address may hold of a worker."""

from __future__ import annotations

import pytest

from app.web.crowds import _FREE_BYTES, MOST_BYTES, MOST_BYTES_IN_ALL, MOST_CONNECTIONS, Crowd, Crowds, Place

HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


def test_an_address_block_has_so_many_connections(caplog: pytest.LogCaptureFixture) -> None:
    crowds = Crowds()
    places = [crowds.enter(f"2001:db8::{number:x}") for number in range(MOST_CONNECTIONS)]
    with pytest.raises(Crowd) as refused:
        crowds.enter("2001:db8::ffff:1")
    assert refused.value.headers["Retry-After"] == "5"
    with pytest.raises(Crowd):
        crowds.enter("2001:db8::ffff:2")
    assert [record.getMessage() for record in caplog.records] == [
        f"refusing 2001:db8::/64: it has {MOST_CONNECTIONS} connections and 0 bytes of bodies in memory"
    ]
    crowds.enter("2001:db8:0:1::1")
    places.pop().leave()
    places.append(crowds.enter("2001:db8::1"))
    for place in places:
        place.leave()
    assert sum(crowds.connections.values()) == len(crowds.connections) == 1


def test_an_address_has_so_many_bytes_in_memory_and_short_bodies_are_free() -> None:
    crowds = Crowds()
    large, other, small = (crowds.enter(HERE) for _ in range(3))
    for _ in range(16):
        large.hold((MOST_BYTES + _FREE_BYTES) // 16)
    for _ in range(2):
        small.hold(_FREE_BYTES // 2)
    other.hold(_FREE_BYTES)
    with pytest.raises(Crowd):
        other.hold(1)
    with pytest.raises(Crowd):
        small.hold(1)
    crowds.enter(ELSEWHERE).hold(MOST_BYTES)
    large.release()
    other.hold(MOST_BYTES - 1)
    other.leave()
    large.hold(MOST_BYTES)
    for place in (large, small):
        place.leave()
    assert set(crowds.bytes) == {ELSEWHERE}


def test_all_addresses_together_have_so_many_bytes_and_a_newcomer_has_room() -> None:
    """However many addresses ask for all that they get."""
    crowds, piece = Crowds(), 16 * 1024
    greedy = [crowds.enter(f"198.18.{number // 256}.{number % 256}") for number in range(300)]

    def takes_one_more(place: Place) -> bool:
        try:
            place.hold(piece)
        except Crowd:
            return False
        return True

    while sum([takes_one_more(place) for place in greedy]):
        assert sum(crowds.bytes.values()) == crowds.bytes_in_all < MOST_BYTES_IN_ALL
    assert crowds.bytes_in_all > 0.9 * MOST_BYTES_IN_ALL
    assert max(crowds.bytes.values()) - min(crowds.bytes.values()) <= 2 * piece
    crowds.enter(HERE).hold(_FREE_BYTES + min(crowds.bytes.values()) // 2)
    for place in greedy:
        place.leave()
    assert crowds.bytes_in_all == crowds.bytes[HERE]
