"""The check of prose: sentences and messages that it must flag, and those that it must not."""

from __future__ import annotations

import pytest

from tests.plain_english import catalogue, comments, jinja, markdown, of_message, of_text, playbook, python, template

LONG = " ".join(["word"] * 31) + "."


@pytest.mark.parametrize(
    "text",
    [
        "What was pushed stays.",
        "Whoever may pull gets it.",
        "Downloads resume. Where Redis fails, nothing is lost.",
        "The copy is used where there is none.",
        "It waits, for nobody can tell.",
        "It waits, for the lock is shared.",
        "Redis is away.",
        "The answer is not to be had.",
        "A worker goes on with the upload.",
        "A Unix socket there can be only one of.",
        "The password is made up.",
        "It is written anew.",
        "A project admin prolongs it.",
        LONG,
    ],
)
def test_a_fault_is_found(text: str) -> None:
    assert len(of_text(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "What is stored",
        "What should the client be told?",
        "The folder where blobs are is on a local disk.",
        "Where to look next",
        "Use curl, for example.",
        "It is for clients, for people and for CI.",
        "A right that is taken away is gone.",
        "There can be only one Unix socket.",
        f"{LONG.replace('word word', 'word. Word', 1)}",
    ],
)
def test_plain_prose_is_let_through(text: str) -> None:
    assert of_text(text) == []


@pytest.mark.parametrize(
    ("message", "faults"),
    [
        ("docs: name the keys\n\nNobody could find them.", 0),
        ("web/v2: answer 416\n\nThe specification asks for it.", 0),
        ("Merge branch 'docs'", 0),
        ("docs: name the keys", 1),
        ("docs: name the keys.\n\nWhy.", 1),
        ("docs: Name the keys\n\nWhy.", 1),
        ("The keys have names\n\nWhy.", 1),
        (f"docs: {'a' * 67}\n\nWhy.", 1),
        ("wip", 2),
    ],
)
def test_a_commit_s_message(message: str, faults: int) -> None:
    assert len(of_message(message)) == faults


def test_prose_of_markdown_is_without_code() -> None:
    text = """\
# A heading

A paragraph with `code, for it is` and a [link
to](page.md) in it.

    an indented block, for it is code

```sh
a fenced one, for it is too
```

| cell, one | **two** |
|---|---|

- an item
  on two lines
- another
"""
    assert [(line, " ".join(prose.split())) for line, prose in markdown(text)] == [
        (1, "A heading"),
        (3, "A paragraph with X and a link to in it."),
        (12, "cell, one"),
        (12, "two"),
        (15, "an item on two lines"),
        (17, "another"),
    ]


def test_prose_of_python_is_docstrings_comments_and_errors() -> None:
    text = '''\
"""Keep a thing.

    a drawing, for it is none
"""

# A comment
# on two lines
LIMIT = 1  # beside code
OTHER = 2  # noqa: S101  # a directive


def get(name: str) -> None:
    """Get it; raise KeyError."""
    log("not, for it is no prose")
    raise KeyError(f"there is no {name} here")
'''
    assert sorted((line, " ".join(prose.split())) for line, prose in python(text) if prose) == [
        (1, "Keep a thing."),
        (6, "A comment on two lines"),
        (8, "beside code"),
        (13, "Get it; raise KeyError."),
        (15, "there is no X here"),
    ]


def test_prose_of_other_files() -> None:
    assert [one for one in comments("#!/bin/sh\n# Why\n# so\nkey: 1  # a key\n") if one[1]] == [
        (2, " Why so"),
        (4, " a key"),
    ]
    page = '<p>Log in</p>\n<a href="#">{{ _("Help") }}</a>{% raw text %}'
    assert list(template(page)) == [(1, "Log in"), (2, "Help")]
    assert list(catalogue('"Log in","Logi sisse"\n')) == [(1, "Log in")]
    assert [one for one in jinja("{#- Why. #}\nkey={{ value }}\n") if one[1]] == [(1, " Why. ")]


def test_prose_of_a_playbook_is_comments_names_and_messages() -> None:
    text = """\
---
# Why.
- name: Check the host
  ansible.builtin.fail:
    msg: "{{ host }} is full."
  register: not_prose
"""
    assert sorted(one for one in playbook(text) if one[1]) == [(2, " Why."), (3, "Check the host"), (5, "X is full.")]
