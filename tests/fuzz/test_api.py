"""What callers of the REST API send: ``q``, ``sort``, parameters and bodies, read by the document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from random import Random
from typing import Any

from app.access.errors import Invalid
from app.web.api.document import Operation, Parameter, check, document
from app.web.api.handler import read_json
from app.web.api.query import parse_query, parse_sort

from .inputs import edit, edited, fuzz, odd_json, one_of
from .test_wire import PIECES

_OPERATIONS = [operation for item in document().paths.values() for operation in item.values()]
_MOST_INTEGER = 2**63
_MOST_LEVELS = 6
_VALUES = ("lab", "5", "true", '"a b"', "'c'", "2026-04-09", '"2026-04-09 02:36:00"', "-1", "9" * 30)
_FORMS = ("{f}={v}", "{f}=~{v}", "{f}=[{v}~{v}]", "{f}=[~{v}]", "{f}={{{v} {v}}}", "{f}=({v} {v})")
_PIECES = (*"~[]{}(),='\" ", "\\", "²", "x" * 300)


def _query(chance: Random) -> tuple[Operation, str]:
    operation = chance.choice([one for one in _OPERATIONS if one.filters])
    fields = [*operation.filters, "other"]
    terms = [
        chance.choice(_FORMS).format(f=chance.choice(fields), v=chance.choice(_VALUES))
        for _ in range(chance.randrange(4))
    ]
    return operation, edit(chance, ",".join(terms), _PIECES)


@fuzz(_query)
def test_queries(asked: tuple[Operation, str]) -> None:
    operation, text = asked
    with suppress(Invalid):
        terms = parse_query(text, operation.filters)
        assert terms.keys() <= operation.filters.keys()
        for term in terms.values():
            assert all(not isinstance(value, int) or abs(value) < _MOST_INTEGER for value in term.values)


@fuzz(one_of(*_OPERATIONS), edited(one_of("name", "-name", "-creation_time", ""), *_PIECES))
def test_orders(operation: Operation, text: str) -> None:
    with suppress(Invalid):
        assert {field for field, _ in parse_sort(text, operation.sort)} <= set(operation.sort)


_PARAMETERS = [
    parameter for one in _OPERATIONS for parameter in (*one.path.values(), *one.query.values(), *one.head.values())
]


@fuzz(one_of(*_PARAMETERS), edited(one_of(*_VALUES), *_PIECES))
def test_parameters(parameter: Parameter, text: str) -> None:
    with suppress(Invalid):
        value = parameter.read(text)
        assert not isinstance(value, int) or abs(value) < _MOST_INTEGER


def _instance(schema: Mapping[str, Any], chance: Random, levels: int = _MOST_LEVELS) -> Any:
    """Make what roughly matches a schema of the document."""
    if "$ref" in schema:
        return _instance(document().content["components"]["schemas"][schema["$ref"].rpartition("/")[2]], chance, levels)
    if "enum" in schema or "const" in schema:
        return chance.choice(schema.get("enum") or [schema["const"]])
    for word in ("oneOf", "anyOf", "allOf"):
        if word in schema and "properties" not in schema:
            return _instance(chance.choice(schema[word]), chance, levels)
    kinds = schema.get("type", "object")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if levels > 0 and kind == "array":
        return [_instance(schema.get("items", {}), chance, levels - 1) for _ in range(chance.randrange(3))]
    if levels > 0 and kind == "object":
        return {name: _instance(one, chance, levels - 1) for name, one in schema.get("properties", {}).items()}
    simple = {
        "string": chance.choice(["lab", "app/web", "2026-04-09", "x" * 300, ""]),
        "integer": chance.randrange(-2, 2**40),
        "boolean": chance.random() < 0.5,
    }
    return simple.get(kind)


def _bodies() -> Iterator[tuple[Operation, Mapping[str, Any]]]:
    for path, item in document().paths.items():
        for method, operation in item.items():
            if operation.body is not None:
                said = document().content["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
                yield operation, said


_BODIES = list(_bodies())


def _written(chance: Random) -> tuple[Operation, bytes]:
    operation, schema = chance.choice(_BODIES)
    return operation, odd_json(chance, _instance(schema, chance), pieces=(*PIECES, b"\\u0000", b"1e400"))


@fuzz(_written)
def test_bodies(asked: tuple[Operation, bytes]) -> None:
    operation, data = asked
    assert operation.body is not None
    with suppress(Invalid):
        value = read_json(data)
        check(operation.body, value, "the body")
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
