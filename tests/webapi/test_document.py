"""The document and the handlers: each says what the other does."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest
from tornado.web import RequestHandler

from app.access.roles import ALL_RIGHTS
from app.web.access_control import WORDS
from app.web.api.document import BASE, METHODS, Operation, document, pattern
from app.web.api.elsewhere import EmptyListHandler
from app.web.api.handler import ApiHandler
from app.web.api.routes import HANDLERS
from tests.webapi.client import Api

PATHS = document().paths
OPERATIONS = [(path, method) for path, item in PATHS.items() for method in item]


def implemented(handler: type[ApiHandler]) -> set[str]:
    return {method for method in METHODS if getattr(handler, method) is not getattr(RequestHandler, method)}


def test_every_path_has_a_handler_and_every_handler_a_path() -> None:
    assert set(HANDLERS) == set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_every_method_is_in_the_document_and_the_other_way_round(path: str) -> None:
    assert implemented(HANDLERS[path]) == set(PATHS[path])


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_says_who_may(path: str, method: str) -> None:
    operation = PATHS[path][method]
    assert operation.needs in WORDS | ALL_RIGHTS, operation.id
    if method not in ("get", "head"):
        assert operation.needs not in ("nothing", "login"), f"{operation.id} changes something"


# It is sent like a change because of its body, and changes nothing.
ASKS = {("/plans/preview", "post")}


@pytest.mark.parametrize(
    ("path", "method"), [one for one in OPERATIONS if one[1] not in ("get", "head") and one not in ASKS]
)
def test_whatever_changes_something_is_noted(path: str, method: str) -> None:
    """What it notes, and that it does so, other tests see; this one that nobody forgets it."""
    assert "self.note(" in inspect.getsource(getattr(HANDLERS[path], method))


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_parameter_of_a_path_is_described(path: str, method: str) -> None:
    assert set(PATHS[path][method].path) == set(re.findall(r"\{(\w+)\}", path))


def test_operations_have_names_of_their_own() -> None:
    ids = [operation.id for operation in operations()]
    assert len(ids) == len(set(ids))


def test_lists_can_be_paged_and_say_by_what_they_are_chosen_and_ordered() -> None:
    for path, operation in ((path, one) for path, item in PATHS.items() for one in item.values()):
        assert ("page" in operation.query) == ("page_size" in operation.query), operation.id
        if HANDLERS[path] is EmptyListHandler:
            continue
        assert ("q" in operation.query) == bool(operation.filters) or operation.id == "search", operation.id
        assert ("sort" in operation.query) == bool(operation.sort), operation.id


def test_a_path_is_answered_by_its_own_handler() -> None:
    """What is spelled out comes before what a name or a number could be."""
    for path in PATHS:
        example = BASE + re.sub(r"\{\w+\}", "1", path)
        first = next(known for known in HANDLERS if re.fullmatch(pattern(known), example))
        assert first == path


def test_every_schema_is_one() -> None:
    """A schema that is none accepts everything."""
    validator = document().validator("components", "schemas", "Id")
    for name, schema in document().content["components"]["schemas"].items():
        validator.check_schema(schema)
        assert isinstance(schema, dict), name


def test_the_document_is_served(nobody: Api) -> None:
    assert nobody.do("getDocumentJson").json() == document().content
    assert nobody.do("getDocumentYaml").body == document().yaml


def operations() -> Iterator[Operation]:
    for item in PATHS.values():
        yield from item.values()
