"""Who may what: every operation of the API, by everybody who could ask, in a public and in a private project.

The table is written down here and not taken from the service: from which role on, whether everybody may where the
project is public, and whether it can be given to a robot account or an access key. Here each operation is called by
those on both sides of its bound; `tests/contract/test_who_may_what.py` asks the rights of all of them in process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from tests.webapi.client import OPERATIONS, Answer, Api
from tests.webapi.house import PASSWORD, House
from tests.webapi.scene import ROLES, Project, Scene, access

LIMITED, GUEST, DEVELOPER, MAINTAINER, ADMIN = ROLES
_ARTIFACT: dict[str, Any] = {"repository_name": "app", "reference": "v1"}


class Door(NamedTuple):
    """An operation in a project. ``public``: everybody may, where the project is; ``given``: to keys and robots too."""

    least: str
    public: bool
    given: bool
    call: Callable[[Scene, Project, Api], Answer]


def by_name(operation: str, body: Any = None, **path: Any) -> Callable[[Scene, Project, Api], Answer]:
    """Call an operation whose path has the project's name."""

    def call(_scene: Scene, project: Project, caller: Api) -> Answer:
        template = OPERATIONS[operation][1]
        field = "project_name_or_id" if "project_name_or_id" in template else "project_name"
        return caller.do(operation, body, None, **{field: project.name}, **path)

    return call


def of_mirror(operation: str) -> Callable[[Scene, Project, Api], Answer]:
    return lambda _scene, project, caller: caller.do(operation, project_name=project.mirror)


def member(operation: str, body: Any = None) -> Callable[[Scene, Project, Api], Answer]:
    """Call an operation on the membership of the limited guest, which stays as it is."""
    return lambda _scene, project, caller: caller.do(
        operation, body, project_name_or_id=project.name, mid=project.members[LIMITED]
    )


def with_victim(
    operation: str, make: Callable[[Scene, Project], dict[str, Any]]
) -> Callable[[Scene, Project, Api], Answer]:
    """Call an operation that takes away what ``make`` made for it; gives its path but for the project."""

    def call(scene: Scene, project: Project, caller: Api) -> Answer:
        path = scene.victim(operation, project, lambda: make(scene, project))
        answer = caller.do(operation, **path)
        if answer.status == 200:
            scene.taken(operation, project)
        return answer

    return call


def a_member(scene: Scene, project: Project) -> dict[str, Any]:
    body = {"role_id": 3, "member_group": {"group_name": scene.fresh()}}
    made = scene.admin.do("createMember", body, project_name_or_id=project.name)
    return {"project_name_or_id": project.name, "mid": made.number}


def a_robot(scene: Scene, project: Project) -> dict[str, Any]:
    return {"robot_id": scene.admin.do("createRobot", robot(scene, project)).json()["id"]}


def robot(scene: Scene, project: Project) -> dict[str, Any]:
    permissions = [{"namespace": project.name, "access": access("repository:pull")}]
    return {"name": scene.fresh(), "level": "project", "permissions": permissions}


def a_label(scene: Scene, project: Project) -> dict[str, Any]:
    body = {"name": scene.fresh(), "scope": "p", "project_id": project.number}
    return {"label_id": scene.admin.do("createLabel", body).number}


def webhook(scene: Scene) -> dict[str, Any]:
    return {"name": scene.fresh(), "targets": [{"address": "http://hooks.test/"}], "event_types": ["PUSH_ARTIFACT"]}


def a_webhook(scene: Scene, project: Project) -> dict[str, Any]:
    made = scene.admin.do("createWebhook", webhook(scene), project_name_or_id=project.name)
    return {"project_name_or_id": project.name, "webhook_policy_id": made.number}


def of_webhook(operation: str, body: Any = None) -> Callable[[Scene, Project, Api], Answer]:
    return lambda _scene, project, caller: caller.do(
        operation, body, project_name_or_id=project.name, webhook_policy_id=project.webhook
    )


def of_delivery(operation: str, *also: str) -> Callable[[Scene, Project, Api], Answer]:
    """Call an operation on a delivery of the project's webhook."""

    def call(_scene: Scene, project: Project, caller: Api) -> Answer:
        path: dict[str, Any] = dict.fromkeys(("execution_id", *also), project.delivery)
        return caller.do(operation, project_name_or_id=project.name, webhook_policy_id=project.webhook, **path)

    return call


def a_repository(scene: Scene, project: Project) -> dict[str, Any]:
    name = scene.fresh()
    scene.push(project, name, "v1", name)
    return {"project_name": project.name, "repository_name": name}


def an_artifact(scene: Scene, project: Project) -> dict[str, Any]:
    return {**a_repository(scene, project), "reference": "v1"}


def an_entry(scene: Scene, project: Project) -> dict[str, Any]:
    """Delete a repository, which is in the bin then."""
    path = a_repository(scene, project)
    assert scene.admin.do("deleteRepository", **path).status == 200
    entries = scene.admin.do("listBin", project_name_or_id=project.name).json()
    return {"project_name_or_id": project.name, "bin_id": entries[0]["id"]}


def a_tag(scene: Scene, project: Project) -> dict[str, Any]:
    name = scene.fresh()
    scene.admin.do("createTag", {"name": name}, project_name=project.name, **_ARTIFACT)
    return {"project_name": project.name, **_ARTIFACT, "tag_name": name}


def a_rule(scene: Scene, project: Project) -> dict[str, Any]:
    made = scene.admin.do("createImmutableTagRule", {"disabled": True}, project_name_or_id=project.name)
    return {"project_name_or_id": project.name, "immutable_rule_id": made.number}


_KEEPS_ALL = {"template": "always"}


def a_retention(scene: Scene, project: Project) -> dict[str, Any]:
    """Find the policy of the project, or make it."""
    known = scene.admin.do("getProject", project_name_or_id=project.name).json()["metadata"].get("retention_id")
    if known is None:
        body = {"rules": [_KEEPS_ALL], "scope": {"ref": project.number}}
        known = scene.admin.do("createRetention", body).number
    return {"id": int(known)}


def a_task(scene: Scene, path: dict[str, Any]) -> int:
    """Wait for what a run did in the repository of the project."""
    for _ in range(300):
        tasks = scene.admin.do("listRetentionTasks", **path).json()
        if tasks:
            return int(tasks[0]["id"])
        time.sleep(0.1)
    raise AssertionError("no worker has done the run")


def of_retention(operation: str, body: Any = None) -> Callable[[Scene, Project, Api], Answer]:
    def call(scene: Scene, project: Project, caller: Api) -> Answer:
        path, template = a_retention(scene, project), OPERATIONS[operation][1]
        if "{eid}" in template:
            runs = scene.admin.do("listRetentionExecutions", **path).json()
            number = runs[0]["id"] if runs else scene.admin.do("runRetention", {"dry_run": True}, **path).number
            path |= {"eid": number}
        if "{tid}" in template:
            path |= {"tid": a_task(scene, path)}
        return caller.do(operation, body, **path)

    return call


def point_back(scene: Scene, project: Project, caller: Api) -> Answer:
    def move() -> str:
        first = scene.push(project, "moved", "v1", "first")
        scene.push(project, "moved", "v1", "second")
        return first.digest

    digest = scene.victim("moved tag", project, move)
    path: dict[str, Any] = {"project_name": project.name, "repository_name": "moved", "tag_name": "v1"}
    return caller.do("pointTagBack", {"digest": digest}, **path)


def an_attached_label(scene: Scene, project: Project) -> dict[str, Any]:
    label = a_label(scene, project)
    answer = scene.admin.do("attachLabel", {"id": label["label_id"]}, project_name=project.name, **_ARTIFACT)
    assert answer.status == 200, answer
    return {"project_name": project.name, **_ARTIFACT, **label}


def labels_query(_scene: Scene, project: Project, caller: Api) -> Answer:
    return caller.do("listLabels", query={"scope": "p", "project_id": project.number})


def robots_query(_scene: Scene, project: Project, caller: Api) -> Answer:
    return caller.do("listRobots", query={"q": f"Level=project,ProjectID={project.number}"})


IN_A_PROJECT = {
    "headProject": Door(LIMITED, True, True,
        lambda _, project, caller: caller.do("headProject", query={"project_name": project.name})),
    "getProject": Door(LIMITED, True, True, by_name("getProject")),
    "getProjectSummary": Door(LIMITED, True, True, by_name("getProjectSummary")),
    "listMetadata": Door(LIMITED, True, True, by_name("listMetadata")),
    "getMetadata": Door(LIMITED, True, True, by_name("getMetadata", meta_name="public")),
    "addMetadata": Door(ADMIN, False, True, by_name("addMetadata", {})),
    "updateMetadata": Door(ADMIN, False, True,
        lambda _, project, caller: caller.do("updateMetadata", {"public": str(project.public).lower()},
                                             project_name_or_id=project.name, meta_name="public")),
    "freeUnfinishedPushes": Door(MAINTAINER, False, True, by_name("freeUnfinishedPushes")),
    "listBin": Door(MAINTAINER, False, False, by_name("listBin")),
    "restoreFromBin": Door(MAINTAINER, False, False, with_victim("restoreFromBin", an_entry)),
    "deleteForGood": Door(MAINTAINER, False, False, with_victim("deleteForGood", an_entry)),
    "emptyBin": Door(MAINTAINER, False, False, by_name("emptyBin")),
    "listProjectAuditLogExts": Door(ADMIN, False, True, by_name("listProjectAuditLogExts")),
    **{
        operation: Door(LIMITED, True, True, by_name(operation))
        for operation in ("listScannerCandidates", "listPreheatPolicies")
    },
    "listImmutableTagRules": Door(MAINTAINER, False, True, by_name("listImmutableTagRules")),
    "createImmutableTagRule": Door(MAINTAINER, False, True, by_name("createImmutableTagRule", {"disabled": True})),
    "updateImmutableTagRule": Door(MAINTAINER, False, True,
        lambda scene, project, caller: caller.do("updateImmutableTagRule", {"disabled": True},
                                                 **scene.victim("rule", project, lambda: a_rule(scene, project)))),
    "deleteImmutableTagRule": Door(MAINTAINER, False, True, with_victim("deleteImmutableTagRule", a_rule)),
    "createRetention": Door(DEVELOPER, False, True,
        lambda _, project, caller: caller.do("createRetention",
                                             {"rules": [_KEEPS_ALL], "scope": {"ref": project.number}})),
    "getRetention": Door(DEVELOPER, False, True, of_retention("getRetention")),
    "listRetentionExecutions": Door(DEVELOPER, False, True, of_retention("listRetentionExecutions")),
    "listRetentionTasks": Door(DEVELOPER, False, True, of_retention("listRetentionTasks")),
    "getRetentionTaskLog": Door(DEVELOPER, False, True, of_retention("getRetentionTaskLog")),
    "updateRetention": Door(DEVELOPER, False, True, of_retention("updateRetention", {"rules": [_KEEPS_ALL]})),
    "runRetention": Door(DEVELOPER, False, True, of_retention("runRetention", {"dry_run": True})),
    "operateRetentionExecution": Door(DEVELOPER, False, True,
        of_retention("operateRetentionExecution", {"action": "stop"})),
    "deleteRetention": Door(DEVELOPER, False, True, with_victim("deleteRetention", a_retention)),
    "getTagHistory": Door(LIMITED, True, True, by_name("getTagHistory", repository_name="app", tag_name="v1")),
    "pointTagBack": Door(DEVELOPER, False, True, point_back),
    "updateProject": Door(ADMIN, False, True, by_name("updateProject", {"description": "changed"})),
    # It holds images, so it stays: 412 says that the door was open.
    "deleteProject": Door(ADMIN, False, False, by_name("deleteProject")),
    "getProjectDeletable": Door(ADMIN, False, False, by_name("getProjectDeletable")),
    "listProjectLogs": Door(ADMIN, False, True, by_name("listProjectLogs")),
    "exportProjectLogs": Door(ADMIN, False, True, by_name("exportProjectLogs")),
    "listMembers": Door(GUEST, False, True, by_name("listMembers")),
    "getMember": Door(GUEST, False, True, member("getMember")),
    "createMember": Door(ADMIN, False, False,
        by_name("createMember", {"role_id": 2, "member_user": {"username": "developer"}})),
    "updateMember": Door(ADMIN, False, False, member("updateMember", {"role_id": ROLES[LIMITED]})),
    "deleteMember": Door(ADMIN, False, False, with_victim("deleteMember", a_member)),
    "listRobots": Door(GUEST, False, True, robots_query),
    "getRobot": Door(GUEST, False, True, lambda _, project, caller: caller.do("getRobot", robot_id=project.robot)),
    "createRobot": Door(ADMIN, False, False,
        lambda scene, project, caller: caller.do("createRobot", robot(scene, project))),
    "updateRobot": Door(ADMIN, False, False,
        lambda _, project, caller: caller.do("updateRobot", {"description": "x"}, robot_id=project.robot)),
    "refreshRobot": Door(ADMIN, False, False,
        lambda _, project, caller: caller.do("refreshRobot", {}, robot_id=project.robot)),
    "deleteRobot": Door(ADMIN, False, False, with_victim("deleteRobot", a_robot)),
    "listRepositories": Door(LIMITED, True, True, by_name("listRepositories")),
    "getRepository": Door(LIMITED, True, True, by_name("getRepository", repository_name="app")),
    "updateRepository": Door(DEVELOPER, False, True,
        by_name("updateRepository", {"description": "x"}, repository_name="app")),
    "deleteRepository": Door(MAINTAINER, False, True, with_victim("deleteRepository", a_repository)),
    "listArtifacts": Door(LIMITED, True, True, by_name("listArtifacts", repository_name="app")),
    "getArtifact": Door(LIMITED, True, True, by_name("getArtifact", **_ARTIFACT)),
    "getAddition": Door(LIMITED, True, True, by_name("getAddition", **_ARTIFACT, addition="build_history")),
    "listAccessories": Door(LIMITED, True, True, by_name("listAccessories", **_ARTIFACT)),
    "deleteArtifact": Door(MAINTAINER, False, True, with_victim("deleteArtifact", an_artifact)),
    "listTags": Door(LIMITED, True, True, by_name("listTags", **_ARTIFACT)),
    # There is such a tag: 409 says that the door was open.
    "createTag": Door(DEVELOPER, False, True, by_name("createTag", {"name": "v1"}, **_ARTIFACT)),
    "deleteTag": Door(MAINTAINER, False, True, with_victim("deleteTag", a_tag)),
    "attachLabel": Door(DEVELOPER, False, True,
        lambda _, project, caller: caller.do("attachLabel", {"id": project.label}, project_name=project.name,
                                             **_ARTIFACT)),
    "detachLabel": Door(DEVELOPER, False, True, with_victim("detachLabel", an_attached_label)),
    "listLabels": Door(GUEST, True, True, labels_query),
    "getLabel": Door(GUEST, True, True, lambda _, project, caller: caller.do("getLabel", label_id=project.label)),
    "createLabel": Door(MAINTAINER, False, True,
        lambda scene, project, caller: caller.do(
            "createLabel", {"name": scene.fresh(), "scope": "p", "project_id": project.number})),
    "updateLabel": Door(MAINTAINER, False, True,
        lambda _, project, caller: caller.do("updateLabel", {"description": "x"}, label_id=project.label)),
    "deleteLabel": Door(MAINTAINER, False, True, with_victim("deleteLabel", a_label)),
    "listWebhooks": Door(MAINTAINER, False, True, by_name("listWebhooks")),
    "listWebhookEvents": Door(MAINTAINER, False, True, by_name("listWebhookEvents")),
    "createWebhook": Door(ADMIN, False, True, lambda scene, project, caller: caller.do(
        "createWebhook", webhook(scene), project_name_or_id=project.name)),
    "getWebhook": Door(MAINTAINER, False, True, of_webhook("getWebhook")),
    "updateWebhook": Door(ADMIN, False, True, of_webhook("updateWebhook", {"description": "x"})),
    "deleteWebhook": Door(ADMIN, False, True, with_victim("deleteWebhook", a_webhook)),
    "listWebhookExecutions": Door(MAINTAINER, False, True, of_webhook("listWebhookExecutions")),
    "listWebhookTasks": Door(MAINTAINER, False, True, of_delivery("listWebhookTasks")),
    "getWebhookLog": Door(MAINTAINER, False, True, of_delivery("getWebhookLog", "task_id")),
    "sendWebhookAgain": Door(ADMIN, False, True, of_delivery("sendWebhookAgain")),
    "getMirrorBudget": Door(LIMITED, True, True, of_mirror("getMirrorBudget")),
    "listMirrorFills": Door(LIMITED, True, True, of_mirror("listMirrorFills")),
    "getMirrorTraffic": Door(LIMITED, True, True, of_mirror("getMirrorTraffic")),
}  # fmt: skip


def expected(door: Door, caller: str, project: Project) -> int | None:
    """Say with what somebody is turned away; None for whoever is let in."""
    if caller == "admin" or (door.public and project.public):
        return None
    if caller == "anonymous":
        return 401
    if caller == "outsider":
        return 403 if project.public else 404
    if caller == "robot that pulls":
        return 403
    if caller in ROLES:
        return None if list(ROLES).index(caller) >= list(ROLES).index(door.least) else 403
    return None if door.given else 403


def samples(least: str, project: Project) -> list[str]:
    """Choose those on both sides of a bound: who is the least that may, and who is just below."""
    if project.public:
        return ["anonymous", "outsider"]
    below = list(ROLES).index(least) - 1
    return ["anonymous", "outsider", *([list(ROLES)[below]] if below >= 0 else []), least]


@pytest.fixture(scope="module")
def scene(house: House) -> Scene:
    return Scene(house)


@pytest.mark.parametrize("operation", IN_A_PROJECT)
def test_in_a_project(scene: Scene, operation: str) -> None:
    door = IN_A_PROJECT[operation]
    wrong = []
    for project in scene.projects:
        for caller in (*samples(door.least, project), "robot with every right", "key of the project admin"):
            answer = door.call(scene, project, project.callers[caller])
            turned_away = answer.status if answer.status in (401, 403, 404) else None
            if turned_away != expected(door, caller, project) or answer.status == 400:
                wrong.append((project.name, caller, expected(door, caller, project), str(answer)))
    assert wrong == []


# -- outside of projects: who is let in, the others are turned away with 401 or 403

EVERYBODY = ("anonymous", "person", "key", "robot", "admin", "key of the admin")
KNOWN = EVERYBODY[1:]
IN_PERSON = ("person", "admin")
ADMINISTRATORS = ("admin",)
_MADE = {"project_name": "", "public": True}


class Gate(NamedTuple):
    """An operation that is not in a project."""

    let_in: tuple[str, ...]
    call: Callable[[Scene, Api], Answer]


def plain(operation: str, body: Any = None, query: Any = None, **path: Any) -> Callable[[Scene, Api], Answer]:
    return lambda _scene, caller: caller.do(operation, body, query, **path)


def on_a_person(operation: str, body: Any = None) -> Callable[[Scene, Api], Answer]:
    return lambda scene, caller: caller.do(operation, body, user_id=scene.people["outsider"])


def delete_person(scene: Scene, caller: Api) -> Answer:
    nobody = scene.projects[0]
    number = scene.victim("deleteUser", nobody, lambda: scene.house.add_person(scene.fresh()))
    answer = caller.do("deleteUser", user_id=number)
    if answer.status == 200:
        scene.taken("deleteUser", nobody)
    return answer


_KEY = {"duration": 1, "permissions": [{"namespace": "*", "access": access("repository:pull")}]}
_UPSTREAM = {"id": 1}


def plan(operation: str) -> Callable[[Scene, Api], Answer]:
    """Plan an image of a mirror for tomorrow."""

    def call(scene: Scene, caller: Api) -> Answer:
        mirror = next(project.mirror for project in scene.projects if project.public)
        due_at = datetime.fromtimestamp(time.time() + 86400, UTC).isoformat()
        text = f"{scene.house.host}/{mirror}/library/redis:7"
        return caller.do(
            operation, {"title": scene.fresh(), "text": text, "platforms": ["linux/amd64"], "due_at": due_at}
        )

    return call


OUTSIDE = {
    "ping": Gate(EVERYBODY, plain("ping")),
    "getHealth": Gate(EVERYBODY, plain("getHealth")),
    "getSystemInfo": Gate(EVERYBODY, plain("getSystemInfo")),
    "getDocumentJson": Gate(EVERYBODY, plain("getDocumentJson")),
    "getDocumentYaml": Gate(EVERYBODY, plain("getDocumentYaml")),
    "listDeletedProjects": Gate(IN_PERSON, plain("listDeletedProjects")),
    "listProjects": Gate(EVERYBODY, plain("listProjects")),
    "listAllRepositories": Gate(EVERYBODY, plain("listAllRepositories")),
    "search": Gate(EVERYBODY, plain("search", query={"q": "app"})),
    "getRetentionMetadata": Gate(KNOWN, plain("getRetentionMetadata")),
    "listPermissions": Gate(KNOWN, plain("listPermissions")),
    "getStatistics": Gate(KNOWN, plain("getStatistics")),
    "getCurrentUser": Gate(KNOWN, plain("getCurrentUser")),
    "getCurrentPermissions": Gate(KNOWN, plain("getCurrentPermissions")),
    "createProject": Gate(IN_PERSON,
        lambda scene, caller: caller.do("createProject", {**_MADE, "project_name": scene.fresh()})),
    "searchUsers": Gate(IN_PERSON, plain("searchUsers", query={"username": "guest"})),
    "listAccessKeys": Gate(IN_PERSON, plain("listAccessKeys")),
    "createAccessKey": Gate(IN_PERSON,
        lambda scene, caller: caller.do("createAccessKey", {"name": scene.fresh(), **_KEY})),
    "listSessions": Gate(IN_PERSON, plain("listSessions")),
    # Of others, that is; 403 for oneself without the old password.
    "setPassword": Gate(ADMINISTRATORS, on_a_person("setPassword", {"new_password": PASSWORD})),
    "getUser": Gate(("person", "key", "admin"), on_a_person("getUser")),
    "createUser": Gate(ADMINISTRATORS,
        lambda scene, caller: caller.do("createUser", {"username": scene.fresh(), "password": PASSWORD})),
    "listUsers": Gate(ADMINISTRATORS, plain("listUsers")),
    "setSysadmin": Gate(ADMINISTRATORS, on_a_person("setSysadmin", {"sysadmin_flag": False})),
    "setDisabled": Gate(ADMINISTRATORS, on_a_person("setDisabled", {"disabled": False})),
    "updateUser": Gate(IN_PERSON, on_a_person("updateUser", {"realname": "x"})),
    "deleteUser": Gate(ADMINISTRATORS, delete_person),
    "listQuotas": Gate(ADMINISTRATORS, plain("listQuotas")),
    "getQuota": Gate(ADMINISTRATORS, lambda scene, caller: caller.do("getQuota", id=scene.projects[0].number)),
    "updateQuota": Gate(ADMINISTRATORS,
        lambda scene, caller: caller.do("updateQuota", {"hard": {"storage": -1}}, id=scene.projects[0].number)),
    "listAuditLogs": Gate(ADMINISTRATORS, plain("listAuditLogs")),
    "listAuditLogExts": Gate(ADMINISTRATORS, plain("listAuditLogExts")),
    "getConfigurations": Gate(ADMINISTRATORS, plain("getConfigurations")),
    **{
        operation: Gate(KNOWN, plain(operation))
        for operation in ("listUserGroups", "listPreheatInstances", "listReplicationPolicies",
                          "listReplicationExecutions", "listScanners", "listGarbageCollections", "listAuditPurges",
                          "listSchedules", "listAuditLogEventTypes")
    },
    "exportAuditLogs": Gate(ADMINISTRATORS, plain("exportAuditLogs")),
    "getVolumes": Gate(ADMINISTRATORS, plain("getVolumes")),
    "listRegistries": Gate(ADMINISTRATORS, plain("listRegistries")),
    "listPlans": Gate(IN_PERSON, plain("listPlans")),
    "previewPlan": Gate(ADMINISTRATORS, plan("previewPlan")),
    "createPlan": Gate(ADMINISTRATORS, plan("createPlan")),
}  # fmt: skip
# Operations whose way in is seen by what is not there: 404 says that the door was open.
MISSING = {
    "restoreProject": Gate(IN_PERSON, plain("restoreProject", deleted_project_id=999999)),
    "deleteProjectForGood": Gate(IN_PERSON, plain("deleteProjectForGood", deleted_project_id=999999)),
    "deleteAccessKey": Gate(IN_PERSON, plain("deleteAccessKey", key_id=999999)),
    "getPlan": Gate(IN_PERSON, plain("getPlan", plan_id=999999)),
    "deletePlan": Gate(IN_PERSON, plain("deletePlan", plan_id=999999)),
    "deleteSession": Gate(IN_PERSON, plain("deleteSession", session_id="0" * 64)),
    "getRegistry": Gate(ADMINISTRATORS, plain("getRegistry", **_UPSTREAM)),
}
# Operations that are in a project or of the system, of the system.
OF_THE_SYSTEM = {
    "listLabels": Gate(EVERYBODY, plain("listLabels")),
    "getLabel": Gate(EVERYBODY, lambda scene, caller: caller.do("getLabel", label_id=scene.system_label)),
    "createLabel": Gate(ADMINISTRATORS,
        lambda scene, caller: caller.do("createLabel", {"name": scene.fresh(), "scope": "g"})),
    "updateLabel": Gate(ADMINISTRATORS,
        lambda scene, caller: caller.do("updateLabel", {"description": "x"}, label_id=scene.system_label)),
    "listRobots": Gate(ADMINISTRATORS, plain("listRobots")),
    "createRobot": Gate(ADMINISTRATORS,
        lambda scene, caller: caller.do("createRobot", {
            "name": scene.fresh(), "level": "system",
            "permissions": [{"namespace": "*", "access": access("repository:pull")}]})),
}  # fmt: skip


@pytest.fixture(scope="module")
def outside(scene: Scene) -> dict[str, Api]:
    """Those who ask for what is in no project."""
    callers = scene.projects[0].callers
    host = scene.house.host
    keys = {}
    for name, owner in (("key", callers["outsider"]), ("key of the admin", scene.admin)):
        made = owner.do("createAccessKey", {"name": scene.fresh(), **_KEY}).json()
        keys[name] = Api(host, owner.username, made["secret"])
    return {
        "anonymous": callers["anonymous"],
        "person": callers["outsider"],
        "robot": callers["robot with every right"],
        "admin": scene.admin,
        **keys,
    }


@pytest.mark.parametrize("operation", OUTSIDE)
def test_outside_of_projects(scene: Scene, outside: dict[str, Api], operation: str) -> None:
    judge(scene, outside, OUTSIDE[operation], (200, 201))


@pytest.mark.parametrize("operation", MISSING)
def test_what_is_missing(scene: Scene, outside: dict[str, Api], operation: str) -> None:
    judge(scene, outside, MISSING[operation], (404,))


@pytest.mark.parametrize("operation", OF_THE_SYSTEM)
def test_of_the_system(scene: Scene, outside: dict[str, Api], operation: str) -> None:
    judge(scene, outside, OF_THE_SYSTEM[operation], (200, 201))


def judge(scene: Scene, callers: dict[str, Api], gate: Gate, good: tuple[int, ...]) -> None:
    wrong = []
    for name, caller in callers.items():
        answer = gate.call(scene, caller)
        refused = (401,) if name == "anonymous" else (403,)
        if answer.status not in (good if name in gate.let_in else refused):
            wrong.append((name, str(answer)))
    assert wrong == []


def test_every_operation_is_in_the_table() -> None:
    assert {*IN_A_PROJECT, *OUTSIDE, *MISSING} == set(OPERATIONS)


def test_who_may_not_see_a_project_is_told_what_is_told_of_none(scene: Scene) -> None:
    closed = scene.projects[1]
    for caller in ("outsider", "anonymous"):
        for there, missing in (
            (by_name("getProject"), "nowhere"),
            (by_name("listMembers"), "nowhere"),
            (by_name("deleteRepository", repository_name="app"), "nowhere"),
        ):
            one = there(scene, closed, closed.callers[caller])
            other = there(scene, Project(missing, missing, False, 0), closed.callers[caller])
            assert (one.status, one.message.replace(closed.name, "X")) == (
                other.status,
                other.message.replace(missing, "X"),
            )
        for operation, number, field in (
            ("getRobot", closed.robot, "robot_id"),
            ("getLabel", closed.label, "label_id"),
        ):
            one = closed.callers[caller].do(operation, None, None, **{field: number})
            other = closed.callers[caller].do(operation, None, None, **{field: 10**9})
            assert (one.status, one.message) == (other.status, other.message), operation


def test_a_robot_that_only_pulls_may_know_its_own_project(scene: Scene) -> None:
    """It is told which right it lacks, and not that its project is not there."""
    closed = scene.projects[1]
    puller = closed.callers["robot that pulls"]
    for call in (by_name("getProject"), by_name("listArtifacts", repository_name="app"), by_name("listMembers")):
        answer = call(scene, closed, puller)
        assert answer.status == 403
        assert f"in {closed.name}: it needs the right" in answer.message
    nowhere = Project("nowhere", "nowhere", False, 0)
    assert by_name("getProject")(scene, nowhere, puller).status == 404
