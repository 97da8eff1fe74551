"""What others write about a repository: Markdown that can do nothing, and links that lead where they say."""

from __future__ import annotations

import time

import pytest

from app.web.pages.readme import about, readme_html


def test_markdown_is_rendered() -> None:
    html = readme_html("# Aligner\n\nUse **it**:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ndocker pull x\n```\n")
    assert "<h3>Aligner</h3>" in html
    assert "<strong>it</strong>" in html
    assert "<td>1</td>" in html
    assert "<code>docker pull x" in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '<img src="https://evil.example.org/x.png">',
        "<iframe src=https://evil.example.org></iframe>",
        "[a](javascript:alert(1))",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "[a](vbscript:x)",
        "<javascript:alert(1)>",
        "![a](javascript:alert(1))",
        '[a](https://x.example.org "a"onmouseover="b")',
        "[a]: javascript:alert(1)\n\n[a]",
        "[a](//evil.example.org/x)",
        "[a](/logout)",
    ],
)
def test_nothing_in_it_acts(text: str) -> None:
    html = readme_html(text).lower()
    for tag in ("<script", "<img", "<iframe", " onmouseover=", 'href="javascript', 'href="data', 'href="/', 'src="'):
        assert tag not in html


def test_an_image_is_a_link() -> None:
    html = readme_html("![the logo](https://example.org/logo.png)")
    assert '<a href="https://example.org/logo.png" rel="nofollow noopener ugc">the logo</a>' in html


def test_a_link_gives_nothing_to_its_target() -> None:
    assert 'href="https://example.org" rel="nofollow noopener ugc"' in readme_html("[a](https://example.org)")


@pytest.mark.parametrize("piece", ["[", "![", "*", "_a", "`", "> ", "- ", "<", "|a", "[a](", "[a]: ", "\\", "&#", "~~"])
def test_the_longest_description_takes_no_long_time(piece: str) -> None:
    began = time.process_time()
    readme_html((piece * 4000)[:4000])
    assert time.process_time() - began < 2


def test_what_an_image_says_about_itself() -> None:
    said = {
        "org.opencontainers.image.source": "https://github.com/lab/aligner.git",
        "org.opencontainers.image.revision": "0123456789abcdef",
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.url": "javascript:alert(1)",
        "org.opencontainers.image.documentation": "https://docs.example.org/a b",
        "unrelated": "x",
    }
    found = about(said)
    assert found.source == "https://github.com/lab/aligner.git"
    assert found.commit == "https://github.com/lab/aligner/commit/0123456789abcdef"
    assert (found.licences, found.home, found.documentation) == ("MIT", "", "")


@pytest.mark.parametrize(
    ("source", "revision"),
    [("https://example.org/lab", "abc"), ("https://github.com/lab/x", "../../evil"), ("ftp://github.com/x", "abc"),
     ("https://[", "abc"), ("", "abc"), ("https://github.com/lab/x", "")],
)  # fmt: skip
def test_a_commit_without_a_known_page_is_no_link(source: str, revision: str) -> None:
    found = about({"org.opencontainers.image.source": source, "org.opencontainers.image.revision": revision})
    assert found.commit == ""
