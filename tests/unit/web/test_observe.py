"""Many values at once are the same to a histogram as one after the other."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from app.web.observe import observe

# Sums of these are exact, in any order.
VALUES = [0.0, 0.0625, 0.125, 0.25, 0.5, 0.5, 2.25, 300, 300.5, 1048576.0]


def made() -> Histogram:
    return Histogram("seconds", "Some.", buckets=(0.125, 0.5, 2.5, 300), registry=CollectorRegistry())


def test_values_are_observed_together_as_one_by_one() -> None:
    together, alone = made(), made()
    observe(together, VALUES)
    observe(together, VALUES[:3])
    for value in VALUES + VALUES[:3]:
        alone.observe(value)
    found, expected = ([metric.samples for metric in one.collect()] for one in (together, alone))
    assert [(s.name, s.labels, s.value) for s in found[0] if not s.name.endswith("_created")] == [
        (s.name, s.labels, s.value) for s in expected[0] if not s.name.endswith("_created")
    ]
