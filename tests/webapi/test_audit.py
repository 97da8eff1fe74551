"""Every change leaves one line in the audit log, with who, from where, and to what; the API's changes and the pages'.

Each table names every operation there is, so that a new one without a line here fails. All of them are done once, in
the tables' order; what they left is looked at afterwards.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from tornado.web import RequestHandler

from app.web.pages.routes import _PAGES
from tests.api.client import Registry
from tests.images import single
from tests.web.http import Person
from tests.webapi.client import OPERATIONS, Answer, Api
from tests.webapi.house import ADMIN, PASSWORD, House
from tests.webapi.scene import access

# What an entry says: operation, kind, name, and whether it belongs to the project.
# What was done, and in which project: the scene's, none, or its cache.
Line = tuple[str, str, str, bool | str]


@dataclass
class Scene:
    """A project ``name`` with an image, and what the changes before have made."""

    house: House
    name: str
    api: Api
    number: int = 0
    digest: str = ""
    made: dict[str, int] = field(default_factory=dict)
    username: str = ADMIN

    def do(self, operation: str, body: Any = None, made: str = "", **path: Any) -> Answer:
        answer = self.api.do(operation, body, None, **path)
        assert answer.status in (200, 201), answer
        if made:
            self.made[made] = answer.number
        return answer

    @property
    def image(self) -> dict[str, str]:
        return {"project_name": self.name, "repository_name": "app", "reference": "v1"}

    @property
    def binned(self) -> int:
        """The newest entry of the project's bin."""
        entries = self.api.do("listBin", project_name_or_id=self.name).json()
        self.made["emptied"] = len(entries) - 1
        return int(entries[0]["id"])

    @property
    def webhook(self) -> dict[str, Any]:
        return {"project_name_or_id": self.name, "webhook_policy_id": self.made["webhook"]}

    def push(self, repository: str = "app", tag: str = "v1") -> str:
        image = single(f"{self.name} {repository} {tag}", sizes=(500,))
        Registry(self.house.host, ADMIN, PASSWORD).push_image(f"{self.name}/{repository}", tag, image)
        return image.digest


def robot(name: str, project: str) -> dict[str, Any]:
    return {
        "name": name, "level": "project", "permissions": [{"namespace": project, "access": access("repository:pull")}],
    }  # fmt: skip


def delete_another(scene: Scene) -> int:
    """Delete another project, which is made first if there is none; return its number."""
    if "again" not in scene.made:
        scene.made["again"] = scene.api.do("createProject", {"project_name": f"{scene.name}-again"}).number
    assert scene.api.do("deleteProject", project_name_or_id=f"{scene.name}-again").status == 200
    return scene.made["again"]


def start(scene: Scene) -> None:
    body = {"project_name": scene.name, "storage_limit": 10**9}
    scene.number = scene.do("createProject", body).number
    scene.digest = scene.push()


_HOOK = {
    "name": "to us", "event_types": ["PUSH_ARTIFACT"], "targets": [{"type": "http", "address": "https://hooks.example.org/"}],
}  # fmt: skip


def send_again(scene: Scene) -> None:
    """Send a delivery of a push that the webhook has told."""
    scene.push()
    execution = scene.api.do("listWebhookExecutions", **scene.webhook).json()[0]["id"]
    scene.do("sendWebhookAgain", execution_id=execution, **scene.webhook)


_KEY = {"name": "laptop", "duration": 1, "permissions": [{"namespace": "*", "access": access("repository:pull")}]}
_CACHE = "audited-cache"


def add_cache(house: House) -> None:
    """Make the mirror whose images are planned, before anything is looked for in the log."""
    registry = house.admin.do("listRegistries").json()[0]["id"]
    made = {"project_name": _CACHE, "public": True, "registry_id": registry}
    assert house.admin.do("createProject", made).status in (201, 409)


def planned(scene: Scene) -> dict[str, Any]:
    text = f"{scene.house.host}/{_CACHE}/library/redis:7"
    return {"title": scene.name, "text": text, "platforms": ["linux/amd64"], "due_at": tomorrow()}


def tomorrow() -> str:
    """Spell a time of tomorrow, in UTC, as the API and the browser's field for a time both take it."""
    return datetime.fromtimestamp(time.time() + 86400, UTC).strftime("%Y-%m-%dT%H:%M")


Change = tuple[Callable[[Scene], object], Callable[[Scene], Line]]
BY_API: Mapping[str, Change] = {
    "createProject": (start, lambda s: ("create", "project", s.name, True)),
    "updateProject": (
        lambda s: s.do("updateProject", {"description": "x"}, project_name_or_id=s.name),
        lambda s: ("update", "project", s.name, True)),
    "addMetadata": (
        lambda s: s.do("addMetadata", {"public": "false"}, project_name_or_id=s.name),
        lambda s: ("create", "metadata", s.name, True)),
    "updateMetadata": (
        lambda s: s.do("updateMetadata", {"public": "false"}, project_name_or_id=s.name, meta_name="public"),
        lambda s: ("update", "metadata", s.name, True)),
    "freeUnfinishedPushes": (
        lambda s: s.do("freeUnfinishedPushes", project_name_or_id=s.name),
        lambda s: ("delete", "upload", s.name, True)),
    "updateQuota": (
        lambda s: s.do("updateQuota", {"hard": {"storage": 10**8}}, id=s.number),
        lambda s: ("update", "quota", s.name, True)),
    "createMember": (
        lambda s: s.do("createMember", {"role_id": 3, "member_group": {"group_name": "staff"}}, "member",
                       project_name_or_id=s.name),
        lambda s: ("create", "member", "staff", True)),
    "updateMember": (
        lambda s: s.do("updateMember", {"role_id": 2}, project_name_or_id=s.name, mid=s.made["member"]),
        lambda s: ("update", "member", "staff", True)),
    "deleteMember": (
        lambda s: s.do("deleteMember", project_name_or_id=s.name, mid=s.made["member"]),
        lambda s: ("delete", "member", "staff", True)),
    "createRobot": (
        lambda s: s.do("createRobot", robot("ci", s.name), "robot"),
        lambda s: ("create", "robot", f"robot-{s.name}+ci", True)),
    "updateRobot": (
        lambda s: s.do("updateRobot", {"description": "x"}, robot_id=s.made["robot"]),
        lambda s: ("update", "robot", f"robot-{s.name}+ci", True)),
    "updateRobot, off": (
        lambda s: s.do("updateRobot", {"disable": True}, robot_id=s.made["robot"]),
        lambda s: ("disable", "robot", f"robot-{s.name}+ci", True)),
    "updateRobot, on": (
        lambda s: s.do("updateRobot", {"disable": False}, robot_id=s.made["robot"]),
        lambda s: ("enable", "robot", f"robot-{s.name}+ci", True)),
    "refreshRobot": (
        lambda s: s.do("refreshRobot", {}, robot_id=s.made["robot"]),
        lambda s: ("refresh", "robot", f"robot-{s.name}+ci", True)),
    "deleteRobot": (
        lambda s: s.do("deleteRobot", robot_id=s.made["robot"]),
        lambda s: ("delete", "robot", f"robot-{s.name}+ci", True)),
    "updateRepository": (
        lambda s: s.do("updateRepository", {"description": "x"}, project_name=s.name, repository_name="app"),
        lambda s: ("update", "repository", f"{s.name}/app", True)),
    "createTag": (
        lambda s: s.do("createTag", {"name": "v2"}, **s.image),
        lambda s: ("create", "tag", f"{s.name}/app:v2", True)),
    "deleteTag": (
        lambda s: s.do("deleteTag", **s.image, tag_name="v2"),
        lambda s: ("delete", "tag", f"{s.name}/app:v2", True)),
    "pointTagBack": (
        lambda s: s.do("pointTagBack", {"digest": s.digest}, project_name=s.name, repository_name="app", tag_name="v2"),
        lambda s: ("update", "tag", f"{s.name}/app:v2", True)),
    "createWebhook": (
        lambda s: s.do("createWebhook", _HOOK, "webhook", project_name_or_id=s.name),
        lambda s: ("create", "webhook", "to us", True)),
    "updateWebhook": (
        lambda s: s.do("updateWebhook", {"name": "to them"}, **s.webhook),
        lambda s: ("update", "webhook", "to them", True)),
    "sendWebhookAgain": (
        send_again,
        lambda s: ("send", "webhook", "to them", True)),
    "deleteWebhook": (
        lambda s: s.do("deleteWebhook", **s.webhook),
        lambda s: ("delete", "webhook", "to them", True)),
    "createImmutableTagRule": (
        lambda s: s.do("createImmutableTagRule", {"disabled": True}, "rule", project_name_or_id=s.name),
        lambda s: ("create", "immutability rule", f"{s.name}: {s.made['rule']} (** in **)", True)),
    "updateImmutableTagRule": (
        lambda s: s.do("updateImmutableTagRule", {"tag_selectors": [{"pattern": "x"}]}, project_name_or_id=s.name,
                       immutable_rule_id=s.made["rule"]),
        lambda s: ("update", "immutability rule", f"{s.name}: {s.made['rule']} (x in **)", True)),
    "deleteImmutableTagRule": (
        lambda s: s.do("deleteImmutableTagRule", project_name_or_id=s.name, immutable_rule_id=s.made["rule"]),
        lambda s: ("delete", "immutability rule", f"{s.name}: {s.made['rule']} (x in **)", True)),
    "createRetention": (
        lambda s: s.do("createRetention", {"rules": [], "scope": {"ref": s.number}}, "retention"),
        lambda s: ("create", "retention policy", s.name, True)),
    "updateRetention": (
        lambda s: s.do("updateRetention", {"rules": [{"template": "always"}]}, id=s.made["retention"]),
        lambda s: ("update", "retention policy", s.name, True)),
    "runRetention": (
        lambda s: s.do("runRetention", {}, "run", id=s.made["retention"]),
        lambda s: ("run", "retention policy", s.name, True)),
    "operateRetentionExecution": (
        lambda s: s.do("operateRetentionExecution", {"action": "stop"}, id=s.made["retention"], eid=s.made["run"]),
        lambda s: ("stop", "retention policy", s.name, True)),
    "deleteRetention": (
        lambda s: s.do("deleteRetention", id=s.made["retention"]),
        lambda s: ("delete", "retention policy", s.name, True)),
    "createLabel": (
        lambda s: s.do("createLabel", {"name": "good", "scope": "p", "project_id": s.number}, "label"),
        lambda s: ("create", "label", "good", True)),
    "updateLabel": (
        lambda s: s.do("updateLabel", {"name": "best"}, label_id=s.made["label"]),
        lambda s: ("update", "label", "best", True)),
    "attachLabel": (
        lambda s: s.do("attachLabel", {"id": s.made["label"]}, **s.image),
        lambda s: ("attach", "artifact", f"{s.name}/app@{s.digest}", True)),
    "detachLabel": (
        lambda s: s.do("detachLabel", **s.image, label_id=s.made["label"]),
        lambda s: ("detach", "artifact", f"{s.name}/app@{s.digest}", True)),
    "deleteLabel": (
        lambda s: s.do("deleteLabel", label_id=s.made["label"]),
        lambda s: ("delete", "label", "best", True)),
    "deleteArtifact": (
        lambda s: s.do("deleteArtifact", **s.image),
        lambda s: ("delete", "artifact", f"{s.name}/app@{s.digest}", True)),
    "restoreFromBin": (
        lambda s: s.do("restoreFromBin", project_name_or_id=s.name, bin_id=s.binned),
        lambda s: ("restore", "artifact", f"{s.name}/app@{s.digest}", True)),
    "deleteRepository": (
        lambda s: s.do("deleteRepository", project_name=s.name, repository_name="app"),
        lambda s: ("delete", "repository", f"{s.name}/app", True)),
    "deleteForGood": (
        lambda s: s.do("deleteForGood", project_name_or_id=s.name, bin_id=s.binned),
        lambda s: ("delete", "bin", f"{s.name}/app", True)),
    "emptyBin": (
        lambda s: s.do("emptyBin", project_name_or_id=s.name),
        lambda s: ("delete", "bin", f"{s.name}: {s.made['emptied']}", True)),
    "deleteProject": (
        lambda s: s.do("deleteProject", project_name_or_id=s.name),
        lambda s: ("delete", "project", s.name, True)),
    "restoreProject": (
        lambda s: s.do("restoreProject", deleted_project_id=delete_another(s)),
        lambda s: ("restore", "project", f"{s.name}-again", False)),
    "deleteProjectForGood": (
        lambda s: s.do("deleteProjectForGood", deleted_project_id=delete_another(s)),
        lambda s: ("delete", "bin", f"{s.name}-again", False)),
    "createUser": (
        lambda s: s.do("createUser", {"username": f"of-{s.name}", "password": PASSWORD}, "person"),
        lambda s: ("create", "account", f"of-{s.name}", False)),
    "updateUser": (
        lambda s: s.do("updateUser", {"realname": "X"}, user_id=s.made["person"]),
        lambda s: ("update", "account", f"of-{s.name}", False)),
    "setSysadmin": (
        lambda s: s.do("setSysadmin", {"sysadmin_flag": True}, user_id=s.made["person"]),
        lambda s: ("promote", "account", f"of-{s.name}", False)),
    "setSysadmin, no more": (
        lambda s: s.do("setSysadmin", {"sysadmin_flag": False}, user_id=s.made["person"]),
        lambda s: ("demote", "account", f"of-{s.name}", False)),
    "setDisabled": (
        lambda s: s.do("setDisabled", {"disabled": True}, user_id=s.made["person"]),
        lambda s: ("disable", "account", f"of-{s.name}", False)),
    "setDisabled, no more": (
        lambda s: s.do("setDisabled", {"disabled": False}, user_id=s.made["person"]),
        lambda s: ("enable", "account", f"of-{s.name}", False)),
    "setPassword": (
        lambda s: s.do("setPassword", {"new_password": "another one of theirs"}, user_id=s.made["person"]),
        lambda s: ("password", "account", f"of-{s.name}", False)),
    "deleteUser": (
        lambda s: s.do("deleteUser", user_id=s.made["person"]),
        lambda s: ("delete", "account", f"of-{s.name}", False)),
    "createAccessKey": (
        lambda s: s.do("createAccessKey", {**_KEY, "name": s.name}, "key"),
        lambda s: ("create", "access key", s.name, False)),
    "deleteAccessKey": (
        lambda s: s.do("deleteAccessKey", key_id=s.made["key"]),
        lambda s: ("delete", "access key", s.name, False)),
    "createPlan": (
        lambda s: s.do("createPlan", planned(s), "plan"),
        lambda s: ("create", "plan", s.name, False)),
    "deletePlan": (
        lambda s: s.do("deletePlan", plan_id=s.made["plan"]),
        lambda s: ("delete", "plan", s.name, False)),
    # Its name is made up: the test looks for it itself.
    "deleteSession": (
        lambda s: end_a_session(s),
        lambda s: ("delete", "session", f"{s.made['session']:08x}", False)),
}  # fmt: skip


def end_a_session(scene: Scene) -> None:
    Person(scene.house.host).log_in(ADMIN, PASSWORD)
    session = str(scene.api.do("listSessions").json()[0]["id"])
    scene.made["session"] = int(session[:8], 16)
    scene.do("deleteSession", session_id=session)


@dataclass
class Noted:
    """What all the changes left."""

    scene: Scene
    entries: list[dict[str, Any]]

    def check(self, line: Line, who: str) -> None:
        operation, kind, resource, in_project = line
        found = [
            one for one in self.entries
            if (one["operation"], one["resource_type"], one["resource"]) == (operation, kind, resource)
        ]  # fmt: skip
        assert len(found) == 1, (line, found)
        (entry,) = found
        assert (entry["username"], entry["user_kind"], entry["client_address"]) == (who, "person", "127.0.0.1")
        project = in_project if isinstance(in_project, str) else self.scene.name if in_project else None
        number = self.scene.number if in_project is True else entry.get("project_id")
        if resource == f"{self.scene.name}-again":
            number, project = self.scene.made["again"], resource
        assert (entry.get("project_id"), entry.get("project_name")) == (number, project)
        assert (number == self.scene.number) is (in_project is True and project == self.scene.name)
        assert entry["times"] == 1
        assert entry["op_time"]


def entries(house: House, first: int = 1) -> list[dict[str, Any]]:
    house.write_notes()
    found: list[dict[str, Any]] = []
    for page in range(1, 20):
        rows = house.admin.do("listAuditLogs", query={"page": page, "page_size": 100}).json()
        found += rows
        if len(rows) < 100:
            break
    return found


@pytest.fixture(scope="module")
def by_api(house: House) -> Noted:
    add_cache(house)
    scene = Scene(house, "audited-api", house.admin)
    house.write_notes()
    newest = house.admin.do("listAuditLogs", query={"page_size": 1}).json()[0]["id"]
    for change, _ in BY_API.values():
        change(scene)
    return Noted(scene, [one for one in entries(house) if one["id"] > newest])


@pytest.mark.parametrize("operation", BY_API)
def test_a_change_by_the_api_is_noted(by_api: Noted, operation: str) -> None:
    by_api.check(BY_API[operation][1](by_api.scene), ADMIN)


def test_what_is_told_of_a_project_that_is_gone_is_found_by_its_name(by_api: Noted) -> None:
    scene = by_api.scene
    in_project = {one["id"] for one in by_api.entries if one.get("project_id") == scene.number}
    assert scene.api.do("getProject", project_name_or_id=scene.name).status == 404
    for chosen in (f"project_name={scene.name}", f"text=~{scene.name[2:]}"):
        rows = scene.api.do("listAuditLogs", query={"q": chosen, "page_size": 100}).json()
        assert {one["id"] for one in rows} >= in_project > set(), chosen
    for chosen in (f"project_name={scene.name[2:]}", "project_name=nowhere"):
        assert scene.api.do("listAuditLogs", query={"q": chosen}).json() == []
    lines = scene.api.do("exportAuditLogs", query={"q": f"project_name={scene.name}"}).body.splitlines()
    assert {json.loads(line)["id"] for line in lines} == in_project


def test_every_change_of_the_api_is_in_the_table() -> None:
    changing = {name for name, (method, _) in OPERATIONS.items() if method not in ("GET", "HEAD")}
    changing.remove("previewPlan")  # it is sent like a change because of its body
    assert {name.partition(",")[0] for name in BY_API} == changing


# -- pages


class Forms(Person):
    """An administrator at the pages."""

    def send(self, path: str, **fields: str) -> None:
        """Send a form; it leads to a page that says it was done, or to a new secret."""
        answer = self.post(path, fields)
        assert answer.status == 303, (path, answer.status, answer.text[:500])
        if answer.location != "/secret":
            said = self.message(answer)
            assert said.startswith("success"), (path, said)


@dataclass
class Pages(Scene):
    """What the forms need: the numbers of what they made are read by the API."""

    forms: Forms = field(default_factory=lambda: Forms(""))

    @property
    def at(self) -> str:
        return f"/projects/{self.name}"

    def send(self, path: str, **fields: object) -> None:
        self.forms.send(path, **{name: str(value) for name, value in fields.items()})

    def one(self, operation: str, name: str, query: Any = None, **path: Any) -> int:
        """Find the number of something by its name."""
        rows = self.api.do(operation, None, query, **path).json()
        for row in rows:
            if name in (row.get("name"), row.get("entity_name"), row.get("username")):
                return int(row.get("user_id", row.get("id")))
        raise AssertionError((name, rows))

    def robot(self, name: str) -> int:
        of = f"Level=project,ProjectID={self.number}" if "+" in name else "Level=system"
        return self.one("listRobots", name, {"q": of, "page_size": 100})

    def member(self, name: str) -> int:
        return self.one("listMembers", name, project_name_or_id=self.name)

    @property
    def label(self) -> int:
        return self.one("listLabels", "good", {"scope": "p", "project_id": self.number})

    @property
    def account(self) -> int:
        return self.one("listUsers", f"of-{self.name}", {"q": f"username=~of-{self.name}"})

    @property
    def ci(self) -> str:
        return f"robot-{self.name}+ci"

    @property
    def all(self) -> str:
        return f"robot-all-{self.name}"

    @property
    def app(self) -> str:
        return f"app@{self.digest}"


def make(scene: Pages) -> None:
    scene.send("/new-project", name=scene.name, access="private", quota=1, unit="GiB")
    scene.number = scene.api.do("getProject", project_name_or_id=scene.name).json()["project_id"]
    scene.digest = scene.push()
    scene.house.add_person(f"of-{scene.name}")


def make_key(scene: Pages) -> None:
    scene.send("/mine/keys", name=scene.name, scope="*", right="repository:pull", days=1)
    scene.made["key"] = scene.one("listAccessKeys", scene.name)


def add_rule(scene: Pages) -> None:
    scene.send(f"{scene.at}/policy/immutability/add", tags="none-*")
    scene.made["rule"] = scene.api.do("listImmutableTagRules", project_name_or_id=scene.name).json()[-1]["id"]


def pin(scene: Pages) -> None:
    scene.send(f"/projects/{_CACHE}/pin-tag/library/redis", tag="7", until=tomorrow())
    scene.made["pin"] = scene.api.do("listImmutableTagRules", project_name_or_id=_CACHE).json()[-1]["id"]


def run_retention(scene: Pages) -> None:
    scene.send(f"{scene.at}/policy/retention/run")
    policy = scene.api.do("getProject", project_name_or_id=scene.name).json()["metadata"]["retention_id"]
    scene.made["run"] = scene.api.do("listRetentionExecutions", id=int(policy)).json()[0]["id"]


def make_plan(scene: Pages) -> None:
    scene.send("/plans/new", **{**planned(scene), "platforms": "linux/amd64", "do": "make"})
    plans = scene.api.do("listPlans").json()
    scene.made["plan"] = next(plan["id"] for plan in plans if plan["title"] == scene.name)


def make_webhook(scene: Pages) -> None:
    fields = {"url": "https://hooks.example.org/", "payload_format": "Default", "event": "PUSH_ARTIFACT"}
    scene.send(f"{scene.at}/webhooks/new", name="to us", **fields)
    made = scene.api.do("listWebhooks", project_name_or_id=scene.name).json()
    scene.made["webhook"] = made[0]["id"]


def send_again_by_page(scene: Pages) -> None:
    scene.push(tag="told")
    sent = scene.api.do("listWebhookExecutions", **scene.webhook).json()[0]["id"]
    scene.send(f"{scene.at}/webhooks/send", webhook=scene.made["webhook"], delivery=sent)


def change_robot(scene: Pages, at: str, name: str, full_name: str) -> None:
    """Change a robot account that nothing else is done to: moving a last day is an update as well."""
    scene.send(f"{at}/new", name=name, days=1, right="repository:pull")
    scene.send(f"{at}/{scene.robot(full_name)}", description="x", right="repository:push")


def revoke(scene: Pages) -> None:
    other = Person(scene.house.host).log_in(ADMIN, PASSWORD)
    sessions = Api(scene.house.host, headers={"Cookie": f"session={other.cookies['session']}"}).do("listSessions")
    session = next(one["id"] for one in sessions.json() if one["current"])
    scene.made["session"] = int(session[:8], 16)
    scene.send("/mine/sessions/revoke", session=session)


_P = r"/projects/(?P<project>"
BY_PAGES: tuple[tuple[str, Callable[[Pages], object], Callable[[Pages], Line]], ...] = (
    ("NewProjectPage", make, lambda s: ("create", "project", s.name, True)),
    ("ConfigurationPage",
        lambda s: s.send(f"{s.at}/configuration", access="public", description="x", quota=1, unit="GiB"),
        lambda s: ("update", "project", s.name, True)),
    ("QuotasPage",
        lambda s: s.send("/administration/projects", project=s.number, quota=2, unit="GiB"),
        lambda s: ("update", "quota", s.name, True)),
    ("UnattendedPage",
        lambda s: s.send("/administration/unattended", project=s.number, name=ADMIN),
        lambda s: ("update", "member", ADMIN, True)),
    ("AddMemberPage",
        lambda s: s.send(f"{s.at}/members/add", name="staff", kind="group", role="guest"),
        lambda s: ("create", "member", "staff", True)),
    ("SetRolePage",
        lambda s: s.send(f"{s.at}/members/role", member=s.member("staff"), role="developer"),
        lambda s: ("update", "member", "staff", True)),
    ("RemoveMemberPage",
        lambda s: s.send(f"{s.at}/members/remove", member=s.member("staff")),
        lambda s: ("delete", "member", "staff", True)),
    ("LeavePage", lambda s: s.send(f"{s.at}/leave"), lambda s: ("delete", "member", ADMIN, True)),
    ("NewRobotPage",
        lambda s: s.send(f"{s.at}/robots/new", name="ci", days=1, right="repository:pull"),
        lambda s: ("create", "robot", s.ci, True)),
    ("RefreshRobotPage",
        lambda s: s.send(f"{s.at}/robots/refresh", robot=s.robot(s.ci)),
        lambda s: ("refresh", "robot", s.ci, True)),
    ("SwitchRobotPage",
        lambda s: s.send(f"{s.at}/robots/switch", robot=s.robot(s.ci), disabled="yes"),
        lambda s: ("disable", "robot", s.ci, True)),
    ("SwitchRobotPage",
        lambda s: s.send(f"{s.at}/robots/switch", robot=s.robot(s.ci), disabled="no"),
        lambda s: ("enable", "robot", s.ci, True)),
    ("RobotPage",
        lambda s: change_robot(s, f"{s.at}/robots", "edited", f"{s.ci[:-2]}edited"),
        lambda s: ("update", "robot", f"{s.ci[:-2]}edited", True)),
    ("ProlongRobotPage",
        lambda s: s.send(f"{s.at}/robots/prolong", robot=s.robot(s.ci), days=5),
        lambda s: ("update", "robot", s.ci, True)),
    ("DeleteRobotPage",
        lambda s: s.send(f"{s.at}/robots/delete", robot=s.robot(s.ci)),
        lambda s: ("delete", "robot", s.ci, True)),
    ("LabelsPage",
        lambda s: s.send(f"{s.at}/labels", name="good", color="#00aa00"),
        lambda s: ("create", "label", "good", True)),
    ("DescribeRepositoryPage",
        lambda s: s.send(f"{s.at}/describe-repository/app", description="x"),
        lambda s: ("update", "repository", f"{s.name}/app", True)),
    ("AddTagPage",
        lambda s: s.send(f"{s.at}/add-tag/{s.app}", tag="v2"),
        lambda s: ("create", "tag", f"{s.name}/app:v2", True)),
    ("RemoveTagPage",
        lambda s: s.send(f"{s.at}/remove-tag/{s.app}", tag="v2"),
        lambda s: ("delete", "tag", f"{s.name}/app:v2", True)),
    ("PointTagPage",
        lambda s: s.send(f"{s.at}/point-tag/app:v2", digest=s.app.partition("@")[2]),
        lambda s: ("update", "tag", f"{s.name}/app:v2", True)),
    ("FreeUnfinishedPage",
        lambda s: s.send(f"{s.at}/free-unfinished"),
        lambda s: ("delete", "upload", s.name, True)),
    ("AddImmutabilityPage", add_rule,
        lambda s: ("create", "immutability rule", f"{s.name}: {s.made['rule']} (none-* in **)", True)),
    ("SwitchImmutabilityPage",
        lambda s: s.send(f"{s.at}/policy/immutability/switch", rule=s.made["rule"], disabled="yes"),
        lambda s: ("update", "immutability rule", f"{s.name}: {s.made['rule']} (none-* in **)", True)),
    ("DeleteImmutabilityPage",
        lambda s: s.send(f"{s.at}/policy/immutability/delete", rule=s.made["rule"]),
        lambda s: ("delete", "immutability rule", f"{s.name}: {s.made['rule']} (none-* in **)", True)),
    ("AddRetentionPage",
        lambda s: s.send(f"{s.at}/policy/retention/add", template="always"),
        lambda s: ("create", "retention policy", f"{s.name}: always (** in **)", True)),
    ("SchedulePage",
        lambda s: s.send(f"{s.at}/policy/retention/schedule", schedule="0 0 0 * * 0"),
        lambda s: ("update", "retention policy", f"{s.name}: schedule 0 0 0 * * 0", True)),
    ("RunRetentionPage", run_retention, lambda s: ("run", "retention policy", s.name, True)),
    ("StopRunPage",
        lambda s: s.send(f"{s.at}/policy/retention/stop", run=s.made["run"]),
        lambda s: ("stop", "retention policy", s.name, True)),
    ("RemoveRetentionPage",
        lambda s: s.send(f"{s.at}/policy/retention/remove", rule=1, spelled="always (** in **)"),
        lambda s: ("update", "retention policy", f"{s.name}: without always (** in **)", True)),
    ("NewWebhookPage", make_webhook, lambda s: ("create", "webhook", "to us", True)),
    ("SendAgainPage", send_again_by_page, lambda s: ("send", "webhook", "to us", True)),
    ("WebhookPage",
        lambda s: s.send(f"{s.at}/webhooks/{s.made['webhook']}", name="to them", url="https://hooks.example.org/",
                         payload_format="Default", event="PUSH_ARTIFACT"),
        lambda s: ("update", "webhook", "to them", True)),
    ("SwitchWebhookPage",
        lambda s: s.send(f"{s.at}/webhooks/switch", webhook=s.made["webhook"], disabled="yes"),
        lambda s: ("disable", "webhook", "to them", True)),
    ("DeleteWebhookPage",
        lambda s: s.send(f"{s.at}/webhooks/delete", webhook=s.made["webhook"]),
        lambda s: ("delete", "webhook", "to them", True)),
    ("RetagPage",
        lambda s: s.send(f"{s.at}/retag/app", tag=f"v1@{s.app.partition('@')[2]}", new="v3"),
        lambda s: ("create", "tag", f"{s.name}/app:v3", True)),
    ("RemoveTagsPage",
        lambda s: s.send(f"{s.at}/remove-tags/app", tag=f"v3@{s.app.partition('@')[2]}"),
        lambda s: ("delete", "tag", f"{s.name}/app:v3", True)),
    ("AttachLabelPage",
        lambda s: s.send(f"{s.at}/attach-label/{s.app}", label=s.label),
        lambda s: ("attach", "artifact", f"{s.name}/{s.app}", True)),
    ("DetachLabelPage",
        lambda s: s.send(f"{s.at}/detach-label/{s.app}", label=s.label),
        lambda s: ("detach", "artifact", f"{s.name}/{s.app}", True)),
    ("DeleteLabelPage",
        lambda s: s.send(f"{s.at}/labels/delete", label=s.label),
        lambda s: ("delete", "label", "good", True)),
    ("DeleteArtifactPage",
        lambda s: s.send(f"{s.at}/delete-artifact/{s.app}"),
        lambda s: ("delete", "artifact", f"{s.name}/{s.app}", True)),
    ("RestorePage",
        lambda s: s.send(f"{s.at}/bin/restore", entry=s.binned),
        lambda s: ("restore", "artifact", f"{s.name}/{s.app}", True)),
    ("DeleteRepositoryPage",
        lambda s: s.send(f"{s.at}/delete-repository/app", name="app"),
        lambda s: ("delete", "repository", f"{s.name}/app", True)),
    ("DeleteForGoodPage",
        lambda s: s.send(f"{s.at}/bin/delete", entry=s.binned),
        lambda s: ("delete", "bin", f"{s.name}/app", True)),
    ("EmptyBinPage",
        lambda s: s.send(f"{s.at}/bin/empty"),
        lambda s: ("delete", "bin", f"{s.name}: {s.made['emptied']}", True)),
    ("DeleteProjectPage",
        lambda s: s.send(f"{s.at}/delete", name=s.name),
        lambda s: ("delete", "project", s.name, True)),
    ("RestoreProjectPage",
        lambda s: s.send("/mine/deleted/restore", project=delete_another(s)),
        lambda s: ("restore", "project", f"{s.name}-again", False)),
    ("DeleteProjectForGoodPage",
        lambda s: s.send("/mine/deleted/delete", project=delete_another(s)),
        lambda s: ("delete", "bin", f"{s.name}-again", False)),
    ("NewRobotPage",
        lambda s: s.send("/administration/robots/new", name=f"all-{s.name}", days=1, right="repository:pull"),
        lambda s: ("create", "robot", s.all, False)),
    ("RefreshRobotPage",
        lambda s: s.send("/administration/robots/refresh", robot=s.robot(s.all)),
        lambda s: ("refresh", "robot", s.all, False)),
    ("SwitchRobotPage",
        lambda s: s.send("/administration/robots/switch", robot=s.robot(s.all), disabled="yes"),
        lambda s: ("disable", "robot", s.all, False)),
    ("RobotPage",
        lambda s: change_robot(s, "/administration/robots", f"edited-{s.name}", f"robot-edited-{s.name}"),
        lambda s: ("update", "robot", f"robot-edited-{s.name}", False)),
    ("ProlongRobotPage",
        lambda s: s.send("/administration/robots/prolong", robot=s.robot(s.all), days=5),
        lambda s: ("update", "robot", s.all, False)),
    ("DeleteRobotPage",
        lambda s: s.send("/administration/robots/delete", robot=s.robot(s.all)),
        lambda s: ("delete", "robot", s.all, False)),
    *((
        "ChangeUserPage",
        lambda s, change=change: s.send("/administration/users/change", account=s.account, change=change),
        lambda s, operation=operation: (operation, "account", f"of-{s.name}", False),
    ) for change, operation in (
        ("appoint", "promote"), ("dismiss", "demote"), ("disable", "disable"), ("enable", "enable"),
        ("delete", "delete"))),
    ("KeysPage", make_key, lambda s: ("create", "access key", s.name, False)),
    ("DeleteKeyPage",
        lambda s: s.send("/mine/keys/delete", key=s.made["key"]),
        lambda s: ("delete", "access key", s.name, False)),
    ("PinTagPage", pin,
        lambda s: ("create", "immutability rule", f"{_CACHE}: {s.made['pin']} (7 in library/redis)", _CACHE)),
    ("UnpinTagPage",
        lambda s: s.send(f"/projects/{_CACHE}/unpin-tag/library/redis", rule=s.made["pin"]),
        lambda s: ("delete", "immutability rule", f"{_CACHE}: {s.made['pin']} (7 in library/redis)", _CACHE)),
    ("NewPlanPage", make_plan, lambda s: ("create", "plan", s.name, False)),
    ("DeletePlanPage",
        lambda s: s.send("/plans/delete", plan=s.made["plan"]),
        lambda s: ("delete", "plan", s.name, False)),
    ("RevokeSessionPage", revoke, lambda s: ("delete", "session", f"{s.made['session']:08x}", False)),
)  # fmt: skip
# Forms that change nothing that is kept here, and one that needs an upstream (tests/web/test_plans.py).
UNNOTED = {"FrontPage", "AddressesPage", "LanguagePage", "UseNewerPage"}


@pytest.fixture(scope="module")
def by_pages(house: House) -> Noted:
    add_cache(house)
    forms = Forms(house.host).log_in(ADMIN, PASSWORD)
    scene = Pages(house, "audited-pages", house.admin, forms=forms)
    house.write_notes()
    newest = house.admin.do("listAuditLogs", query={"page_size": 1}).json()[0]["id"]
    for _, change, _ in BY_PAGES:
        change(scene)
    return Noted(scene, [one for one in entries(house) if one["id"] > newest])


@pytest.mark.parametrize("number", range(len(BY_PAGES)), ids=[re.sub("Page$", "", one[0]) for one in BY_PAGES])
def test_a_change_by_a_page_is_noted(by_pages: Noted, number: int) -> None:
    scene = by_pages.scene
    assert isinstance(scene, Pages)
    by_pages.check(BY_PAGES[number][2](scene), ADMIN)


def test_every_form_of_the_pages_is_in_the_table() -> None:
    forms = {handler.__name__ for _, handler in _PAGES if handler.post is not RequestHandler.post}
    assert {name for name, _, _ in BY_PAGES} | UNNOTED == forms


def test_logging_in_and_out_is_noted(house: House) -> None:
    number = house.add_person("comes-and-goes")
    secret = house.log_in(number, "a browser")
    house.log_out(secret)
    noted = [
        (one["operation"], one["resource_type"], one["resource"])
        for one in entries(house) if one["username"] == "comes-and-goes"
    ]  # fmt: skip
    assert noted == [("logout", "user", "comes-and-goes"), ("login", "user", "comes-and-goes")]


def test_what_is_refused_is_not_noted_as_done(house: House, ann: Api) -> None:
    house.write_notes()
    newest = house.admin.do("listAuditLogs", query={"page_size": 1}).json()[0]["id"]
    assert ann.do("setDisabled", {"disabled": True}, user_id=1).status == 403
    assert house.admin.do("deleteProject", project_name_or_id="nowhere").status == 404
    assert [one for one in entries(house) if one["id"] > newest and one["resource_type"] != "label"] == []


def test_half_of_a_change_is_noted_as_such(house: House) -> None:
    """The quota is set and the rest refused: what was done stands there."""
    admin = house.admin
    assert admin.do("createProject", {"project_name": "halved"}).status == 201
    body = {"storage_limit": 5000, "proxy_cache": {"official_images": "alias"}}
    answer = admin.do("updateProject", body, project_name_or_id="halved")
    assert answer.status == 400, answer
    house.write_notes()
    rows = admin.do("listAuditLogs", query={"q": "text=~halved"}).json()
    assert [(one["operation"], one["resource_type"]) for one in rows] == [("update", "quota"), ("create", "project")]
