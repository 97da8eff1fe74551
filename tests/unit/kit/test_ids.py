"""Ids of rows: what the databases look for."""

from __future__ import annotations

import pytest

from app.kit.ids import MOST_ID, is_id


@pytest.mark.parametrize("number", [0, -1, MOST_ID + 1])
def test_what_no_row_can_have(number: int) -> None:
    assert not is_id(number)


@pytest.mark.parametrize("number", [1, (1 << 63) - 1])
def test_what_a_row_can_have(number: int) -> None:
    assert is_id(number)
