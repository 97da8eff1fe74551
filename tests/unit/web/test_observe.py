"""Values that a histogram observes at once, and lines of the log."""

from __future__ import annotations

import json
import logging

from prometheus_client import CollectorRegistry, Histogram

from app.web.observe import JsonFormatter, observe

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


def test_a_line_of_the_log_is_one_line_that_no_terminal_obeys() -> None:
    """Some programs end a line at U+0085 or U+2028, and a terminal takes U+009B for the beginning of a command."""
    said = "2\x850 \x9b2J \u2028 \u2029 \x7f õ \n"
    line = JsonFormatter().format(logging.LogRecord("app", logging.INFO, "", 0, said, None, None))
    assert json.loads(line.partition("{")[1] + line.partition("{")[2])["message"] == said
    assert len(line.splitlines()) == 1
    assert "õ" in line
    assert all(character.isprintable() for character in line)
