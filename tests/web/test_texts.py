"""The catalogue: every text of the pages stands in it, with the same places for values, and nothing else does."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from tornado.template import Loader

import app.access.throttle  # noqa: F401 - its error is one of those that are read
from app.access.errors import Conflict, Invalid
from app.database.quotas import QuotaExceeded
from app.oci.errors import OCIError, Term
from app.web.pages import shapes, texts

WEB = texts.LOCALE_FOLDER.parent
APP = WEB.parent
# Whose errors pages show; what is said of tokens and of headers only programs get to read.
ERRORS_OF = ("access/**/*.py", "projects/*.py", "registry/artifacts.py", "registry/bin.py", "registry/charts.py",
             "registry/repositories.py", "registry/tags.py", "registry/tag_fates.py", "registry/retention_runs.py",
             "oci/digest.py", "oci/reference.py", "database/quotas.py", "database/trouble.py", "web/access_control.py",
             "web/login.py", "web/pages/*.py", "plans/*.py", "webhooks/service.py")  # fmt: skip
OF_PROGRAMS = ("tokens.py", "authorization.py")
# Tornado's own words for a status, and what the REST API gives along for itself.
UNTOLD = {("web/login.py", "self._reason"), ("web/access_control.py", "otherwise")}


def _classes(of: type[OCIError] = OCIError) -> Iterator[type[OCIError]]:
    yield of
    for one in of.__subclasses__():
        yield from _classes(one)


ERRORS: dict[str, type[OCIError]] = {one.__name__: one for one in (*_classes(), QuotaExceeded)}
PLACES = re.compile(r"%\(\w+\)[sdr]")
# Tornado's templates are Python inside; their calls are read from what they are compiled to.
CALLS = {"_", "mark", "translate"}


def sources() -> Iterator[tuple[str, str]]:
    """Give every template's and page's Python."""
    loader = Loader(str(WEB / "templates"))
    for path in sorted((WEB / "templates").glob("*.html")):
        yield path.name, loader.load(path.name).code
    for path in sorted((WEB / "pages").glob("*.py")):
        yield path.name, path.read_text()
    for path in (WEB / "login.py", APP / "projects" / "condition.py", APP / "projects" / "explanations.py"):
        yield path.name, path.read_text()


@cache
def used() -> dict[str, str]:
    """List the texts in use, and a file of each; a text with a plural is two."""
    found = {error.template: error.place for error in errors()}
    for name, source in sources():
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in CALLS:
                for argument in node.args[:2]:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and argument.value:
                        found[argument.value] = name
    return found


@dataclass(frozen=True)
class Said:
    """What an error that pages may show says: its template, or a term among its arguments; None cannot be told."""

    place: str
    template: str
    arguments: frozenset[str] | None = None


@cache
def errors() -> list[Said]:
    """Read from the sources what each error says that services raise and pages show."""
    files = [file for room in ERRORS_OF for file in sorted(APP.glob(room)) if file.name not in OF_PROGRAMS]
    trees = {str(file.relative_to(APP)): ast.parse(file.read_text()) for file in files}
    constants = {
        target.id: node.value.value
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return [said for place, tree in trees.items() for node in ast.walk(tree) for said in _said(place, node, constants)]


def _said(place: str, node: ast.AST, constants: Mapping[str, str]) -> Iterator[Said]:
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id in ERRORS:
        yield Said(place, ERRORS[node.exc.id].text, frozenset())
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return
    if node.func.id == Term.__name__ and isinstance(node.args[0], ast.Constant):
        yield Said(place, str(node.args[0].value))
    if node.func.id not in ERRORS:
        return
    given = frozenset(str(keyword.arg) for keyword in node.keywords) - {"headers", "status", "detail"}
    if not node.args:
        yield Said(place, ERRORS[node.func.id].text, given)
        return
    first = node.args[0]
    for choice in (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,):
        if isinstance(choice, ast.Constant):
            yield Said(place, str(choice.value), given)
        elif isinstance(choice, ast.Name) and choice.id in constants:
            yield Said(place, constants[choice.id], given)
        elif (place, ast.unparse(choice)) not in UNTOLD:
            raise AssertionError(f"{place}:{node.lineno}: no constant text, which pages could not translate")


def catalogue() -> dict[tuple[str, str], str]:
    with (texts.LOCALE_FOLDER / "et_EE.csv").open(newline="") as file:
        return {(row[0], row[2] if len(row) > 2 else "unknown"): row[1] for row in csv.reader(file)}


def test_every_text_is_in_the_catalogue() -> None:
    known = {text for text, _ in catalogue()}
    assert {text: name for text, name in used().items() if text not in known} == {}


def test_every_error_s_arguments_are_the_places_of_its_text() -> None:
    for error in errors():
        if error.arguments is not None:
            places = {place[2 : place.index(")")] for place in PLACES.findall(error.template)}
            assert places == error.arguments, error
            assert not places or "%" not in PLACES.sub("", error.template).replace("%%", ""), error


def test_an_error_is_said_in_both_languages() -> None:
    texts.load()
    error = Conflict("there is a project %(name)r already; choose another name", name="lab")
    assert str(error) == error.message == "there is a project 'lab' already; choose another name"
    assert texts.said(error, texts.choose("en", "")) == str(error)
    assert texts.said(error, texts.choose("et", "")) == "Projekt 'lab' on juba olemas; valige teine nimi."


def test_a_term_is_translated_and_what_somebody_typed_is_not() -> None:
    texts.load()
    estonian = texts.choose("et", "")
    for what, said in ((Term("description"), "kirjeldus"), ("description", "description")):
        error = Invalid("%(what)s must have 1 to %(most)s characters in one line", what=what, most=255)
        assert texts.said(error, estonian).startswith(f"{said}: ")
        assert str(error).startswith("description must ")


def test_a_text_without_arguments_may_have_a_per_cent_sign() -> None:
    assert str(Invalid("100 % of it")) == "100 % of it"


def test_the_catalogue_has_nothing_that_is_not_used() -> None:
    texts_in_use = used()
    assert [text for text, _ in catalogue() if text not in texts_in_use] == []


@pytest.mark.parametrize(("text", "translation"), [(text, there) for (text, _), there in catalogue().items()])
def test_a_translation_has_the_places_of_its_text(text: str, translation: str) -> None:
    assert translation.strip()
    assert sorted(PLACES.findall(translation)) == sorted(PLACES.findall(text))


@pytest.mark.parametrize(
    ("chosen", "accept", "code"),
    [
        (None, "et", "et_EE"),
        (None, "et-EE,et;q=0.9,en;q=0.8", "et_EE"),
        (None, "en;q=0.8,et;q=0.9", "et_EE"),
        (None, "de,en;q=0.5", "en_US"),
        (None, "", "en_US"),
        (None, "et;q=nonsense", "en_US"),
        ("et", "en", "et_EE"),
        ("en", "et", "en_US"),
        ("../../x", "et", "et_EE"),
    ],
)
def test_the_language_that_is_chosen(chosen: str | None, accept: str, code: str) -> None:
    texts.load()
    assert texts.choose(chosen, accept).code == code


def test_one_and_many_are_told_apart_in_both_languages() -> None:
    texts.load()
    now = 1_000_000.0
    for language, one, many in (("en", "1 hour ago", "5 hours ago"), ("et", "1 tund tagasi", "5 tundi tagasi")):
        locale = texts.choose(language, "")
        assert shapes.distance(now - 3600, locale, now) == one
        assert shapes.distance(now - 5 * 3600, locale, now) == many


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1024**2, "1 MiB"), (1000 * 1024**2, "1 GiB"),
     (10 * 1024**3, "10 GiB"), (123_456_789_012, "115 GiB")],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert shapes.size(count) == text


def test_what_templates_put_in_raw_is_made_of_escaped_parts() -> None:
    """Only what says that it is markup, by its name, is put in raw."""
    for path in sorted((WEB / "templates").glob("*.html")):
        for expression in re.findall(r"\{%\s*raw\s+(\w+)", path.read_text()):
            assert expression.endswith("_html"), (path.name, expression)
    assert not any(re.search(r"autoescape\s+None", path.read_text()) for path in (WEB / "templates").glob("*.html"))


def test_no_page_has_a_script_or_a_style_inside() -> None:
    """The policy forbids them; here they are found before a browser says so."""
    for path in sorted((WEB / "templates").glob("*.html")):
        source = path.read_text()
        assert not re.search(r"\sstyle=|<style|\son\w+=\"|<script(?![^>]*\ssrc=)", source), path.name


def test_labels_colours_and_copies_are_escaped() -> None:
    texts.load()
    locale = texts.choose("en", "")
    for markup in (shapes.dot_html('"><script>'), shapes.copy_html('"><script>', locale), shapes.icon_html('"><x')):
        assert "<script>" not in markup
        assert '"><x' not in markup


def test_the_folder_of_pages_is_where_it_is_looked_for() -> None:
    assert (Path(WEB) / "templates" / "layout.html").exists()
