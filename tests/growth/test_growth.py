"""No page, call or command costs what the whole registry holds: a hundred times as much of everything costs the same.

PostgreSQL counts the shared buffers of each statement, as EXPLAIN (ANALYZE, BUFFERS) does, and SQLite the steps of its
machine. Neither depends on the computer, or on what else it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from app.__main__ import _parser
from app.web.api.document import BASE, document, pattern
from app.web.pages.routes import _PAGES
from app.web.v2.routes import routes
from tests.conftest import require
from tests.parts import postgres as postgres_part
from tests.parts.postgres import Postgres

from .asked import COMMANDS, EXCEPTIONS, asked
from .building import Built
from .measuring import measure, server

SMALL, LARGE = 1_000, 100_000
# A descent of an index reads two buffers at least, its root and a leaf, and one more if the table is much larger. So
# nothing but more descents costs more than half as much again.
_BUFFERS = 1.5
_STEPS = 1.2
# What is this small may be anything: a second look at a catalogue, or a few rows in one buffer or in several. A page
# with several lists of 25 entries has a descent more for each of them.
_FEW_BUFFERS, _FEW_STEPS = 160, 1500


@pytest.mark.timeout(500)
@pytest.mark.long
@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_a_hundred_times_as_much_costs_the_same(kind: str, tmp_path: Path) -> None:
    if kind == "sqlite":
        assert grown(tmp_path, None) == {}
        return
    require(postgres_part)
    with server() as database:
        assert grown(tmp_path, database) == {}


def grown(folder: Path, database: Postgres | None) -> dict[str, tuple[int, int]]:
    """List what costs more in the large registry than it may, with what it costs in both."""
    small = measure(folder / "small", SMALL, database)
    # The paths of the large registry have other numbers, but the requests come in the same order.
    allowed = [_allowed(name, cost, is_sqlite=database is None) for name, cost in small.items()]
    large = measure(folder / "large", LARGE, database, allowed)
    compared = zip(small.items(), large.values(), allowed, strict=True)
    return {name: (before, after) for (name, before), after, most in compared if after > most}


def _allowed(name: str, cost: int, *, is_sqlite: bool) -> int:
    _, *most = EXCEPTIONS.get(name, ("", 0, 0))
    factor, few = (_STEPS, _FEW_STEPS) if is_sqlite else (_BUFFERS, _FEW_BUFFERS)
    return int(max(cost * factor, cost + few, most[is_sqlite]))


def test_an_exception_is_of_a_request() -> None:
    names = {*asked(_built()), *COMMANDS}
    assert set(EXCEPTIONS) <= names


def test_every_page_is_asked() -> None:
    paths = [path.partition("?")[0] for path in _paths()]
    pages = [route for route, handler in _PAGES if "get" in vars(handler) or _inherits_get(handler)]
    lacking = [page for page in pages if not any(re.fullmatch(page, path) for path in paths)]
    assert lacking == [r"/administration/audit\.csv"], "only the export, a stream, is not asked"


def test_every_get_of_the_api_is_asked() -> None:
    paths = [path.partition("?")[0] for path in _paths()]
    gets = [path for path, methods in document().paths.items() if "get" in methods]
    lacking = [path for path in gets if not any(re.fullmatch(pattern(path), one) for one in paths)]
    assert lacking == [path for path in NOT_ASKED if path in gets], lacking
    assert BASE == "/api/v2.0"


def test_every_get_of_v2_is_asked() -> None:
    handlers = (MagicMock(), MagicMock(), MagicMock(), MagicMock())
    paths = [path.partition("?")[0] for path in _paths()]
    lacking = [
        route.noun
        for route in routes(*handlers)
        if "GET" in route.methods and not any(route.pattern.match(path) for path in paths)
    ]
    # These read one row by its key, and the bytes beside it.
    assert lacking == ["upload", "blobs"]


def test_every_command_is_run() -> None:
    assert set(COMMANDS) == set(_admin_commands())


# Streams of the whole log, which are not answered at once.
NOT_ASKED = ("/projects/{project_name}/logs/export", "/audit-logs/export")


def _built() -> Built:
    digests = [f"sha256:{number:064x}" for number in (4, 7, 3)]
    return Built(SMALL, SMALL + 1, SMALL + 2, digests[0], digests[1], digests[2], 1.7e9)


def _paths() -> Iterable[str]:
    return [ask.path for ask in asked(_built()).values()]


def _inherits_get(handler: type) -> bool:
    return any("get" in vars(base) for base in handler.__mro__ if base.__module__.startswith("app."))


def _admin_commands() -> Iterable[str]:
    (commands,) = (action for action in _parser()._actions if action.choices and "admin" in action.choices)
    admin = commands.choices["admin"]  # type: ignore[index]
    (below,) = (action for action in admin._actions if action.choices)
    return list(below.choices)
