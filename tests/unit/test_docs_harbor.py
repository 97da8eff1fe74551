"""The table of Harbor's API in docs/api.md says what our document says."""

from __future__ import annotations

import re

from tests.webapi.harbor_table import PAGE, harbor, table, written


def test_the_table_is_written() -> None:
    text = PAGE.read_text()
    assert written(text, table()) == text, "run: python -m tests.webapi.harbor_table"


def test_every_operation_of_harbor_is_in_it() -> None:
    rows = table()
    lacking = [
        f"{method.upper()} {path}"
        for path, item in harbor().items()
        for method in item
        if not re.search(rf"`[A-Z ]*\b{method.upper()}\b[A-Z ]* {re.escape(path)}`", rows)
    ]
    assert lacking == []
