"""The planning core: who gets which GETs, and which are left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.plans.core import HOUR, Budget, Forecast, Need, in_order, learn, schedule

WINDOW = 6 * HOUR
# A Monday at midnight.
NOW = 1_700_438_400.0
OURS = Budget(limit=100, window=WINDOW, remaining=100, ends_at=NOW + WINDOW, own=True)
SHARED = replace(OURS, own=False)
NOTHING_SEEN = Forecast()


def need(key: str, *, due: float = 12 * HOUR, gets: int = 2, person: str = "mari", earliest: float = 0.0) -> Need:
    return Need(key, person, NOW + due, gets, NOW + earliest)


def flat(each_hour: float, hours: range = range(168)) -> Forecast:
    course = dict.fromkeys(hours, each_hour)
    return Forecast(course, course)


def test_an_image_that_fits_is_fetched_now() -> None:
    made = schedule(OURS, [need("redis")], NOTHING_SEEN, NOW)
    assert (made.now, made.reserved, made.ready, made.late) == (["redis"], 2, {"redis": NOW}, frozenset())


@pytest.mark.parametrize("budget", [OURS, SHARED])
def test_a_third_is_left_to_pulls_without_a_plan(budget: Budget) -> None:
    made = schedule(budget, [need(f"{n:03}") for n in range(90)], NOTHING_SEEN, NOW)
    assert [window.taken for window in made.windows[:2]] == [66, 66]
    assert made.reserved == 66
    assert len(made.late) == 24


def test_others_behind_the_address_are_reckoned_with() -> None:
    made = schedule(SHARED, [need("a", gets=60)], flat(10.0), NOW)
    assert made.reserved == 40
    assert made.ready == {"a": NOW + WINDOW}


def test_two_plans_for_one_image_cost_once() -> None:
    made = schedule(OURS, [need("a"), need("a", due=8 * HOUR, person="jaan")], NOTHING_SEEN, NOW)
    assert (made.reserved, made.now) == (2, ["a"])


def test_the_earlier_date_is_served_first() -> None:
    made = schedule(OURS, [need("late", due=30 * HOUR, gets=66), need("soon", due=2 * HOUR, gets=66)], flat(0), NOW)
    assert made.ready == {"soon": NOW, "late": NOW + WINDOW}


def test_people_take_turns_within_an_hour() -> None:
    many = [need(f"m{n}", due=8 * HOUR) for n in range(4)]
    ordered = in_order([*many, need("j0", due=8.5 * HOUR, person="jaan")])
    assert [one.key for one in ordered] == ["m0", "j0", "m1", "m2", "m3"]


def test_what_does_not_fit_is_said_with_the_time_at_which_it_comes() -> None:
    made = schedule(OURS, [need("a", due=HOUR, gets=80)], NOTHING_SEEN, NOW)
    assert (made.late, made.ready) == (frozenset({"a"}), {"a": NOW + WINDOW})


def test_nothing_is_fetched_long_before_its_date() -> None:
    made = schedule(OURS, [need("a", due=90 * HOUR, earliest=20 * HOUR)], NOTHING_SEEN, NOW)
    assert (made.reserved, made.ready) == (0, {"a": NOW + 3 * WINDOW})


def test_quiet_windows_come_before_busy_ones() -> None:
    busy_now = flat(8.0, range(int(NOW // HOUR) % 168, int(NOW // HOUR) % 168 + 6))
    made = schedule(OURS, [need("a", due=20 * HOUR)], busy_now, NOW)
    assert (made.reserved, made.ready) == (0, {"a": NOW + WINDOW})


def test_the_end_of_a_window_is_spent_ahead_on_an_account_of_our_own_only() -> None:
    end, wanted = NOW + WINDOW - 300, [need("a", due=40 * HOUR, gets=95)]
    assert schedule(replace(OURS, remaining=50), wanted, NOTHING_SEEN, end).reserved == 49
    assert schedule(replace(SHARED, remaining=50), wanted, NOTHING_SEEN, end).reserved == 16


def test_what_plans_and_pulls_leave_of_an_account_is_spare_at_the_end_only() -> None:
    end, wanted = NOW + WINDOW - 300, [need("a", due=40 * HOUR, gets=5)]
    waits = [need("b", due=0, gets=4)]
    assert schedule(replace(OURS, remaining=50), wanted, NOTHING_SEEN, end, waits).spare == 49 - 5 - 4
    assert schedule(replace(OURS, remaining=50), [], flat(60.0), end).spare == 45
    assert schedule(replace(SHARED, remaining=50), [], NOTHING_SEEN, end).spare == 0
    assert schedule(OURS, [], NOTHING_SEEN, NOW).spare == 0


@given(
    st.integers(1, 300),
    st.floats(0, 1),
    st.booleans(),
    st.floats(0, 30),
    st.lists(st.tuples(st.integers(0, 30), st.floats(0, 300_000), st.integers(0, 40), st.sampled_from("abc"))),
)
def test_plans_never_get_more_than_a_window_may_give(
    limit: int, spent: float, own: bool, others: float, wanted: list[tuple[int, float, int, str]]
) -> None:
    budget = Budget(limit, WINDOW, int(limit * spent), NOW + WINDOW / 2, own)
    needs = [Need(str(key), person, NOW + due, gets) for key, due, gets, person in wanted]
    made = schedule(budget, needs, flat(others), NOW)
    for window in made.windows:
        assert 0 <= window.taken <= window.free <= limit
    if not own:
        assert budget.remaining - made.reserved >= min(budget.remaining, limit / 3)
    assert made.reserved == made.windows[0].taken


def asked(key: str, *, at: float = 0.0, person: str = "ci", gets: int = 2) -> Need:
    return Need(key, person, NOW + at, gets)


def test_a_pull_that_waits_gets_what_plans_leave_and_is_told_when() -> None:
    spent = replace(OURS, remaining=3)
    made = schedule(spent, [need("plan", gets=66)], NOTHING_SEEN, NOW, [asked("b"), asked("a", at=-60)])
    assert made.reserved == 0
    assert (made.ready["plan"], made.ready["a"], made.ready["b"]) == (NOW + WINDOW,) * 3
    assert (made.windows[1].taken, made.windows[1].waiting) == (66, 4)


def test_who_waits_leaves_a_sixth_to_who_asks_now_and_nothing_lapses() -> None:
    many = [asked(f"{number:02}") for number in range(50)]
    assert schedule(replace(SHARED, remaining=40), [], NOTHING_SEEN, NOW, many).reserved == 23
    assert schedule(replace(SHARED, remaining=40), [], NOTHING_SEEN, NOW + WINDOW - 60, many).reserved == 39


def test_those_who_wait_take_turns() -> None:
    greedy = [asked(f"g{number}", at=-100, person="greedy") for number in range(60)]
    made = schedule(replace(OURS, remaining=0), [], NOTHING_SEEN, NOW, [*greedy, asked("modest")])
    assert made.ready["modest"] == NOW + WINDOW
    assert sum(ready == NOW + WINDOW for ready in made.ready.values()) == 41


def test_an_image_of_a_plan_does_not_wait_twice() -> None:
    made = schedule(OURS, [need("a")], NOTHING_SEEN, NOW, [asked("a")])
    assert made.reserved == 2


def test_a_forecast_is_learned_by_the_hour() -> None:
    days = [(NOW - day * 24 * HOUR + 9.5 * HOUR, 10.0 + day) for day in range(1, 8)]
    seen = learn(days, 4, NOW)
    assert seen.expected(NOW + 9 * HOUR, NOW + 10 * HOUR) == pytest.approx(14.0)
    assert seen.at_most(NOW + 9 * HOUR, NOW + 10 * HOUR) == pytest.approx(17.0)
    assert seen.at_most(NOW + 2 * HOUR, NOW + 3 * HOUR) == 0


def test_nothing_seen_is_no_forecast() -> None:
    assert learn([], 4, NOW) == Forecast()
