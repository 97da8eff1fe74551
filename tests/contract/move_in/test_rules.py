"""Rules for tags: those of Harbor's that move, changes on either side, and rules that have no form here."""

from __future__ import annotations

import json
from itertools import pairwise

from app.oci.retention import Rule, Template
from app.oci.selectors import Selector
from app.projects.immutability import Immutability
from app.projects.retention import Retentions
from tests.parts.harbor import Harbor

from .scene import Scene

DAILY = "0 0 0 * * *"


def fill(harbor: Harbor) -> tuple[int, int, int]:
    """Give a project rules of both kinds; return its id, and those of two of the rules."""
    lab = harbor.add_project("lab")
    releases = harbor.immutable_rule(lab, "v*")
    harbor.immutable_rule(
        lab, "latest", disabled=True,
        tag_selectors=[{"kind": "doublestar", "decoration": "excludes", "pattern": "latest"}],
        scope_selectors={"repository": [{"kind": "doublestar", "decoration": "repoExcludes", "pattern": "test/**"}]},
    )  # fmt: skip
    harbor.retention_policy(
        lab, harbor.keeping("always", tags="v*"), harbor.keeping("latestPushedK", 10, disabled=True),
        harbor.keeping("nDaysSinceLastPull", 7, tags="v*", decoration="excludes"),
        harbor.keeping("latestPulledN", 3, tag_selectors=[]), cron=DAILY,
    )  # fmt: skip
    return lab, releases, releases + 1


async def policy_of(scene: Scene) -> tuple[list[Rule], str, bool]:
    """Read the rules of the project's policy, its schedule, and whether that has started."""
    policy = await Retentions(scene.database).of_project(await project_of(scene))
    assert policy is not None
    return list(policy.rules), policy.cron, policy.next_at is not None


async def project_of(scene: Scene) -> int:
    return int((await scene.rows("SELECT id FROM project WHERE name = 'lab'"))[0][0])


async def test_rules_move_and_a_further_run_writes_what_has_changed(scene: Scene) -> None:
    harbor = scene.harbor
    _, releases, other = fill(harbor)
    before = await scene.state()
    told = await scene.move(dry=True)
    assert await scene.state() == before
    assert "immutability rules: 2 new\n" in told
    assert "retention policies: 1 new\n" in told
    assert "retention policies whose schedule starts when the move is final (1)\n  lab" in told
    await scene.move()
    state = await scene.state()
    assert [(row[2], bool(row[3]), row[4], bool(row[5]), bool(row[6])) for row in state["immutable rules"]] == [
        ("v*", False, "**", False, False), ("latest", True, "test/**", True, True),
    ]  # fmt: skip
    assert await policy_of(scene) == (
        [
            Rule(Template.ALWAYS, 0, Selector("v*"), untagged=True),
            Rule(Template.LATEST_PUSHED, 10, untagged=True, disabled=True),
            Rule(Template.DAYS_SINCE_PULL, 7, Selector("v*", excludes=True), untagged=False),
            Rule(Template.LATEST_PULLED, 3, untagged=True),
        ],
        DAILY,
        False,
    )
    again = await scene.move()
    assert "immutability rules: 2 the same" in again
    assert "retention policies: 1 the same" in again
    assert await scene.state() == state
    harbor.execute("UPDATE immutable_tag_rule SET disabled = true WHERE id = %s", releases)
    harbor.execute("DELETE FROM immutable_tag_rule WHERE id = %s", other)
    harbor.execute("UPDATE retention_policy SET data = replace(data, 'latestPulledN', 'latestPushedK')")
    told = await scene.move()
    assert "immutability rules: 1 changed, 1 gone" in told
    assert "retention policies: 1 changed" in told
    state = await scene.state()
    assert [(row[2], bool(row[1]), bool(row[6])) for row in state["immutable rules"]] == [("v*", False, True)]
    assert (await policy_of(scene))[0][3] == Rule(Template.LATEST_PUSHED, 3, untagged=True)
    await scene.finish()
    assert (await policy_of(scene))[2], "the schedule has started"
    await scene.finish()


async def test_a_rule_that_is_gone_from_harbor_goes(scene: Scene) -> None:
    lab, _, _ = fill(scene.harbor)
    await scene.move()
    scene.harbor.execute("DELETE FROM immutable_tag_rule")
    scene.harbor.execute("DELETE FROM retention_policy WHERE scope_reference = %s", lab)
    told = await scene.move()
    assert "immutability rules: 2 gone" in told
    assert "retention policies: 1 gone" in told
    state = await scene.state()
    assert state["immutable rules"] == state["retention policies"] == []


async def test_a_rule_that_was_changed_here_stays_as_it_is(scene: Scene) -> None:
    harbor = scene.harbor
    _, releases, other = fill(harbor)
    await scene.move()
    project_id = await project_of(scene)
    immutability, retentions = Immutability(scene.database), Retentions(scene.database)
    ours = await immutability.rules(project_id)
    await immutability.change(project_id, ours[0].id, tags=Selector("v1*"))
    await immutability.remove(project_id, ours[1].id)
    policy = await retentions.of_project(project_id)
    assert policy is not None
    await retentions.change(policy.id, policy.rules[:1], DAILY)
    state = await scene.state()
    assert "immutability rules: 2 the same" in await scene.move()
    assert await scene.state() == state
    harbor.execute(
        "UPDATE immutable_tag_rule SET tag_filter = replace(tag_filter, 'v*', 'v2*') WHERE id = %s", releases
    )
    harbor.execute("UPDATE immutable_tag_rule SET disabled = false WHERE id = %s", other)
    harbor.execute("UPDATE retention_policy SET data = replace(data, 'latestPulledN', 'latestPushedK')")
    told = await scene.move()
    assert "it was changed here as well and stays so; make it the same on both sides (2)\n  lab" in told
    assert "retention policies that cannot move: it was changed here as well" in told
    assert await scene.state() == state
    await immutability.change(project_id, ours[0].id, tags=Selector("v2*"))
    assert "immutability rules: 1 changed, 1 cannot move" in await scene.move()
    harbor.execute("DELETE FROM immutable_tag_rule")
    harbor.execute("DELETE FROM retention_policy")
    await scene.move()
    state = await scene.state()
    assert state["immutable rules"] == [], "it was the same on both sides"
    assert len(state["retention policies"]) == 1


async def test_rules_without_a_form_here_are_named_with_the_reason(scene: Scene) -> None:
    harbor, always = scene.harbor, scene.harbor.keeping("always")
    two = [{"kind": "doublestar", "decoration": "matches", "pattern": each} for each in ("a", "b")]
    rules = {
        "several": harbor.keeping("always", tag_selectors=two),
        "template": harbor.keeping("latestActiveK", 3),
        "glob": harbor.keeping("always", tags="[0-9]*"),
        "count": harbor.keeping("latestPushedK", 5000),
        "kind": harbor.keeping("always", tag_selectors=[two[0] | {"kind": "label"}]),
        "extras": harbor.keeping("always", tag_selectors=[two[0] | {"extras": "[]"}]),
        "form": {"template": "always", "tag_selectors": [{}]},
        "namespace": harbor.keeping("always", scope_selectors={"namespace": two[:1]}),
    }
    for name, rule in rules.items():
        harbor.retention_policy(harbor.add_project(name), always, rule)
    harbor.retention_policy(harbor.add_project("cron"), always, cron="0 0 0 * * MON")
    harbor.immutable_rule(harbor.add_project("double"), "v1", tag_selectors=two)
    hub = harbor.add_registry("https://hub.docker.com")
    harbor.immutable_rule(harbor.add_project("cache", registry=hub), "v1")
    harbor.retention_policy(harbor.add_project("v2"), always)
    for dry in (True, False):
        told = await scene.move(dry=dry)
        assert "retention policies: 10 cannot move" in told
        assert "immutability rules: 2 cannot move" in told
        for reason, name in (
            ("it has several selectors in the place of one (1)", "several"),
            ("it has several selectors in the place of one (1)", "double"),
            ("there is no template latestActiveK here (1)", "template"),
            ("is no name or glob", "glob"),
            ("a number from 1 to 1000 (1)", "count"),
            ("its selector is no doublestar (1)", "kind"),
            ("extras must be an object in JSON (1)", "extras"),
            ("its form is not known here (1)", "form"),
            ("it selects something else than repositories and tags (1)", "namespace"),
            ("'0 0 0 * * MON' is no schedule", "cron"),
            ("a mirror has the tags of its upstream", "cache"),
            ("the project does not move (1)", "project"),
        ):
            assert any(reason in line and name in under for line, under in pairwise(told.splitlines())), told
    state = await scene.state()
    assert state["immutable rules"] == state["retention policies"] == []


async def test_a_policy_that_was_made_here_before_stays(scene: Scene) -> None:
    lab = scene.harbor.add_project("lab")
    await scene.move()
    project_id = await project_of(scene)
    await Retentions(scene.database).create(project_id, [Rule(Template.ALWAYS)])
    scene.harbor.retention_policy(lab, scene.harbor.keeping("latestPushedK", 1))
    assert "the project has another retention policy here" in await scene.move()
    rules = json.loads((await scene.state())["retention policies"][0][4])
    assert [rule["template"] for rule in rules] == ["always"]
