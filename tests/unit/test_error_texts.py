"""An error has a constant text with places for values, so that pages can say it in their readers' language."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.oci.errors import OCIError

from .test_architecture import APP, modules

PLACES = re.compile(r"%\((\w+)\)[sdr]")
# What an error takes besides the values of its text.
NO_VALUES = {"detail", "headers", "status"}


def classes(of: type[OCIError] = OCIError) -> Iterator[str]:
    yield of.__name__
    for one in of.__subclasses__():
        yield from classes(one)


@pytest.fixture(scope="module")
def names() -> frozenset[str]:
    for name in modules():
        importlib.import_module(name)
    return frozenset(classes())


def made(path: Path, names: frozenset[str]) -> Iterator[ast.Call]:
    """List the places where an error is made: by its class, or by a class of errors for its base."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node
        if isinstance(node, ast.ClassDef) and node.name in names:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Call) and ast.unparse(inner.func) == "super().__init__":
                    yield inner


def sources() -> list[Path]:
    return sorted(APP.rglob("*.py"))


def test_no_value_is_written_into_a_text(names: frozenset[str]) -> None:
    for path in sources():
        for call in made(path, names):
            nodes = [node for text in call.args[:1] for node in ast.walk(text)]
            built = any(isinstance(node, ast.JoinedStr | ast.BinOp) for node in nodes)
            assert not built, f"{path}:{call.lineno}: give the values as arguments, for %(name)s in the text"


def test_every_place_of_a_text_has_a_value(names: frozenset[str]) -> None:
    for path in sources():
        for call in made(path, names):
            text = call.args[0] if call.args else None
            texts = (text.body, text.orelse) if isinstance(text, ast.IfExp) else (text,)
            known = [each.value for each in texts if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            given = {str(keyword.arg) for keyword in call.keywords} - NO_VALUES
            places = set(PLACES.findall(" ".join(known)))
            assert not known or given == places, f"{path}:{call.lineno}"
