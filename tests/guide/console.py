"""Reads the guide's blocks as somebody does who types them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.web.pages.guide import Names

_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT, _FAILS, _USERNAME, _PASSWORD = "$ ", "! ", "Username: ", "Password:"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is for (or none), its text."""

    language: str
    file: str
    text: str


@dataclass(frozen=True)
class Step:
    """A command, what is typed when it asks, whether it fails, and what it has to say."""

    command: str
    typed: Sequence[str]
    fails: bool
    said: Sequence[str]


@dataclass(frozen=True)
class Reader:
    """Who reads the guide: where, with which project and name, and the secrets kept, by user name."""

    url: str
    project: str
    user: str
    secrets: Mapping[str, str]

    def own(self, text: str) -> str:
        """Put this reader's own names where the guide's stand."""
        text = Names(self.url, "mirror", "robot-").put_into(text)
        return text.replace("PROJECT", self.project).replace("USER", self.user)

    def steps(self, block: str) -> Iterator[Step]:
        """Read a console block, in this reader's names.

        ``$ `` begins a command. The lines after it are fragments of what it prints; where they begin with ``! ``, it
        fails. ``Username: NAME`` and ``Password:`` are what it asks for on a terminal.
        """
        for part in re.split(rf"^{re.escape(_PROMPT)}", self.own(block), flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            account = ""
            typed: list[str] = []
            said: list[str] = []
            for line in lines:
                if line.startswith(_USERNAME):
                    account = line.removeprefix(_USERNAME)
                    typed.append(account)
                elif line == _PASSWORD:
                    typed.append(self.secrets[account])
                else:
                    said.append(line.removeprefix(_FAILS))
            fails = any(line.startswith(_FAILS) for line in lines)
            yield Step(command, typed, fails, said)


def blocks(text: str) -> list[Block]:
    """List a chapter's fenced blocks."""
    return [Block(language, file, content) for language, file, content in _BLOCK.findall(text)]
