"""The page about other registries, docs/upstreams.md: its configuration, and what it pulls from each of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

PAGE = Path(__file__).resolve().parents[1] / "docs" / "upstreams.md"
_SECTION = re.compile(r"^## ([a-z0-9]+(?:\.[a-z0-9]+)+)\n\n {4}docker pull registry\.hpc\.ut\.ee/(.+)$", re.MULTILINE)


class Pull(NamedTuple):
    project: str
    repository: str
    tag: str


def block(language: str) -> str:
    """Give the page's only block in ``language``."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def configuration() -> dict[str, Any]:
    """Parse the lines for config.yaml."""
    found: dict[str, Any] = yaml.safe_load(block("yaml"))
    return found


def pulls() -> dict[str, Pull]:
    """Give the pull line of each registry's section."""
    found = {}
    for registry, line in _SECTION.findall(PAGE.read_text()):
        name, _, tag = line.rpartition(":")
        project, _, repository = name.partition("/")
        found[registry] = Pull(project, repository, tag)
    return found
