"""Compare our API with Harbor's published document, field by field, and keep the table of it in docs/api.md.

`harbor_api.json` has the names of Harbor's operations, parameters and fields, and says from which document. Run this
module after a change of ours or of that file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.web.api.document import BASE, document
from app.web.api.elsewhere import EMPTY, reason

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "api.md"
BEGIN, END = "<!-- the table of tests/webapi/harbor_table.py begins -->", "<!-- the table ends -->"

# Names in a cell; more have another row.
_MOST = 20
_HEAD = """\
| Harbor's operation | served | ignored | refused | not in the answer |
|---|---|---|---|---|
"""
_ABSENT_HEAD = """\
| Harbor's operation | here |
|---|---|
"""


def harbor() -> Mapping[str, Mapping[str, Mapping[str, list[str]]]]:
    """Read the names of Harbor's document: by path and method, those of query, head, body and answer."""
    paths: Mapping[str, Mapping[str, Mapping[str, list[str]]]] = json.loads(
        (ROOT / "tests/webapi/harbor_api.json").read_text()
    )["paths"]
    return paths


def table() -> str:
    """Write both tables."""
    ours = {_plain(path): path for path in document().paths}
    served: list[str] = []
    absent: dict[tuple[str, str], list[str]] = {}
    for path, item in harbor().items():
        for method, asked in item.items():
            here = ours.get(_plain(path))
            if here is None or method not in document().paths[here]:
                why = reason(BASE + path) if here is None else _NO_METHOD
                absent.setdefault((path, why), []).append(method.upper())
            elif here not in EMPTY:
                served.append(_row(path, here, method, asked))
            else:
                absent.setdefault((path, _empty(here)), []).append(method.upper())
    rows = [f"| `{' '.join(many)} {path}` | {why} |" for (path, why), many in absent.items()]
    return _HEAD + "\n".join(served) + "\n\n" + _ABSENT_HEAD + "\n".join(rows) + "\n"


_NO_METHOD = "405, with the methods that there are in `Allow`"


def _empty(path: str) -> str:
    summary: str = document().content["paths"][path]["get"]["summary"]
    return summary[0].lower() + summary[1:]


def _row(path: str, here: str, method: str, asked: Mapping[str, list[str]]) -> str:
    operation = document().paths[here][method]
    said = document().content["paths"][here][method]
    served: list[str] = []
    ignored: list[str] = []
    refused: list[str] = []
    descriptions = {one["name"]: one.get("description", "") for one in _parameters(here, said)}
    for name in [*asked.get("query", []), *asked.get("head", [])]:
        if name not in operation.query and name not in operation.head:
            # Unknown headers are never looked at.
            (ignored if name in asked.get("head", []) else refused).append(f"`{name}`")
        else:
            (ignored if descriptions[name].startswith("Accepted") else served).append(f"`{name}`")
    schema = said.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    known = dict(_fields(schema)) if schema else {}
    for name in asked.get("body", []):
        if name not in known and name.partition(".")[0] not in known:
            ignored.append(f"`{name}`")
        elif name in known and (why := known[name].get("x-refused")):
            refused.append(f"`{name}` {why}")
        elif name in known:
            served.append(f"`{name}`")
        else:
            ignored.append(f"`{name}`")
    answered = {name.partition(".")[0] for name, _ in _fields(_answer(said))}
    lacking = [f"`{name}`" for name in asked.get("answer", []) if name not in answered]
    first, *more = [lacking[at : at + _MOST] for at in range(0, len(lacking), _MOST)] or [[]]
    cells = (", ".join(served), ", ".join(ignored), "; ".join(refused), ", ".join(first))
    rows = [f"| `{method.upper()} {path}` | " + " | ".join(cells) + " |"]
    return "\n".join([*rows, *(f"| | | | | {', '.join(names)} |" for names in more)])


def _parameters(path: str, said: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for one in [*document().content["paths"][path].get("parameters", []), *said.get("parameters", [])]:
        yield _followed(one)


def _answer(said: Mapping[str, Any]) -> Mapping[str, Any]:
    for status in ("200", "201"):
        content = _followed(said["responses"].get(status, {})).get("content", {})
        for kind in content.values():
            found: Mapping[str, Any] = kind["schema"]
            return found
    return {}


def _fields(schema: Mapping[str, Any], depth: int = 1) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """List the fields of a schema by name, and those of an object within it as OUTER.INNER."""
    schema = _followed(schema)
    for part in (*schema.get("allOf", ()), *schema.get("oneOf", ())):
        yield from _fields(part, depth)
    if "items" in schema:
        yield from _fields(schema["items"], depth)
    for name, said in schema.get("properties", {}).items():
        yield name, _followed(said)
        if depth:
            yield from ((f"{name}.{inner}", more) for inner, more in _fields(said, depth - 1))


def _followed(said: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in said:
        found: Any = document().content
        for step in said["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        said = found
    return said


def _plain(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def written(text: str, rows: str) -> str:
    """Return a page with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{rows}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), table()))
