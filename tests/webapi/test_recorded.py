"""The calls of harbor-cli (on go-client) and of the terraform provider, with bodies as each spells them.

The bodies are of our own making, after the sources of both: every field that a client sends is there, also those that
Harbor alone reads. A path may have the number of something that an earlier call made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from tests.webapi.client import Answer, Api
from tests.webapi.house import PASSWORD, House

LISTED = "page=1&page_size=10&q=&sort="
NAMED = {"X-Is-Resource-Name": "true"}
NUMBERED = {"X-Is-Resource-Name": "false"}


@dataclass
class Call:
    """One call; ``makes`` names the number in the answer's Location, ``sees`` looks at the answer."""

    method: str
    path: str
    body: Any = None
    status: int = 200
    makes: str = ""
    sees: Callable[[Any], object] = lambda _: True
    headers: dict[str, str] = field(default_factory=dict)


def replay(api: Api, *calls: Call) -> dict[str, int]:
    """Send the calls in order; give the numbers of what they made."""
    made: dict[str, int] = {}
    for call in calls:
        path = call.path.format(**made)
        body = _filled(call.body, made)
        answer: Answer = api.call(call.method, path, body, call.headers)
        assert answer.status == call.status, f"{call.method} {path}: {answer}"
        if call.makes:
            made[call.makes] = answer.number
        assert call.sees(answer.json() if answer.body else None), f"{call.method} {path}: {answer}"
    return made


def _filled(body: Any, made: dict[str, int]) -> Any:
    if isinstance(body, dict):
        return {name: _filled(value, made) for name, value in body.items()}
    if isinstance(body, list):
        return [_filled(value, made) for value in body]
    return made[body[1:]] if isinstance(body, str) and body.startswith("@") else body


def has(*names: str, key: str = "name") -> Callable[[Any], bool]:
    return lambda rows: set(names) <= {row[key] for row in rows}


def only(*names: str, key: str = "name") -> Callable[[Any], bool]:
    return lambda rows: [row[key] for row in rows] == list(names)


def says(text: str) -> Callable[[Any], bool]:
    return lambda body: text in body["errors"][0]["message"]


def twice(text: str) -> str:
    return quote(quote(text, safe=""), safe="")


def access(*rights: str) -> list[dict[str, str]]:
    return [dict(zip(("resource", "action"), right.split(":"), strict=True)) for right in rights]


# -- harbor-cli: every parameter that it has, set or not ---------------------------------------------------------------


def test_cli_projects(admin: Api, house: House) -> None:
    body = {
        "project_name": "cli-project", "public": False, "registry_id": None, "storage_limit": -1,
        "cve_allowlist": None, "metadata": {"public": "false"},
    }  # fmt: skip
    replay(
        admin,
        Call("POST", "/projects", body, 201, "project"),
        Call("GET", "/projects?name=&page=1&page_size=0&q=&sort=", sees=has("cli-project")),
        Call("GET", f"/projects?q={twice('name=~cli-proj')}&page=0&page_size=0", sees=only("cli-project")),
        Call("GET", "/projects?sort=-creation_time,name&owner=ADMIN&page_size=100", sees=has("cli-project")),
        Call("GET", "/projects/cli-project", headers=NAMED),
        Call("GET", "/projects/{project}", headers=NUMBERED),
        Call("GET", "/projects/cli-project/summary", headers=NAMED),
        Call("GET", "/projects/cli-project/metadatas/", headers=NAMED, sees=lambda said: said == {"public": "false"}),
        Call("PUT", "/projects/cli-project", {"metadata": {"public": "true", "severity": "low"}}, headers=NAMED),
        Call("GET", "/projects/cli-project/metadatas/public", sees=lambda said: said == {"public": "true"}),
        Call("PUT", "/projects/cli-project/metadatas/public", {"public": "false"}),
        Call("GET", "/projects/cli-project/metadatas/severity", None, 404, sees=says("only public")),
        Call("GET", "/projects/cli-project/auditlog-exts?page=1&page_size=10&q=&sort=-op_time"),
        Call("GET", "/auditlog-exts?page=1&page_size=10&q=operation=create"),
        Call("GET", "/auditlog-exts/events", sees=lambda said: said == []),
        # Forced deletion first asks for what else there is.
        Call("GET", "/projects/cli-project/immutabletagrules", headers=NAMED, sees=lambda said: said == []),
        Call("GET", "/projects/cli-project/webhook/policies", headers=NAMED, sees=lambda said: said == []),
        Call("DELETE", "/projects/cli-project", headers=NAMED),
    )


def test_cli_members(admin: Api, house: House) -> None:
    house.add_person("cli.member")
    person = {"user_id": 0, "username": "Cli.Member"}
    replay(
        admin,
        Call("POST", "/projects", {"project_name": "cli-members"}, 201),
        Call(
            "POST", "/projects/cli-members/members",
            {"role_id": 2, "member_group": {}, "member_user": person}, 201, "member", headers=NAMED,
        ),
        Call(
            "POST", "/projects/cli-members/members",
            {"role_id": 2, "member_user": None, "member_group": {"group_name": "cli-group", "group_type": 2}}, 201,
        ),
        Call("POST", "/projects/cli-members/members", {"role_id": 2, "member_group": {}, "member_user": {}}, 400),
        Call("GET", "/projects/cli-members/members?entityname=&page=0&page_size=0", headers=NAMED,
             sees=has("cli.member", "cli-group", key="entity_name")),
        Call("PUT", "/projects/cli-members/members/{member}", {"role_id": 4}, headers=NAMED),
        Call("GET", "/projects/cli-members/members/{member}", sees=lambda said: said["role_id"] == 4),
        Call("DELETE", "/projects/cli-members/members/{member}", headers=NAMED),
    )  # fmt: skip


def test_cli_robots(admin: Api) -> None:
    rights = access("repository:read", "repository:pull", "artifact:list", "scan:create", "tag-retention:list")
    grant = {"kind": "project", "namespace": "cli-robots", "access": rights}
    body = {
        "name": "ci", "description": "", "disable": False, "duration": 0, "level": "project",
        "permissions": [grant], "secret": "",
    }  # fmt: skip
    update = {
        **body, "id": "@robot", "name": "robot-cli-robots+ci", "editable": True, "disable": True, "duration": 30,
        "expires_at": 5, "creation_time": "0001-01-01T00:00:00.000Z", "update_time": "0001-01-01T00:00:00.000Z",
    }  # fmt: skip
    of_project = "Level=project,ProjectID={project}"
    replay(
        admin,
        Call("GET", "/configurations", sees=lambda said: said["robot_name_prefix"]["value"] == "robot-"),
        Call("GET", "/permissions", sees=lambda said: has("artifact", key="resource")(said["project"])),
        Call("POST", "/projects", {"project_name": "cli-robots"}, 201, "project"),
        Call("POST", "/robots", body, 201, "robot"),
        Call("GET", f"/robots?page=1&page_size=10&q={twice('Level=project,ProjectID=')}" + "{project}",
             sees=only("robot-cli-robots+ci")),
        # One half is encoded twice, the other once.
        Call("GET", f"/robots?q={quote(of_project.partition('{')[0], safe='')}" + "{project}"
             + quote("%2Cname=cli-robots%2Bci", safe="") + "&page=0&page_size=0&sort=",
             sees=only("robot-cli-robots+ci")),
        Call("GET", "/robots?q=name=no-such&page=0&page_size=0&sort=", sees=only()),
        Call("GET", "/robots/{robot}", sees=lambda said: said["permissions"][0]["access"] == sorted(
            rights, key=lambda one: f"{one['resource']}:{one['action']}")),
        Call("PUT", "/robots/{robot}", update),
        Call("GET", "/robots/{robot}", sees=lambda said: said["disable"] is True and said["duration"] == 30),
        Call("PATCH", "/robots/{robot}", {"secret": ""}, sees=lambda said: said["secret"]),
        Call("PATCH", "/robots/{robot}", {"secret": "Harbor12345"}, 400, sees=says("cannot be chosen")),
        Call("DELETE", "/robots/{robot}"),
    )  # fmt: skip


def test_cli_labels(admin: Api) -> None:
    body = {"name": "cli-label", "color": "#FFFFFF", "description": "", "scope": "g", "project_id": 0}
    replay(
        admin,
        Call("POST", "/labels", body, 201, "label"),
        Call("GET", f"/labels?scope=g&project_id=0&name=&{LISTED}", sees=has("cli-label")),
        Call("GET", "/labels?scope=&project_id=0&q=name=cli-label&sort=-creation_time", sees=only("cli-label")),
        Call("PUT", "/labels/{label}", {
            **body, "id": "@label", "description": "changed", "creation_time": "2026-01-01T00:00:00.000Z",
            "update_time": "0001-01-01T00:00:00.000Z",
        }),
        Call("GET", "/labels/{label}", sees=lambda said: said["description"] == "changed"),
        Call("DELETE", "/labels/{label}"),
    )  # fmt: skip


def test_cli_quotas_and_users(admin: Api) -> None:
    user = {"username": "cli.user", "email": "cli@example.org", "realname": "C", "comment": "x", "password": PASSWORD}
    replay(
        admin,
        Call("POST", "/projects", {"project_name": "cli-quota"}, 201, "project"),
        Call("GET", "/quotas?page=1&page_size=0&reference=&reference_id=&sort=", sees=len),
        Call("GET", "/quotas?page=1&page_size=100&sort=-hard.storage,used.storage", sees=len),
        Call("PUT", "/quotas/{project}", {"hard": {"storage": 2**30}}),
        Call("GET", "/quotas/{project}", sees=lambda said: said["hard"] == {"storage": 2**30}),
        Call("POST", "/users", user, 201, "user"),
        Call("GET", "/users?page=0&page_size=0&q=&sort=", sees=has("cli.user", key="username")),
        Call("GET", f"/users?q={twice('username=Cli.User')}", sees=only("cli.user", key="username")),
        Call("PUT", "/users/{user}/sysadmin", {"sysadmin_flag": True}),
        Call("PUT", "/users/{user}/password", {"old_password": "", "new_password": "Another-Passw0rd"}),
        Call("PUT", "/users/{user}", {"realname": "Cli", "email": "new@example.org", "comment": "y"}),
        Call("GET", "/users/{user}", sees=lambda said: (said["realname"], said["email"]) == ("Cli", "new@example.org")),
        Call("DELETE", "/users/{user}"),
    )


def test_cli_what_is_not_here(admin: Api) -> None:
    rule = {"tag_selectors": [{"kind": "doublestar", "decoration": "matches", "pattern": "**"}]}
    replay(
        admin,
        Call("POST", "/projects", {"project_name": "cli-absent"}, 201, "project"),
        Call("POST", "/projects/cli-absent/immutabletagrules", rule, 201, "rule"),
        Call(
            "GET",
            "/projects/cli-absent/immutabletagrules?page=1&page_size=10&q=&sort=",
            sees=lambda said: len(said) == 1,
        ),
        Call("PUT", "/projects/cli-absent/immutabletagrules/{rule}", {**rule, "disabled": True}),
        Call("DELETE", "/projects/cli-absent/immutabletagrules/{rule}"),
        *(
            Call("GET", f"{path}?{LISTED}", sees=lambda said: said == [])
            for path in ("/usergroups", "/replication/policies", "/scanners", "/system/gc", "/schedules")
        ),
        Call("GET", "/projects/cli-absent/preheat/policies", sees=lambda said: said == []),
        Call("POST", "/system/gc/schedule", {"schedule": {"type": "Daily"}}, 404, sees=says("all the time")),
        Call("GET", "/ldap/users/search?username=x", None, 404, sees=says("SAML")),
        Call("GET", "/systeminfo", sees=lambda said: said["banner_message"] == ""),
    )


# -- the terraform provider: paths by number, and whole bodies on every change -----------------------------------------


def test_terraform_project(admin: Api) -> None:
    body = {
        "project_name": "tf-project", "cve_allowlist": {}, "storage_limit": 5 * 2**30,
        "metadata": {
            "enable_content_trust": "false", "enable_content_trust_cosign": "false", "auto_scan": "true",
            "severity": "low", "reuse_sys_cve_allowlist": "true", "public": "false", "prevent_vul": "false",
            "auto_sbom_generation": "false", "proxy_speed_kb": "-1", "proxy_cache_local_on_not_found": "false",
        },
    }  # fmt: skip
    public = {**body, "metadata": {**body["metadata"], "public": "true"}}  # type: ignore[dict-item]
    guarded = {**body, "metadata": {**body["metadata"], "prevent_vul": "true"}}  # type: ignore[dict-item]
    replay(
        admin,
        Call("POST", "/projects", guarded, 400, sees=says("scans nothing")),
        Call("POST", "/projects", body, 201, "project"),
        Call("GET", "/projects/{project}", sees=lambda said: said["metadata"]["public"] == "false"),
        Call("GET", "/projects/{project}/scanner", None, 404, sees=says("scans nothing")),
        Call("PUT", "/projects/{project}", public),
        Call("GET", "/projects/{project}", sees=lambda said: said["metadata"]["public"] == "true"),
        Call("GET", "/configurations", sees=lambda said: said["quota_per_project_enable"]["value"] is True),
        Call("GET", "/quotas?page=1&page_size=100&reference=project&reference_id={project}",
             sees=lambda said: said[0]["hard"] == {"storage": 5 * 2**30}),
        Call("PUT", "/quotas/{project}", {"hard": {"storage": 6 * 2**30}}),
        Call("DELETE", "/projects/{project}"),
        Call("GET", "/projects/{project}", None, 404),
    )  # fmt: skip


def test_terraform_members(admin: Api, house: House) -> None:
    house.add_person("tf.member")
    person = {"member_group": {}, "member_user": {"username": "tf.member"}}
    group = {"member_user": {}, "member_group": {"group_type": 3, "group_name": "tf-group", "id": 7}}
    replay(
        admin,
        Call("POST", "/projects", {"project_name": "tf-members", "metadata": {"public": "true"}}, 201, "project"),
        Call("POST", "/projects/{project}/members", {"role_id": 1, **person}, 201, "person"),
        Call("POST", "/projects/{project}/members", {"role_id": 5, **group}, 201, "group"),
        Call("PUT", "/projects/{project}/members/{person}", {"role_id": 3, **person}),
        Call("GET", "/projects/{project}/members/{person}", sees=lambda said: said["role_name"] == "guest"),
        Call("GET", "/projects/{project}/members/{group}", sees=lambda said: said["entity_type"] == "g"),
        Call("DELETE", "/projects/{project}/members/{group}"),
        Call("GET", "/projects/{project}/members/{group}", None, 404),
    )


def test_terraform_robot(admin: Api) -> None:
    grant = {
        "access": access("artifact:create", "artifact:read", "tag:list"),
        "kind": "project",
        "namespace": "tf-robot",
    }
    body = {"name": "tf", "level": "project", "duration": -1, "permissions": [grant]}
    replay(
        admin,
        Call("POST", "/projects", {"project_name": "tf-robot"}, 201, "project"),
        Call("POST", "/robots", {**body, "disable": True}, 201, "robot"),
        Call("GET", "/robots/{robot}", sees=lambda said: (said["disable"], said["duration"]) == (True, -1)),
        Call("PUT", "/robots/{robot}", {**body, "id": "@robot", "name": "robot-tf-robot+tf", "description": "d"}),
        Call("GET", "/robots/{robot}", sees=lambda said: said["description"] == "d"),
        Call("DELETE", "/robots/{robot}"),
    )


def test_terraform_labels_and_users(admin: Api) -> None:
    label = {"description": "", "color": "#ff0000", "deleted": False, "id": 0, "name": "tf-label"}
    user = {
        "username": "tf.user", "password": PASSWORD, "new_password": PASSWORD, "email": "tf@example.org",
        "realname": "T", "sysadmin_flag": True,
    }  # fmt: skip
    replay(
        admin,
        Call("POST", "/projects", {"project_name": "tf-label"}, 201, "project"),
        Call("POST", "/labels", {**label, "scope": "p", "project_id": "@project"}, 201, "label"),
        Call("PUT", "/labels/{label}", {**label, "scope": "p", "project_id": "@project", "description": "d"}),
        Call("GET", "/labels/{label}", sees=lambda said: said["description"] == "d"),
        Call("POST", "/users", user, 201, "user"),
        Call("PUT", "/users/{user}", {**user, "realname": "Tf"}),
        Call("PUT", "/users/{user}/sysadmin", user),
        Call("PUT", "/users/{user}/password", {**user, "new_password": "Another-Passw0rd"}),
        Call("GET", "/users/{user}", sees=lambda said: (said["realname"], said["sysadmin_flag"]) == ("Tf", True)),
        Call("DELETE", "/users/{user}"),
    )


def test_terraform_retention_and_immutability(admin: Api) -> None:
    selector = {"kind": "doublestar", "decoration": "repoMatches", "pattern": "**"}
    immutable = {
        "disabled": False, "scope_selectors": {"repository": [selector]},
        "tag_selectors": [selector | {"decoration": "matches"}],
        "action": "immutable", "template": "immutable_template",
    }  # fmt: skip

    def kept(template: str, params: dict[str, int], extras: str) -> dict[str, Any]:
        tags = {"kind": "doublestar", "decoration": "matches", "pattern": "v*", "extras": extras}
        scope = {"repository": [selector]}
        asked = {"action": "retain", "template": template, "params": params, "priority": 0, "disabled": False}
        return {**asked, "scope_selectors": scope, "tag_selectors": [tags]}

    rules = [
        kept("latestPushedK", {"latestPushedK": 10}, '{"untagged": true}'),
        kept("always", {}, '{"untagged": false}'),
    ]
    retention = {
        "algorithm": "or", "rules": [], "trigger": {"kind": "Schedule", "references": {}, "settings": {"cron": ""}},
        "scope": {"level": "project", "ref": "@project"},
    }  # fmt: skip
    replay(
        admin,
        Call("POST", "/projects", {"project_name": "tf-rules"}, 201, "project"),
        Call("POST", "/projects/{project}/immutabletagrules", immutable, 201, "rule"),
        Call(
            "GET",
            "/projects/{project}/immutabletagrules?page=1&page_size=100",
            sees=lambda said: (
                [(one["scope_selectors"]["repository"], one["tag_selectors"]) for one in said]
                == [([selector], [selector | {"decoration": "matches"}])]
            ),
        ),
        Call("PUT", "/projects/{project}/immutabletagrules/{rule}", {**immutable, "id": "@rule", "disabled": True}),
        Call("DELETE", "/projects/{project}/immutabletagrules/{rule}"),
        Call("POST", "/retentions", retention, 201, "retention"),
        Call("GET", "/projects/{project}", sees=lambda said: int(said["metadata"]["retention_id"]) > 0),
        Call("PUT", "/retentions/{retention}", {**retention, "id": "@retention", "rules": rules}),
        Call(
            "GET",
            "/retentions/{retention}",
            sees=lambda said: (
                [(one["template"], one["params"], one["tag_selectors"]) for one in said["rules"]]
                == [(one["template"], one["params"], one["tag_selectors"]) for one in rules]
            ),
        ),
        Call("POST", "/retentions/{retention}/executions", {"dry_run": True}, 201, "run"),
        Call(
            "GET",
            "/retentions/{retention}/executions?page=1&page_size=15",
            sees=lambda said: [(one["dry_run"], one["trigger"]) for one in said] == [(True, "Manual")],
        ),
        Call("GET", "/retentions/{retention}/executions/{run}/tasks", sees=lambda said: said == []),
        Call("PATCH", "/retentions/{retention}/executions/{run}", {"action": "stop"}),
        Call("GET", "/retentions/metadatas", sees=lambda said: len(said["templates"]) == 5),
        Call("DELETE", "/retentions/{retention}"),
        Call("GET", "/retentions/{retention}", None, 404),
    )


# -- conventions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"project_name": "any-1", "chart_count": 5, "deleted": False, "owner_id": 0},
        {"project_name": "any-2", "metadata": {"public": "true", "made_up": {"deep": [1]}}},
        {"project_name": "any-3", "registry_id": 0, "cve_allowlist": {"items": [{"cve_id": "CVE-1"}], "expires_at": 0}},
    ],
)
def test_unknown_fields_are_ignored(admin: Api, body: dict[str, Any]) -> None:
    assert admin.call("POST", "/projects", body).status == 201


def test_a_choice_that_is_misspelt_is_refused(admin: Api) -> None:
    """It would list everything."""
    for query in ("nmae=x", "q=nmae=x", "sort=nmae"):
        assert admin.call("GET", f"/projects?{query}").status == 400
