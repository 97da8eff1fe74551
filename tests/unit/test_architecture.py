"""A rule of the house that a program can check; `make lint` holds who imports whom (pyproject.toml)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"
# Alembic loads them by their paths.
_NOT_IMPORTED = ("app.database.migrations.", "app.__main__")


def modules() -> list[str]:
    """Name every module of the service."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(APP.rglob("*.py"))]
    return [name.removesuffix(".__init__") for name in names if not name.startswith(_NOT_IMPORTED)]


@pytest.mark.parametrize("path", sorted((APP / "web").rglob("*.py")), ids=lambda path: str(path.relative_to(APP)))
def test_handlers_open_no_transaction(path: Path) -> None:
    """A handler reads a list by one query; a transaction is a service's."""
    used = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not used & {"transaction", "transact", "reading", "point"}


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_is_for(name: str) -> None:
    path = ROOT / name.replace(".", "/")
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    assert ast.get_docstring(ast.parse(source)), f"{name} has no docstring"


def test_neighbours_are_imported_by_a_relative_import() -> None:
    """Ruff refuses relative imports of anything else (TID252)."""
    for path in (path for room in APP.iterdir() if room.is_dir() for path in room.rglob("*.py")):
        package = ".".join(path.parent.relative_to(ROOT).parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
                assert not f"{node.module}.".startswith(f"{package}."), f"{path}:{node.lineno}"
