"""The short form of the simulation in bench/plans.py: ten days on the service's own planning core."""

from __future__ import annotations

from bench.plans import IMAGES, Month


def test_no_class_is_refused_that_could_be_served_and_nothing_lapses() -> None:
    month = Month("plans", 10, seed=1).run()
    assert month.class_images >= 4 * IMAGES
    assert (month.class_refused, month.past_the_limit, month.lapsed) == (0, 0, 0)


def test_without_plans_classes_are_refused() -> None:
    assert Month("today", 10, seed=3, thieves=1.0, load=2.0).run().class_refused > 0
