"""Nothing on text from outside may backtrack: every regular expression of the program takes linear time.

Patterns are found in the source, so a new one is covered when it is written. Proved are all of them, wherever their
text comes from.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import pytest

import app
from app.web.api.document import document

from .patterns import fault
from .web.test_routes import rules, table

SEARCHES = {"search", "finditer", "findall", "sub", "subn", "split"}
MATCHES = {"match", "fullmatch"}
# Patterns that are made while the program runs, and where they are proved, or why they need not be.
MADE_LATER = {
    "re.compile(pattern + '\\\\Z')": "app.web.v2.routes: by `test_a_route_takes_linear_time`",
    "re.compile(pattern + '$')": "app.web.pages.routes: by the same",
    "re.compile(pattern(path) + '$')": "app.web.api.routes: by the same",
    # The identity provider says who people are, so it is trusted with a pattern; values have 255 characters at most.
    "re.compile(scope.text if scope.is_pattern else '')": "app.access.saml.metadata: read once to see that it can be",
    "re.fullmatch(self.text, scope, re.IGNORECASE)": "app.access.saml.rules",
}


@dataclass(frozen=True)
class Use:
    """A pattern, and whether it is looked for anywhere in a text or matched from a place."""

    where: str
    pattern: re.Pattern[str]
    searched: bool

    def __str__(self) -> str:
        return f"{self.where} {self.pattern.pattern[:40]}"


def modules() -> Iterator[ModuleType]:
    """Import every module of the program, but for its entry and what only Alembic can import."""
    for found in pkgutil.walk_packages(app.__path__, "app."):
        if found.name != "app.__main__" and not found.name.startswith("app.database.migrations."):
            yield importlib.import_module(found.name)


def uses(module: ModuleType) -> Iterator[Use | str]:
    """Find the patterns in a module's source; gives the source of those that are made while the program runs."""
    names = vars(module)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re."):
            verb = ast.unparse(node.func).removeprefix("re.")
            if verb in SEARCHES | MATCHES | {"compile"}:
                yield made(node, f"{module.__name__}:{node.lineno}", names, searched=verb in SEARCHES)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            pattern = names.get(node.value.id)
            if isinstance(pattern, re.Pattern) and node.attr in SEARCHES:
                yield Use(f"{module.__name__}:{node.lineno}", pattern, searched=True)


def made(call: ast.Call, where: str, names: dict[str, Any], *, searched: bool) -> Use | str:
    """Make the pattern of a call of `re`, its first argument, with its flags; its source if that cannot be done."""
    arguments = [*call.args[1:], *(keyword.value for keyword in call.keywords)]
    flags = [value for value in map(ast.unparse, arguments) if value.startswith("re.") and value[3].isupper()]
    try:
        pattern = re.compile(eval(ast.unparse(call.args[0]), names), eval(" | ".join(flags) or "0", names))
    except NameError:
        return ast.unparse(call)
    return Use(where, pattern, searched)


@cache
def found() -> list[Use | str]:
    """Find the patterns of all modules, once, and not while a run looks for its tests."""
    return [use for module in modules() for use in uses(module)]


def test_each_pattern_takes_linear_time() -> None:
    found_uses = [use for use in found() if isinstance(use, Use)]
    assert len(found_uses) > 50
    faults = {str(use): fault(use.pattern, searched=use.searched) for use in found_uses}
    assert {use: said for use, said in faults.items() if said is not None} == {}


def test_what_is_made_later_is_known() -> None:
    assert {use for use in found() if isinstance(use, str)} == MADE_LATER.keys()


def test_a_pattern_is_used_in_no_other_way() -> None:
    """`uses` understands ``re.verb(…)`` and ``NAME.verb(…)``, if the module itself has the name of the pattern."""
    for module in modules():
        tree = ast.parse(inspect.getsource(module))
        plain = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        named = {id(statement.value) for statement in tree.body if isinstance(statement, ast.Assign)}
        for node in ast.walk(tree):
            here = f"{module.__name__}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ImportFrom):
                assert node.module not in ("re", "fnmatch"), here
            if isinstance(node, ast.Import):
                assert all(name.asname is None for name in node.names if name.name == "re"), here
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile" and id(node) not in named:
                assert ast.unparse(node) in MADE_LATER, here
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in plain:
                assert not isinstance(vars(module).get(node.id), re.Pattern), here


PATHS = [*(route.pattern.pattern for route in table()), *(pattern for pattern, _ in rules())]


@pytest.mark.parametrize("pattern", PATHS)
def test_a_route_takes_linear_time(pattern: str) -> None:
    assert fault(re.compile(pattern), searched=False) is None


def spelled(node: Any) -> Iterator[str]:
    """List the patterns of a document's schemas; jsonschema searches for them."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key == "pattern" and isinstance(value, str):
            yield value
        yield from spelled(value)


@pytest.mark.parametrize("pattern", sorted(set(spelled(document().content))))
def test_a_pattern_of_the_document_takes_linear_time(pattern: str) -> None:
    assert fault(re.compile(pattern), searched=True) is None


PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"


@pytest.mark.parametrize(
    "pattern",
    [
        # Those of the address helper with which one anonymous request kept a worker for minutes.
        rf"(?P<path>{PATH}(?:/{PATH})*)(?::(?:[\w.-]|\$\w+|\$\{{[^}}]*\}})+)?\Z",
        r"\s*FROM\s+(?:--platform=\S+\s+)?(?P<image>\S+)(?:\s+AS\s+(?P<stage>\S+))?\s*(?:#.*)?\Z",
        r"\s*(?:COPY|ADD)\s+(?:--\S+\s+)*?--from=(?P<image>\S+)",
        r"\s*(?:-\s+)*(?:[\w.-]+:\s*\{(?:.*?,)?\s*)?image:\s*(?P<rest>.*)\Z",
        # The textbook's.
        r"(a+)+\Z", r"(a|a)*\Z", r"(a|ab?)*\Z", r"(?:a*)*\Z", r"(a*)*b", r"(.*,)*x", r"a*a*\Z", r"\s*,?\s*\Z",
        r".*x.*y\Z", r"(?:a+b?)+\Z", r"(?:ab?|a[bc])*\Z", r"(?:a*+b|a)*+\Z", r"(?:(?:a*+b)*+a)*+\Z",
        r"(?i:\u212a+k+)\Z", r"(a*)\1\Z", r"(?:a?){40}\Z", r"\d+\w+\Z", r"x(?=.*y)", r"(?:x(?=.*y))*",
        r".+/a/(.+)\Z", r"(?:.+/a/[^/]+)*\Z", r"a?a?a?a?a?b",
        r"((?=.*x)a)*", r"a{0,9}a{0,9}\Z",
    ],
)  # fmt: skip
def test_what_backtracks_is_found(pattern: str) -> None:
    assert fault(re.compile(pattern, re.IGNORECASE), searched=False)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\s*FROM\s+\S", r"[a-z]+\Z", r"a+b", r"\s+\Z", r"\"[^\"]*\"", r"(?<!\S)--mount=\S*?\bfrom=(?P<image>[^,\s]+)",
        r"[:@](?![-+])(?=[^/]*\Z)", r"\$\{[^}]*\}", r"(?:a[^x]*x)?", r"a{1000}b", r"\w+(?=,)", r"a(?:[bc]+d)*",
    ],
)  # fmt: skip
def test_what_is_linear_from_one_place_need_not_be_for_a_search(pattern: str) -> None:
    assert fault(re.compile(pattern), searched=True)


@pytest.mark.parametrize(
    "pattern", [r"\S+", r"a[bc]*", r"\"[^\"]*+\"?+|'[^']*+'?+|[^\s\"']\S*+", r"[/:@]", r"(?<!x)\n"]
)
def test_what_is_linear_for_a_search_is_let_be(pattern: str) -> None:
    assert fault(re.compile(pattern), searched=True) is None


@pytest.mark.parametrize(
    "pattern",
    [
        r"[a-z0-9]+(?:[._-][a-z0-9]+)*\Z", r"\s*+\S++(?:\s++AS)?\s*+(?:#.*)?\Z", r"\"(?:[^\"\\]|\\.)*\"",
        r"/v2/(.+)/blobs/([^/]+)\Z", r"(?=[a-z]*[0-9])[a-z0-9]{1,32}\Z", r"(a|b)*c", r"(?:a*+b)*+\Z", r"a{2}a{3}\Z",
        r".*x\Z",
    ],
)  # fmt: skip
def test_what_is_linear_is_let_be(pattern: str) -> None:
    assert fault(re.compile(pattern), searched=False) is None
