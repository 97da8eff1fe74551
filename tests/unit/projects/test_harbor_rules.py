"""Rules for tags mean here what they mean in Harbor."""

from __future__ import annotations

from typing import Any

import pytest

from app.projects.harbor_rules import read_policy, written_rule


@pytest.mark.parametrize(
    ("decoration", "extras", "takes"),
    [
        ("matches", None, True),
        ("matches", "", True),
        ("matches", "{}", False),
        ("matches", '{"untagged": true}', True),
        ("matches", '{"untagged": false}', False),
        ("excludes", None, True),
        ("excludes", "{}", True),
        ("excludes", '{"untagged": true}', False),
        ("excludes", '{"untagged": false}', True),
    ],
)
def test_whether_a_rule_takes_artifacts_without_a_tag(decoration: str, extras: str | None, *, takes: bool) -> None:
    selector: dict[str, Any] = {"kind": "doublestar", "decoration": decoration, "pattern": "v*"}
    selector |= {} if extras is None else {"extras": extras}
    said = {"template": "always", "tag_selectors": [selector]}
    (rule,), _ = read_policy({"rules": [said]})
    assert rule.untagged is takes
    again, _ = read_policy({"rules": [said | {"tag_selectors": written_rule(rule)["tag_selectors"]}]})
    assert again == [rule]
