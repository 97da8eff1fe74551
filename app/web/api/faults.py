"""Describe the faults of a request to its sender, without the value, because that may be a secret."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from jsonschema import ValidationError

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}


def in_words(fault: ValidationError, where: str) -> str:
    """Return what is wrong and where; ``where`` names the parameter or the body that was checked."""
    while fault.context:
        # One of several schemas must match. That the value is not null is the fault of none that anybody meant.
        meant = [one for one in fault.context if one.schema != {"type": "null"}]
        fault = max(meant or fault.context, key=lambda one: (len(one.absolute_path), one.validator != "type"))
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault.absolute_path)
    say = _WORDS.get(str(fault.validator))
    what = say(fault.validator_value, fault.instance, fault.schema) if say else "does not match the API's description"
    return f"{where}{path} {what}"


def _type(expected: Any, _given: Any, _schema: Any) -> str:
    names = [expected] if isinstance(expected, str) else expected
    return "must be " + " or ".join(_TYPES[name] for name in names)


def _required(expected: Any, given: Any, _schema: Any) -> str:
    return "lacks " + ", ".join(name for name in expected if name not in given)


def _unknown(_expected: Any, given: Any, schema: Any) -> str:
    known = schema.get("properties", {})
    unknown = ", ".join(sorted(str(name)[:50] for name in given if name not in known)[:5])
    return f"has unknown fields: {unknown}; known fields are {', '.join(known) or 'none'}"


def _enum(expected: Any, _given: Any, schema: Any) -> str:
    return schema.get("x-refused") or "must be one of " + ", ".join(map(_spelled, expected))


def _spelled(value: object) -> str:
    """Return a value as JSON has it, so that the text "true" is not taken for true."""
    return json.dumps(value, ensure_ascii=False)


_WORDS: Mapping[str, Callable[[Any, Any, Any], str]] = {
    "type": _type,
    "required": _required,
    "additionalProperties": _unknown,
    "enum": _enum,
    "const": lambda expected, _given, _schema: f"must be {_spelled(expected)}",
    "minimum": lambda expected, _given, _schema: f"must be {expected} or more",
    "maximum": lambda expected, _given, _schema: f"must be {expected} or less",
    "minLength": lambda expected, _given, _schema: f"must have {expected} characters or more",
    "maxLength": lambda expected, _given, _schema: f"must have {expected} characters or fewer",
    "minItems": lambda expected, _given, _schema: f"must have {expected} entries or more",
    "maxItems": lambda expected, _given, _schema: f"must have {expected} entries or fewer",
    "minProperties": lambda expected, _given, _schema: f"must have {expected} fields or more",
    "pattern": lambda expected, _given, _schema: f"must match {expected}",
}
