"""Rules for tags in Harbor's form, which its API and its database have in common.

A selector is a glob, and a word for whether it takes the names that match or the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.access.errors import Invalid
from app.oci.retention import Rule, Template
from app.oci.selectors import EVERY, Selector

# The words for taking what matches, and the rest.
REPOSITORIES = ("repoMatches", "repoExcludes")
TAGS = ("matches", "excludes")


def read_selector(given: Sequence[Mapping[str, Any]], words: tuple[str, str]) -> Selector:
    """Return the selector of a list of one; raises Invalid. The service checks its glob."""
    if not given:
        return EVERY
    word = given[0].get("decoration") or words[0]
    if word not in words:
        raise Invalid("decoration must be one of %(choices)s", choices=", ".join(words))
    return Selector(given[0]["pattern"], word == words[1])


def read_selectors(said: Mapping[str, Any]) -> tuple[Selector, Selector]:
    """Return the selectors of a rule, over tags and over repositories; raises Invalid."""
    repositories = (said.get("scope_selectors") or {}).get("repository")
    return read_selector(said.get("tag_selectors") or [], TAGS), read_selector(repositories or [], REPOSITORIES)


def written(selector: Selector, words: tuple[str, str], extras: str = "") -> list[dict[str, str]]:
    """Return a selector in Harbor's form."""
    spelled = {"kind": "doublestar", "decoration": words[selector.excludes], "pattern": selector.glob}
    return [spelled | ({"extras": extras} if extras else {})]


def read_policy(said: Mapping[str, Any]) -> tuple[list[Rule], str]:
    """Return the rules and the schedule of a retention policy; raises Invalid."""
    settings = (said.get("trigger") or {}).get("settings") or {}
    return [_read_rule(rule) for rule in said["rules"] or []], settings.get("cron") or ""


def _read_rule(said: Mapping[str, Any]) -> Rule:
    template = Template(said["template"])
    given = said.get("tag_selectors") or []
    tags, repositories = read_selectors(said)
    return Rule(
        template,
        0 if template is Template.ALWAYS else _count((said.get("params") or {}).get(template.value), template),
        tags,
        repositories,
        _takes_untagged(tags, given[0].get("extras") or "" if given else ""),
        said.get("disabled", False),
    )


def written_rule(rule: Rule) -> dict[str, Any]:
    """Return what a retention rule keeps in Harbor's form, which `read_policy` reads."""
    extras = json.dumps({"untagged": rule.untagged is not rule.tags.excludes})
    return {
        "template": rule.template.value,
        "params": {} if rule.template is Template.ALWAYS else {rule.template.value: rule.count},
        "tag_selectors": written(rule.tags, TAGS, extras),
        "scope_selectors": {"repository": written(rule.repositories, REPOSITORIES)},
    }


def _count(said: object, template: Template) -> int:
    # The terraform provider sends texts.
    if isinstance(said, str) and said.isascii() and said.isdigit():
        return int(said[:6])
    if isinstance(said, bool) or not isinstance(said, int):
        raise Invalid("params must have a number for %(name)s", name=template.value)
    return said


def _takes_untagged(tags: Selector, extras: str) -> bool:
    """Return whether a rule takes artifacts without a tag: it does if nothing is said.

    ``untagged`` counts them with the names that match. So with "excludes" it excludes them.

    Source: goharbor/harbor, ``src/lib/selector/selectors/doublestar/selector.go``.
    """
    if not extras:
        return True
    try:
        said = json.loads(extras)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Invalid("extras must be an object in JSON")
    return bool(said.get("untagged", False)) is not tags.excludes
