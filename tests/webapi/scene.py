"""Everybody who may ask, in two projects that host images and two pull-through caches, one of each public."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.api.client import Registry
from tests.images import Image, single
from tests.webapi.client import Api
from tests.webapi.house import ADMIN, PASSWORD, House

ROLES = {"limited guest": 5, "guest": 3, "developer": 2, "maintainer": 4, "project admin": 1}
# What robot accounts and access keys can be given at all.
GRANTABLE = (
    "repository:pull repository:push repository:list repository:update repository:delete artifact:read artifact:delete "
    "tag:list tag:create tag:delete project:read project:update quota:read member:list label:list label:create "
    "label:update label:delete artifact-label:create artifact-label:delete robot:list log:list immutable-tag:list "
    "immutable-tag:create immutable-tag:update immutable-tag:delete tag-retention:read tag-retention:create "
    "tag-retention:update tag-retention:delete "
    "notification-policy:list notification-policy:read notification-policy:create notification-policy:update "
    "notification-policy:delete"
)
# From least to most; the last three are cut down to what they were given.
CALLERS = (
    "anonymous", "outsider", *ROLES, "admin",
    "robot with every right", "robot that pulls", "key of the project admin",
)  # fmt: skip


@dataclass
class Project:
    """A project of the scene; numbers of what is in it."""

    name: str
    mirror: str
    public: bool
    number: int
    callers: dict[str, Api] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)
    robot: int = 0
    label: int = 0
    webhook: int = 0
    delivery: int = 0


def access(rights: str) -> list[dict[str, str]]:
    """Spell rights as bodies have them."""
    return [dict(zip(("resource", "action"), right.split(":"), strict=True)) for right in rights.split()]


class Scene:
    """Made once; whatever a test takes away was made for it (`victim`)."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.admin = Api(house.host, ADMIN, PASSWORD)
        self._numbers = itertools.count(1)
        self._victims: dict[tuple[str, str], Any] = {}
        self.people = {name: house.add_person(name.replace(" ", "-")) for name in (*ROLES, "outsider")}
        self.projects = [self._project("open", public=True), self._project("closed", public=False)]
        self.system_label = self.admin.do("createLabel", {"name": "everywhere", "scope": "g"}).number

    def fresh(self) -> str:
        """Make up a name."""
        return f"made-{next(self._numbers)}"

    def victim(self, operation: str, project: Project, make: Callable[[], Any]) -> Any:
        """Give something that may be taken away: what is left from the last time, or a new one."""
        key = (operation, project.name)
        if key not in self._victims:
            self._victims[key] = make()
        return self._victims[key]

    def taken(self, operation: str, project: Project) -> None:
        """Note that the victim is gone."""
        self._victims.pop((operation, project.name), None)

    def push(self, project: Project, repository: str, tag: str, seed: str) -> Image:
        """Push a small image."""
        image = single(seed, sizes=(500,))
        Registry(self.house.host, ADMIN, PASSWORD).push_image(f"{project.name}/{repository}", tag, image)
        return image

    def _project(self, name: str, *, public: bool) -> Project:
        registry = self.admin.do("listRegistries").json()[0]["id"]
        number = self.admin.do("createProject", {"project_name": name, "public": public}).number
        project = Project(name, f"{name}-cache", public, number)
        made = {"project_name": project.mirror, "public": public, "registry_id": registry}
        assert self.admin.do("createProject", made).status == 201
        for role, role_id in ROLES.items():
            member = {"role_id": role_id, "member_user": {"user_id": self.people[role]}}
            for one in (name, project.mirror):
                answer = self.admin.do("createMember", member, project_name_or_id=one)
                assert answer.status == 201, answer
                project.members.setdefault(role, answer.number)
        # Nobody is there, so the delivery stays.
        hook = {"name": "good", "targets": [{"address": "http://hooks.test/"}], "event_types": ["PUSH_ARTIFACT"]}
        project.webhook = self.admin.do("createWebhook", hook, project_name_or_id=name).number
        self.push(project, "app", "v1", "scene")
        path: dict[str, Any] = {"project_name_or_id": name, "webhook_policy_id": project.webhook}
        project.delivery = self.admin.do("listWebhookExecutions", **path).json()[0]["id"]
        project.label = self.admin.do("createLabel", {"name": "good", "scope": "p", "project_id": number}).number
        self._invite(project)
        return project

    def _invite(self, project: Project) -> None:
        host = self.house.host
        project.callers = {"anonymous": Api(host), "admin": self.admin}
        for name in (*ROLES, "outsider"):
            project.callers[name] = Api(host, name.replace(" ", "-"), PASSWORD)
        for name, rights in (("robot with every right", GRANTABLE), ("robot that pulls", "repository:pull")):
            # Of the system, so that one account has rights in the project and in its cache.
            permissions = [{"namespace": one, "access": access(rights)} for one in (project.name, project.mirror)]
            body = {"name": self.fresh(), "level": "system", "permissions": permissions}
            made = self.admin.do("createRobot", body).json()
            project.callers[name] = Api(host, made["name"], made["secret"])
        everything = [{"namespace": "*", "access": access(GRANTABLE)}]
        key = {"name": self.fresh(), "duration": 1, "permissions": everything}
        made = project.callers["project admin"].do("createAccessKey", key).json()
        project.callers["key of the project admin"] = Api(host, "project-admin", made["secret"])
        own = [{"namespace": project.name, "access": access("repository:pull")}]
        project.robot = self.admin.do("createRobot", {"name": "own", "level": "project", "permissions": own}).json()[
            "id"
        ]
