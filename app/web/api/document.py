"""Read the OpenAPI document once and turn it into checks of requests.

The document is the only place that defines the API: paths, parameters, bodies, and in ``x-needs`` who may call. OpenAPI
has no words for two more things: ``x-filters`` lists the fields that ``q`` may name, ``x-sort`` those of ``sort``.

Source: OpenAPI 3.1, whose schemas are JSON Schema 2020-12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from app.access.errors import Invalid

from .faults import in_words

BASE = "/api/v2.0"
METHODS = ("get", "head", "post", "put", "patch", "delete")

_FILE = Path(__file__).with_name("openapi.yaml")
_URI = "urn:registry:openapi"
_INTEGER = re.compile(r"-?[0-9]{1,18}\Z")


@dataclass(frozen=True)
class Parameter:
    """A parameter of the path, the query or the head, with the type and the checks of its schema."""

    name: str
    place: str
    required: bool
    type: str
    default: object
    validator: Draft202012Validator

    def read(self, text: str) -> Any:
        """Return the value in the schema's type; raises Invalid."""
        if "\0" in text:
            raise Invalid("%(name)s must not contain NUL", name=self.name)
        value: object = text
        if self.type == "integer" and _INTEGER.match(text):
            value = int(text)
        elif self.type == "boolean" and text in ("true", "false"):
            value = text == "true"
        check(self.validator, value, self.name)
        return value


@dataclass(frozen=True)
class Operation:
    """One method of one path. ``filters`` maps each field that ``q`` may name to its type and forms."""

    id: str
    needs: str
    path: Mapping[str, Parameter]
    query: Mapping[str, Parameter]
    head: Mapping[str, Parameter]
    body: Draft202012Validator | None
    filters: Mapping[str, str]
    sort: Sequence[str]


class Document:
    """The document of this package; the constructor reads the file."""

    def __init__(self) -> None:
        text = _FILE.read_text()
        # The parser in C: the file is read at each start, and the parser in Python takes ten times as long.
        self.content: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)
        self.yaml = text.encode()
        self.json = json.dumps(self.content, ensure_ascii=False).encode()
        resource = Resource.from_contents(self.content, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_URI, resource)
        self.paths: dict[str, dict[str, Operation]] = {
            path: {method: self._operation(path, method) for method in METHODS if method in item}
            for path, item in self.content["paths"].items()
        }

    def validator(self, *pointer: str | int) -> Draft202012Validator:
        """Return a validator of the schema at a place in the document."""
        spelled = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in pointer)
        return Draft202012Validator({"$ref": f"{_URI}#{spelled}"}, registry=self._registry)

    def _operation(self, path: str, method: str) -> Operation:
        item = self.content["paths"][path]
        said = item[method]
        parameters = [
            self._parameter((*place, number), given)
            for place, many in (
                (("paths", path, "parameters"), item.get("parameters", [])),
                (("paths", path, method, "parameters"), said.get("parameters", [])),
            )
            for number, given in enumerate(many)
        ]
        has_body = "requestBody" in said
        schema = ("paths", path, method, "requestBody", "content", "application/json", "schema")
        return Operation(
            id=said["operationId"],
            needs=said["x-needs"],
            path=_in_place("path", parameters),
            query=_in_place("query", parameters),
            head=_in_place("header", parameters),
            body=self.validator(*schema) if has_body else None,
            filters=said.get("x-filters", {}),
            sort=said.get("x-sort", ()),
        )

    def _parameter(self, place: tuple[str | int, ...], given: Mapping[str, Any]) -> Parameter:
        if "$ref" in given:
            place = tuple(given["$ref"].removeprefix("#/").split("/"))
            given = self.content["components"]["parameters"][place[-1]]
        schema = given["schema"]
        if "$ref" in schema:
            schema = self.content["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return Parameter(
            name=given["name"],
            place=given["in"],
            required=given.get("required", False),
            type=schema["type"],
            default=schema.get("default"),
            validator=self.validator(*place, "schema"),
        )


def _in_place(place: str, parameters: Sequence[Parameter]) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in parameters if parameter.place == place}


@cache
def document() -> Document:
    """Return the document; it is read at the first call only."""
    return Document()


def check(validator: Draft202012Validator, value: object, where: str) -> None:
    """Raise Invalid with the first fault if a value does not match its schema."""
    # A list of values says more than their type.
    faults = sorted(
        validator.iter_errors(value), key=lambda fault: (len(fault.absolute_path), fault.validator == "type")
    )
    if faults:
        raise Invalid(in_words(faults[0], where))


def pattern(path: str) -> str:
    """Return a path of the document as a regular expression for the route table."""
    return BASE + re.sub(r"\\{(\w{1,64})\\}", r"(?P<\1>[^/]+)", re.escape(path))
