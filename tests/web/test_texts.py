"""The catalogue: every text of the pages stands in it, with the same places for values, and nothing else does."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.template import Loader

from app.web.pages import shapes, texts

WEB = texts.LOCALE_FOLDER.parent
PLACES = re.compile(r"%\(\w+\)[sd]")
# Tornado's templates are Python inside; their calls are read from what they are compiled to.
CALLS = {"_", "mark", "translate"}


def sources() -> Iterator[tuple[str, str]]:
    """Give every template's and page's Python."""
    loader = Loader(str(WEB / "templates"))
    for path in sorted((WEB / "templates").glob("*.html")):
        yield path.name, loader.load(path.name).code
    for path in sorted((WEB / "pages").glob("*.py")):
        yield path.name, path.read_text()


def used() -> dict[str, str]:
    """List the texts in use, and a file of each; a text with a plural is two."""
    found: dict[str, str] = {}
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


def catalogue() -> dict[tuple[str, str], str]:
    with (texts.LOCALE_FOLDER / "et_EE.csv").open(newline="") as file:
        return {(row[0], row[2] if len(row) > 2 else "unknown"): row[1] for row in csv.reader(file)}


def test_every_text_is_in_the_catalogue() -> None:
    known = {text for text, _ in catalogue()}
    assert {text: name for text, name in used().items() if text not in known} == {}


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
