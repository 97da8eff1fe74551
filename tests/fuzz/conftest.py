"""Say at the end how many inputs each target has had."""

from __future__ import annotations

import pytest

from .inputs import COUNTED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if COUNTED:
        terminalreporter.section("inputs")
        for target, count in sorted(COUNTED.items()):
            terminalreporter.write_line(f"{count:>9} {target.removeprefix('test_')}")
        terminalreporter.write_line(f"{COUNTED.total():>9} in all")
