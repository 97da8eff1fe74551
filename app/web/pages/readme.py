"""Render the description of a repository or a chart, which is Markdown, and read what an image says about itself.

Others write both. So HTML in a description is text, and links lead to the web or an address only. An image becomes a
link, because loading it would tell another site who reads this page.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from tornado.escape import xhtml_escape

_PREFIX = "org.opencontainers.image."
# A page has headings of the first two levels itself.
_DEEPER = {"h1": "h3", "h2": "h4", "h3": "h5", "h4": "h6", "h5": "h6", "h6": "h6"}
_FORGES = ("github", "gitlab", "codeberg")
# In characters of an annotation. A longer address is no link, because a part of it leads elsewhere.
_LONGEST = 500


@lru_cache(200)
def readme_html(description: str) -> str:
    """Render a description as HTML."""
    return _rendered(description)


def beginning_html(text: str, room: int) -> str:
    """Render as much of the beginning of a text as fits into ``room`` bytes of HTML, or half of that."""
    shown = text[:room]
    while len((found := _rendered(shown)).encode()) > room:
        shown = shown[: len(shown) // 2]
    return found


def _rendered(description: str) -> str:
    parser = _Parser("commonmark", {"html": False}, renderer_cls=_Renderer).enable(["table", "strikethrough"])
    return str(parser.render(description))


class _Parser(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library calls it by this name
        return url.lower().startswith(("https://", "http://", "mailto:"))


class _Renderer(RendererHTML):
    """Renders what others wrote. Methods have the tokens' names."""

    def heading_open(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        tokens[at].tag = _DEEPER[tokens[at].tag]
        return self.renderToken(tokens, at, options, env)

    heading_close = heading_open

    def link_open(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        tokens[at].attrSet("rel", "nofollow noopener ugc")
        return self.renderToken(tokens, at, options, env)

    def image(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        source, text = str(tokens[at].attrGet("src")), tokens[at].content or str(tokens[at].attrGet("src"))
        return f'<a href="{xhtml_escape(source)}" rel="nofollow noopener ugc">{xhtml_escape(text)}</a>'


@dataclass(frozen=True, slots=True)
class About:
    """The values of the annotations ``org.opencontainers.image.*``, "" if they are missing. Links are of the web."""

    title: str
    description: str
    version: str
    licences: str
    vendor: str
    revision: str
    source: str
    commit: str
    documentation: str
    home: str
    base: str


def about(said: Mapping[str, str]) -> About:
    """Read what an image says about itself."""

    def text(name: str) -> str:
        return said.get(_PREFIX + name, "").strip()

    source, revision = link(text("source")), text("revision")
    return About(
        title=text("title")[:_LONGEST],
        description=text("description")[:_LONGEST],
        version=text("version")[:_LONGEST],
        licences=text("licenses")[:_LONGEST],
        vendor=text("vendor")[:_LONGEST],
        revision=revision[:_LONGEST],
        source=source,
        commit=_commit(source, revision),
        documentation=link(text("documentation")),
        home=link(text("url")),
        base=text("base.name")[:_LONGEST],
    )


def link(text: str) -> str:
    """Return an address of the web as it is, "" for any other text."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    fits = len(text) <= _LONGEST and " " not in text
    return text if fits and parts.scheme in ("http", "https") and parts.netloc else ""


def _commit(source: str, revision: str) -> str:
    """Return the page of a commit at a forge that is known to have one, else ""."""
    named = urlsplit(source).hostname or ""
    if not revision.isalnum() or not any(forge in named for forge in _FORGES):
        return ""
    return f"{source.rstrip('/').removesuffix('.git')}/commit/{revision}"
