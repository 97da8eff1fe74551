"""What the documents say that a program can check: keys, defaults, metrics, paths, links, commands, dependencies."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml

from app.__main__ import _parser
from app.config import Config, parse
from app.web.pages.routes import _PAGES as PAGES_SERVED
from app.web.v2.blobs import BlobHandlers
from app.web.v2.listings import ListingHandlers
from app.web.v2.manifests import ManifestHandlers
from app.web.v2.routes import routes
from app.web.v2.uploads import UploadHandlers

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DECISIONS = DOCS / "decisions"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "bench").glob("*.md")])
REQUIRED = object()

_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_OURS = re.compile(r"(?:app|tests|bench|docs|\.ci)/[\w./-]*[\w/]\Z")
_PINNED = re.compile(r"([A-Za-z0-9._-]+)(?:\[\w+\])?==\S+\Z")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def rows(text: str) -> Iterator[list[str]]:
    """Give the cells of every line of every table."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|--"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def first_code(cell: str) -> str | None:
    match = _CODE.match(cell)
    return match[1] if match else None


# -- configuration ----------------------------------------------------------------------------------------------------


def keys(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name every key there is, with its default (REQUIRED where there is none)."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint, key = hints[field.name], prefix + field.name
        inside = get_args(hint)
        if is_dataclass(hint):
            yield from keys(hint, f"{key}.")
        elif get_origin(hint) is Mapping and is_dataclass(inside[1]):
            yield from keys(inside[1], f"{key}.NAME.")
        elif get_origin(hint) is Mapping:
            yield f"{key}.HOST", None
        else:
            yield key, default(field)
            if inside and is_dataclass(inside[0]):
                yield from keys(inside[0], f"{key}[].")


def default(field: Field[Any]) -> object:
    if field.default is MISSING:
        return REQUIRED
    return plain(field.default)


def plain(value: object) -> object:
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, IPv4Network | IPv6Network | Path) else value


def documented() -> dict[str, object]:
    """Read the keys and defaults of configuration.md."""
    found: dict[str, object] = {}
    for cells in rows((DOCS / "configuration.md").read_text()):
        key = first_code(cells[0])
        if len(cells) == 4 and key is not None:
            written = first_code(cells[2])
            value = yaml.safe_load(written) if written is not None else REQUIRED if cells[2] == "required" else None
            found[key] = str(Path(str(value))) if key == "data_dir" else value
    return found


def test_configuration_md_has_every_key_with_its_default_and_no_other() -> None:
    assert documented() == dict(keys(Config))


def test_the_file_that_ships_has_the_defaults() -> None:
    config = parse(yaml.safe_load((ROOT / "config.yaml").read_text()), ROOT)
    assert config == replace(Config(), data_dir=ROOT / "data")


@pytest.mark.parametrize("key", [key for key, _ in keys(Config)])
def test_the_file_that_ships_names_every_key(key: str) -> None:
    text = (ROOT / "config.yaml").read_text()
    here: Any = yaml.safe_load(text)
    path, _, inner = key.partition("[].")
    for part in path.split("."):
        if part in ("NAME", "HOST"):
            here = next(iter(here.values()), None)
        else:
            assert part in here
            here = here[part]
    assert re.search(rf"\b{inner}\b", text)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_examples_of_the_configuration_are_taken(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Parse every YAML example whose keys are ours; secrets stand in for those it takes from elsewhere."""
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    ours = {field.name for field in fields(Config)}
    for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        document = yaml.safe_load(re.sub(r"_file: [^\s,}]+", ": secret", block))
        if set(document) <= ours:
            parse(document, tmp_path)


# -- metrics ----------------------------------------------------------------------------------------------------------


def defined_metrics() -> dict[str, list[str]]:
    """Find every metric that the code defines, with its labels."""
    found: dict[str, list[str]] = {}
    for path in (ROOT / "app").rglob("*.py"):
        tree = ast.parse(path.read_text())
        constants = {
            node.targets[0].id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Counter", "Gauge", "Histogram"):
                if len(node.args) < 2:  # `collections.Counter`
                    continue
                labels = node.args[2] if len(node.args) > 2 else ast.List(elts=[])
                if isinstance(labels, ast.Name):
                    labels = constants[labels.id]
                found[ast.literal_eval(node.args[0])] = ast.literal_eval(labels)
    return found


def test_metrics_md_has_every_metric_with_its_labels_and_no_other() -> None:
    described = {
        key: _CODE.findall(cells[1])
        for cells in rows((DOCS / "metrics.md").read_text())
        if (key := first_code(cells[0])) is not None and key.startswith("registry_")
    }
    assert described == defined_metrics()


def test_examples_of_questions_name_metrics_that_are_there() -> None:
    assert set(re.findall(r"registry_\w+", (DOCS / "metrics.md").read_text())) == set(defined_metrics())


# -- paths and commands -----------------------------------------------------------------------------------------------


def test_api_md_has_every_path_and_method_and_no_other() -> None:
    none: Any = None  # nothing is called: the table alone is wanted
    table = routes(
        ManifestHandlers(none, none, none, none),
        BlobHandlers(none, none, none, none, "stream"),
        UploadHandlers(none, none, none),
        ListingHandlers(none, none, none),
    )
    served = {_shape(route.pattern.pattern): set(route.methods) for route in table}
    described = {
        _shape(path): set(cells[1].split())
        for cells in rows((DOCS / "api.md").read_text())
        if len(cells) == 4 and (path := first_code(cells[0])) is not None
    }
    assert described == served


def _shape(path: str) -> str:
    """Write a pattern or a documented path with * for what varies."""
    path = path.removesuffix(r"\Z").replace("(.+)", "*").replace("([^/]+)", "*").removesuffix("?").rstrip("/")
    return re.sub(r"<\w+>", "*", path)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_targets_are_there(page: Path) -> None:
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", page.read_text())) <= there


def test_the_readme_says_what_every_make_target_does() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert set(re.findall(r"`make ([a-z-]+)`", (ROOT / "README.md").read_text())) == set(phony[1].split())


def test_the_readme_lists_every_suite() -> None:
    listed = re.findall(r"^\| `tests/(\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    suites = {folder.name for folder in (ROOT / "tests").iterdir() if any(folder.rglob("test_*.py"))}
    assert sorted(listed) == sorted(suites - {"artifacts"})


def test_commands_are_there_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    asked = {
        command: set(re.findall(r"--[a-z-]+", options))
        for command, options in re.findall(r"python -m app ((?:admin )?[a-z-]+)([^`\n]*)", text)
    }
    assert {"migrate", "admin create-project", "admin change-project", "admin set-password"} <= set(asked)
    for command, options in asked.items():
        with pytest.raises(SystemExit) as ended:
            _parser().parse_args([*command.split(), "--help"])
        assert ended.value.code == 0, command
        assert options <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out)), command


# -- links, files and dependencies ------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        if path.startswith("/"):  # a page of the service; tests/guide follows these, their anchors included
            assert any(re.fullmatch(pattern, path) for pattern, _ in PAGES_SERVED), link
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_are_there(page: Path) -> None:
    for code in _CODE.findall(_FENCE.sub("", page.read_text())):
        if _OURS.match(code):
            assert (ROOT / code).exists(), code


def test_the_index_has_every_decision() -> None:
    files = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    assert [file[:4] for file in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
    assert _LINK.findall((DECISIONS / "README.md").read_text()) == files
    for file in files:
        assert (DECISIONS / file).read_text().startswith(f"# {file[:4]} "), file


def test_security_md_has_every_chapter_with_its_tests_or_the_reason() -> None:
    table = [cells for cells in rows((DOCS / "security.md").read_text()) if re.match(r"V\d+ ", cells[0])]
    assert [cells[0].partition(" ")[0] for cells in table] == [f"V{number}" for number in range(1, 18)]
    for chapter, tests, lacking in table:
        named = _CODE.findall(tests)
        assert all(code.startswith("tests/") and (ROOT / code).is_file() for code in named if "/" in code), chapter
        assert any(code.startswith("tests/") for code in named) or len(lacking) > len("–"), chapter


def pinned(file: Path) -> set[str]:
    lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
    matches = {line: _PINNED.match(line) for line in lines if line}
    assert all(matches.values()), f"not pinned to one version: {[line for line, match in matches.items() if not match]}"
    return {match[1] for match in matches.values() if match}


def test_every_dependency_is_pinned_and_has_its_reason() -> None:
    files = ("requirements.txt", "setup-requirements.txt", "tests/requirements.txt", "tests/tools-requirements.txt")
    needed = set().union(*(pinned(ROOT / file) for file in files))
    text = (DECISIONS / "0002-dependencies.md").read_text()
    assert {cells[0] for cells in rows(text)} - {"package"} == needed
