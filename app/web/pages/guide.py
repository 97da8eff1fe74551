"""Serves the users' guide, docs/guide/*.md, under /help, with this installation's own names.

The files lie beside app/, in the work tree and in a release. They are a closed list and read once. No part of a
request becomes part of a path on the disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from tornado.escape import xhtml_escape
from tornado.locale import Locale
from tornado.web import HTTPError

from . import shapes, static
from .base import PageHandler

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "guide"
# In reading order. The first is /help itself.
CHAPTERS = ("index", "login", "cache", "projects", "robots", "pushing", "clusters", "plans", "trouble", "alerts")

_HOST, _MIRROR, _ROBOT = "registry.hpc.ut.ee", "mirror", "robot-PROJECT+"
_PROMPT, _FAILS = "$ ", "! "
_DOCKER_HUB = "docker.io"
# A PNG's first chunk holds its width and height (PNG specification, 11.2.2).
_PNG_WIDTH, _PNG_HEIGHT = slice(16, 20), slice(20, 24)


@dataclass(frozen=True, slots=True)
class Names:
    """This installation's names for itself, its mirror of Docker Hub and its robot accounts."""

    external_url: str
    mirror: str
    robot_prefix: str

    def put_into(self, text: str) -> str:
        """Replace the names of the university's own installation in a chapter by these."""
        host = self.external_url.partition("://")[2]
        # In an image's address and as a project's name, but not in the page's path /mirror.
        text = re.sub(rf"\b{_MIRROR}(?=/[a-z])|(?<=`){_MIRROR}(?=`)", self.mirror, text)
        for there, here in (
            (f"https://{_HOST}", self.external_url),
            (_HOST, host),
            (_ROBOT, _ROBOT.replace("robot-", self.robot_prefix)),
        ):
            text = text.replace(there, here)
        return text


@cache
def chapters() -> Mapping[str, str]:
    """Read the existing chapters, by name, in their order."""
    return {name: path.read_text(encoding="utf-8") for name in CHAPTERS if (path := FOLDER / f"{name}.md").is_file()}


@cache
def pictures() -> Mapping[str, static.File]:
    """Read the guide's pictures, by name."""
    return {path.name: static.read(path) for path in sorted((FOLDER / "images").glob("*.png"))}


def title(text: str) -> str:
    """Return a chapter's title, its first line."""
    return text.partition("\n")[0].removeprefix("# ").strip()


def address(name: str) -> str:
    """Return a chapter's address."""
    return "/help" if name == CHAPTERS[0] else f"/help/{name}"


def commands(block: str) -> list[str]:
    """List the commands of a console block, without their output."""
    return [line.removeprefix(_PROMPT) for line in block.splitlines() if line.startswith(_PROMPT)]


@cache
def rendered(text: str, locale: Locale) -> str:
    """Render a chapter as HTML. HTML in its text is escaped."""
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
    return str(parser.render(text, {"locale": locale}))


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as the usual renderers make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class _Renderer(RendererHTML):
    """Renders headings with anchors, links between chapters and code to copy. Methods have the tokens' names."""

    def heading_open(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        tokens[at].attrSet("id", anchor(tokens[at + 1].content))
        return self.renderToken(tokens, at, options, env)

    def heading_close(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        place = anchor(tokens[at - 1].content)
        here = f' <a class="anchor" href="#{xhtml_escape(place)}" aria-hidden="true" tabindex="-1">#</a>'
        return here + self.renderToken(tokens, at, options, env)

    def table_open(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return '<div class="guide-table" tabindex="0"><table>\n'

    def table_close(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return "</table></div>\n"

    def link_open(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        path, mark, place = str(tokens[at].attrGet("href")).partition("#")
        if path.endswith(".md"):
            tokens[at].attrSet("href", address(path.removesuffix(".md")) + mark + place)
        return self.renderToken(tokens, at, options, env)

    def image(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        name = str(tokens[at].attrGet("src")).rpartition("/")[2]
        picture = pictures().get(name)
        if picture is None:
            return xhtml_escape(tokens[at].content)
        width, height = (int.from_bytes(picture.content[part]) for part in (_PNG_WIDTH, _PNG_HEIGHT))
        return (
            f'<img class="guide-picture" src="/help/images/{name}?v={picture.mark}" width="{width}" height="{height}" '
            f'alt="{xhtml_escape(tokens[at].content)}" loading="lazy">'
        )

    def fence(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        locale: Locale = env["locale"]
        language, _, file = tokens[at].info.strip().partition(" ")
        text = tokens[at].content
        if language == "console":
            shown, copied = _console(text), "\n".join(commands(text))
        else:
            shown, copied = xhtml_escape(text), text
        on_a_line = language in ("console", "sh")
        about = locale.translate("On the command line") if on_a_line else f"<code>{xhtml_escape(file)}</code>"
        copy = shapes.copy_html(copied, locale, file or copied.partition("\n")[0])
        return (
            f'<div class="snippet"><div class="snippet-file"><span>{about}</span>{copy}</div>'
            f'<pre tabindex="0">{shown}</pre></div>\n'
        )


def _console(block: str) -> str:
    """Render a console block so that commands and their output look different."""
    lines = []
    for line in block.splitlines():
        if line.startswith(_PROMPT):
            command = xhtml_escape(line.removeprefix(_PROMPT))
            lines.append(f'<span class="prompt" aria-hidden="true">$ </span><b>{command}</b>')
        else:
            lines.append(f'<span class="said">{xhtml_escape(line.removeprefix(_FAILS))}</span>')
    return "\n".join(lines)


class GuidePage(PageHandler):
    """A chapter of the guide. The route table has one path for each."""

    needs = "nothing"
    section = "help"

    async def get(self) -> None:
        name = self.request.path.removeprefix("/help").strip("/") or CHAPTERS[0]
        text = chapters().get(name)
        if text is None:
            raise HTTPError(404)
        names = Names(
            self.services.external_url.rstrip("/"),
            self.services.mirrors.get(_DOCKER_HUB, _MIRROR),
            self.services.access.robot_prefix,
        )
        self.show(
            "guide.html",
            chapter=name,
            chapter_title=title(text),
            contents=[(other, address(other), title(words)) for other, words in chapters().items()],
            chapter_html=rendered(names.put_into(text), self.locale),
        )


class PictureHandler(static.StaticHandler):
    """Serves one of the guide's pictures to everybody."""

    needs = "nothing"

    async def get(self, path: str) -> None:
        await self.send_file(pictures().get(path))
