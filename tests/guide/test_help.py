"""The guide as it is served: every chapter and picture, with this installation's names, and nothing besides."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from html.parser import HTMLParser

import pytest
from tornado.locale import get as get_locale

from app.web.pages import texts
from app.web.pages.guide import CHAPTERS, FOLDER, Names, address, anchor, chapters, pictures, rendered
from tests.parts.service import Service

from .console import blocks

_PICTURE = re.compile(r"!\[([^\]]*)\]\(images/([^)]+)\)")
_MOST_BYTES = 2_000_000


class Seen(HTMLParser):
    """What a page has: ids, links, pictures, texts to copy."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.copies: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if tag == "a" and "href" in found else []
        self.pictures += [found] if tag == "img" and found.get("class") == "guide-picture" else []
        self.copies += [found["data-copy"] or ""] if "data-copy" in found else []


def get(service: Service, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(service.url + path, headers={"Accept": "text/html", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def page(service: Service, name: str, **headers: str) -> str:
    status, _, body = get(service, address(name), **headers)
    assert status == 200
    return body.decode()


def show(text: str) -> str:
    texts.load()
    return rendered(text, get_locale("en_US"))


def test_the_folder_has_the_chapters_and_no_other() -> None:
    assert tuple(chapters()) == CHAPTERS
    assert {path.stem for path in FOLDER.glob("*.md")} == set(CHAPTERS)


def test_every_picture_that_is_shown_is_there_and_no_other() -> None:
    shown = [name for text in chapters().values() for _, name in _PICTURE.findall(text)]
    assert sorted(shown) == sorted(path.name for path in (FOLDER / "images").iterdir()) == sorted(pictures())
    assert all(alt for text in chapters().values() for alt, _ in _PICTURE.findall(text))
    assert sum(len(picture.content) for picture in pictures().values()) < _MOST_BYTES


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_is_served_with_this_host_s_name(service: Service, name: str) -> None:
    text = page(service, name)
    article = text.partition("<article")[2].partition("</article>")[0]
    assert "registry.hpc.ut.ee" not in text
    assert (service.host in article) == ("registry.hpc.ut.ee" in chapters()[name])
    assert 'aria-current="page"' in text
    assert len(Seen(article).pictures) == len(_PICTURE.findall(chapters()[name]))


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_link_and_picture_of_a_chapter_is_answered(service: Service, name: str) -> None:
    seen = Seen(page(service, name))
    assert len(seen.ids) == len(set(seen.ids))
    for link in seen.links:
        path, _, place = link.partition("#")
        status, _, body = get(service, path or address(name))
        assert status == 200, link
        assert not place or place in Seen(body.decode()).ids, link
    for picture in seen.pictures:
        status, headers, body = get(service, picture["src"] or "")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert "immutable" in headers["Cache-Control"]
        assert int(picture["width"] or 0) == int.from_bytes(body[16:20])


@pytest.mark.parametrize("name", CHAPTERS)
def test_what_is_copied_is_what_is_typed(service: Service, name: str) -> None:
    names = Names(service.url, "mirror", "robot-")
    expected = [
        "\n".join(line[2:] for line in block.text.splitlines() if line.startswith("$ "))
        if block.language == "console"
        else block.text.rstrip("\n")
        for block in blocks(names.put_into(chapters()[name]))
    ]
    assert [copied.rstrip("\n") for copied in Seen(page(service, name)).copies] == expected


def test_pages_are_as_strict_as_all_others(service: Service) -> None:
    status, headers, body = get(service, "/help")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "'unsafe-inline'" not in headers["Content-Security-Policy"]
    assert not re.search(rb"\sstyle=|<style|\son\w+=", body)


def test_only_what_is_listed_is_served(service: Service) -> None:
    for path in (
        "/help/index.md", "/help/nothing", "/help/..%2fconfiguration", "/help/../../config.yaml", "/help/%2e%2e/api",
        "/help/images/", "/help/images/nothing.png", "/help/images/..%2f..%2fapi.md", "/help/images/../index.md",
        "/help/images/%2e%2e/index.md", "/help/images//etc/passwd", "/help/images/front.png%00",
    ):  # fmt: skip
        assert get(service, path)[0] == 404, path


def test_a_picture_is_not_sent_twice(service: Service) -> None:
    status, headers, _ = get(service, "/help/images/front.png")
    assert (status, headers["Cache-Control"]) == (200, "no-cache")
    assert get(service, "/help/images/front.png", **{"If-None-Match": headers["Etag"]})[0] == 304


def test_it_says_in_estonian_that_it_is_english(service: Service) -> None:
    assert "inglise keeles" in page(service, "cache", **{"Accept-Language": "et"})
    assert 'role="note"' not in page(service, "cache", **{"Accept-Language": "en"})


def test_markup_in_a_chapter_is_shown_as_it_is() -> None:
    shown = show("# A <b>\n\n<script>alert(1)</script> [x](javascript:alert(1))\n\n```sh\n<i>'\"\n```\n")
    assert "<script" not in shown
    assert "<b>" not in shown
    assert "<i>" not in shown
    assert 'href="javascript' not in shown


def test_a_picture_that_is_not_there_leaves_its_words() -> None:
    assert show("![the <words>](images/none.png)") == "<p>the &lt;words&gt;</p>\n"


@pytest.mark.parametrize(
    ("heading", "place"),
    [("The hidden part of the name", "the-hidden-part-of-the-name"), ("What's in `it`?", "whats-in-it")],
)
def test_anchors(heading: str, place: str) -> None:
    assert anchor(heading) == place


def test_names_of_another_installation() -> None:
    names = Names("http://127.0.0.1:8080", "hub", "robot$")
    assert names.put_into("docker pull registry.hpc.ut.ee/mirror/library/redis") == (
        "docker pull 127.0.0.1:8080/hub/library/redis"
    )
    assert names.put_into('- "https://registry.hpc.ut.ee"') == '- "http://127.0.0.1:8080"'
    assert names.put_into("the project `mirror`, robot-PROJECT+ci") == "the project `hub`, robot$PROJECT+ci"
