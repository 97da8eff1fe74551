"""Who may what on the pages: every method of every page, by everybody who could ask, in public and private projects.

The table is written down here and not taken from the service. Each page that somebody may open is read as well: it has
a control for everything they may do, and none for what they would be refused. A form or page is asked for by those on
both sides of its bound; `tests/contract/test_who_may_what.py` asks the rights of all callers in process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any, NamedTuple

import pytest
from tornado.web import RequestHandler

from app.web.pages import routes as table
from tests.api.client import Registry, basic
from tests.images import single
from tests.web.http import Answer, Person
from tests.webapi.house import ADMIN, House
from tests.webapi.house import PASSWORD as ADMINS_PASSWORD
from tests.webapi.scene import ROLES, Project, Scene

LIMITED, GUEST, DEVELOPER, MAINTAINER, PROJECT_ADMIN = ROLES
# A robot account and an access key open no page: they are nobody in particular here.
ROBOT, KEY = "robot with every right", "key of the project admin"
CALLERS = ("anonymous", ROBOT, KEY, "outsider", *ROLES, "admin")
PEOPLE = ("outsider", *ROLES, "admin")
NOBODY = ("anonymous", ROBOT, KEY)

IMAGE = single("scene", sizes=(500,))  # what `Scene` pushes
NOT_THERE = "sha256:" + "0" * 64
ARTIFACT = table._REPOSITORY + table._DIGEST
_OF_CACHES = ("/cache", "/cache/fills")


class Door(NamedTuple):
    """A method of a page in a project: the least role that may, and who else may where the project is public.

    ``public``: everybody, or with ``people`` everybody who is logged in. What is sent with a form changes nothing that
    another question needs.
    """

    least: str
    public: bool = False
    people: bool = False
    fields: Mapping[str, str] = {}


IN_A_PROJECT: Mapping[tuple[str, str], Door] = {
    ("get", ""): Door(LIMITED, public=True),
    ("get", "/cache"): Door(LIMITED, public=True),
    ("get", "/cache/fills"): Door(LIMITED, public=True),
    ("get", "/configuration"): Door(PROJECT_ADMIN),
    ("post", "/configuration"): Door(PROJECT_ADMIN, fields={"access": "ACCESS", "description": "x"}),
    ("post", "/delete"): Door(PROJECT_ADMIN, fields={"name": "another"}),
    ("get", "/storage"): Door(LIMITED),
    ("post", "/free-unfinished"): Door(MAINTAINER),
    ("get", "/bin"): Door(MAINTAINER, people=True),
    ("post", "/bin/restore"): Door(MAINTAINER, people=True, fields={"entry": "999999"}),
    ("post", "/bin/delete"): Door(MAINTAINER, people=True, fields={"entry": "999999"}),
    ("post", "/bin/empty"): Door(MAINTAINER, people=True),
    ("get", "/members"): Door(GUEST),
    ("post", "/members/add"): Door(PROJECT_ADMIN, fields={"name": "nobody-known", "role": "guest"}),
    ("post", "/members/role"): Door(PROJECT_ADMIN, fields={"member": "MEMBER", "role": LIMITED}),
    ("post", "/members/remove"): Door(PROJECT_ADMIN, fields={"member": "999999"}),
    ("post", "/leave"): Door(LIMITED, public=True, people=True),
    ("get", "/robots"): Door(GUEST),
    ("get", "/robots/new"): Door(PROJECT_ADMIN),
    ("post", "/robots/new"): Door(PROJECT_ADMIN),
    ("get", f"/robots/{table._ROBOT}"): Door(GUEST),
    ("post", f"/robots/{table._ROBOT}"): Door(PROJECT_ADMIN),
    ("post", "/robots/refresh"): Door(PROJECT_ADMIN, fields={"robot": "ROBOT"}),
    ("post", "/robots/switch"): Door(PROJECT_ADMIN, fields={"robot": "ROBOT", "disabled": "no"}),
    ("post", "/robots/prolong"): Door(PROJECT_ADMIN, fields={"robot": "ROBOT", "days": "5"}),
    ("post", "/robots/delete"): Door(PROJECT_ADMIN, fields={"robot": "999999"}),
    ("get", "/labels"): Door(MAINTAINER),
    ("post", "/labels"): Door(MAINTAINER),
    ("post", "/labels/delete"): Door(MAINTAINER, fields={"label": "999999"}),
    ("get", "/policy"): Door(DEVELOPER),
    # No tag has such a name.
    ("post", "/policy/immutability/add"): Door(MAINTAINER, fields={"tags": "/"}),
    ("post", "/policy/immutability/switch"): Door(MAINTAINER, fields={"rule": "999999"}),
    ("post", "/policy/immutability/delete"): Door(MAINTAINER, fields={"rule": "999999"}),
    ("post", "/policy/retention/add"): Door(DEVELOPER, fields={"template": "none"}),
    ("post", "/policy/retention/remove"): Door(DEVELOPER, fields={"rule": "999999"}),
    ("post", "/policy/retention/schedule"): Door(DEVELOPER, fields={"schedule": "none"}),
    # A run waits for a worker, so another one cannot begin.
    ("post", "/policy/retention/run"): Door(DEVELOPER, fields={"dry_run": "yes"}),
    ("post", "/policy/retention/stop"): Door(DEVELOPER, fields={"run": "999999"}),
    ("get", f"/policy/runs/{table._RUN}"): Door(DEVELOPER),
    ("get", "/webhooks"): Door(MAINTAINER),
    ("get", "/webhooks/new"): Door(PROJECT_ADMIN),
    ("post", "/webhooks/new"): Door(PROJECT_ADMIN),
    ("get", f"/webhooks/{table._WEBHOOK}"): Door(MAINTAINER),
    ("post", f"/webhooks/{table._WEBHOOK}"): Door(PROJECT_ADMIN),
    ("post", "/webhooks/switch"): Door(PROJECT_ADMIN, fields={"webhook": "WEBHOOK", "disabled": "no"}),
    ("post", "/webhooks/delete"): Door(PROJECT_ADMIN, fields={"webhook": "999999"}),
    ("post", "/webhooks/send"): Door(PROJECT_ADMIN, fields={"webhook": "WEBHOOK", "delivery": "999999"}),
    ("get", "/logs"): Door(PROJECT_ADMIN),
    ("get", "/repositories"): Door(LIMITED, public=True),
    ("get", f"/repositories/{table._REPOSITORY}"): Door(LIMITED, public=True),
    ("get", f"/repositories/{ARTIFACT}"): Door(LIMITED, public=True),
    ("get", f"/repositories/{table._REPOSITORY}{table._TAG}"): Door(LIMITED, public=True),
    ("get", f"/compare/{table._REPOSITORY}"): Door(LIMITED, public=True),
    ("get", f"/tags/{table._REPOSITORY}{table._TAG}"): Door(LIMITED, public=True),
    ("post", f"/point-tag/{table._REPOSITORY}{table._TAG}"): Door(DEVELOPER, fields={"digest": NOT_THERE}),
    # The project is no cache, so nothing is pinned in it.
    ("post", f"/pin-tag/{table._REPOSITORY}"): Door(MAINTAINER, fields={"tag": "/"}),
    ("post", f"/unpin-tag/{table._REPOSITORY}"): Door(MAINTAINER, fields={"rule": "999999"}),
    ("post", f"/use-newer/{table._REPOSITORY}"): Door(MAINTAINER, fields={"tag": "v1"}),
    ("post", f"/describe-repository/{table._REPOSITORY}"): Door(DEVELOPER, fields={"description": "x"}),
    ("post", f"/delete-repository/{table._REPOSITORY}"): Door(MAINTAINER, fields={"name": "another"}),
    ("post", f"/delete-artifact/{ARTIFACT}"): Door(MAINTAINER),
    ("post", f"/add-tag/{ARTIFACT}"): Door(DEVELOPER, fields={"tag": "v1"}),
    ("post", f"/remove-tag/{ARTIFACT}"): Door(MAINTAINER, fields={"tag": "no-such-tag"}),
    ("post", f"/remove-tags/{table._REPOSITORY}"): Door(MAINTAINER),
    ("post", f"/retag/{table._REPOSITORY}"): Door(DEVELOPER),
    ("post", f"/attach-label/{ARTIFACT}"): Door(DEVELOPER, fields={"label": "999999"}),
    ("post", f"/detach-label/{ARTIFACT}"): Door(DEVELOPER, fields={"label": "999999"}),
}

OUTSIDE: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("get", "/"): CALLERS,
    ("post", "/"): CALLERS,
    ("get", "/addresses"): CALLERS,
    ("post", "/addresses"): CALLERS,
    ("post", "/language"): CALLERS,
    **{("get", f"/help{chapter}"): CALLERS for chapter in
       ("", "/login", "/cache", "/projects", "/robots", "/pushing", "/clusters", "/plans", "/trouble", "/alerts")},
    ("get", "/mirror"): CALLERS,
    ("get", "/help/personal-data"): CALLERS,
    ("get", "/search"): CALLERS,
    ("get", "/projects"): CALLERS,
    ("get", "/new-project"): PEOPLE,
    ("post", "/new-project"): PEOPLE,
    ("get", "/secret"): PEOPLE,
    ("get", "/waiting"): CALLERS,
    ("get", "/plans"): PEOPLE,
    ("get", "/plans/new"): ("admin",),
    ("post", "/plans/new"): ("admin",),
    ("post", "/plans/delete"): PEOPLE,
    ("get", f"/plans/{table._PLAN}"): PEOPLE,
    ("get", f"/plans/{table._PLAN}/fills"): PEOPLE,
    ("get", "/mine"): PEOPLE,
    ("get", "/mine/sessions"): PEOPLE,
    ("post", "/mine/sessions/revoke"): PEOPLE,
    ("get", "/mine/deleted"): PEOPLE,
    ("post", "/mine/deleted/restore"): PEOPLE,
    ("post", "/mine/deleted/delete"): PEOPLE,
    ("get", "/mine/keys"): PEOPLE,
    ("post", "/mine/keys"): PEOPLE,
    ("post", "/mine/keys/delete"): PEOPLE,
    ("get", "/administration"): ("admin",),
    ("get", "/administration/budgets"): ("admin",),
    ("get", "/administration/requests"): ("admin",),
    ("get", "/administration/users"): ("admin",),
    ("post", "/administration/users/change"): ("admin",),
    ("get", "/administration/projects"): ("admin",),
    ("post", "/administration/projects"): ("admin",),
    ("get", "/administration/unattended"): ("admin",),
    ("post", "/administration/unattended"): ("admin",),
    ("get", "/administration/upstreams"): ("admin",),
    ("get", "/administration/upstreams/fills"): ("admin",),
    ("get", "/administration/robots"): ("admin",),
    ("get", "/administration/robots/new"): ("admin",),
    ("post", "/administration/robots/new"): ("admin",),
    ("get", f"/administration/robots/{table._ROBOT}"): ("admin",),
    ("post", f"/administration/robots/{table._ROBOT}"): ("admin",),
    ("post", "/administration/robots/refresh"): ("admin",),
    ("post", "/administration/robots/switch"): ("admin",),
    ("post", "/administration/robots/prolong"): ("admin",),
    ("post", "/administration/robots/delete"): ("admin",),
    ("get", "/administration/audit"): ("admin",),
    ("get", r"/administration/audit\.csv"): ("admin",),
}  # fmt: skip
# A script asks for the first by its form, people are sent to the front page. Redirects lead to the second. Of the third
# there is one form for each entry of a list that is empty here.
NO_LINK_TO = {
    ("get", "/addresses"), ("get", "/secret"), ("post", "/administration/unattended"),
    ("post", "/mine/deleted/restore"), ("post", "/mine/deleted/delete"),
}  # fmt: skip
# Nobody here has a plan, and only those who may make one see their list in the menu.
# A repository of a cache has them, once an image is here (tests/web/test_plans.py).
OF_PINS = {("post", f"{table._PROJECT}/{act}/{table._REPOSITORY}") for act in ("pin-tag", "unpin-tag", "use-newer")}
OF_A_PLAN = {("get", f"/plans/{table._PLAN}"), ("get", f"/plans/{table._PLAN}/fills"), ("post", "/plans/delete")}
# A robot that is not there is no form's error but a page's: the door was open.
OPEN_BUT_NOTHING_THERE = {400, 404}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    house = House(tmp_path_factory.mktemp("doors"))
    scene = Scene(house)
    for project in scene.projects:
        label = scene.admin.do("createLabel", {"name": "on it", "scope": "p", "project_id": project.number}).number
        artifact: dict[str, Any] = {"project_name": project.name, "repository_name": "app", "reference": "v1"}
        assert scene.admin.do("attachLabel", {"id": label}, **artifact).status == 200
        # The tag has a history.
        for seed in ("another", "scene"):
            scene.push(project, "app", "v1", seed)
        rule = {"tag_selectors": [{"pattern": "none-*"}]}
        assert scene.admin.do("createImmutableTagRule", rule, project_name_or_id=project.name).status == 201
        body = {"rules": [{"template": "always"}], "scope": {"level": "project", "ref": project.number}}
        policy = scene.admin.do("createRetention", body).number
        runs[project.name] = scene.admin.do("runRetention", {"dry_run": True}, id=policy).number
    yield scene
    faults = house.service.faults()
    house.close()
    assert faults == []


@pytest.fixture(scope="module")
def browsers(scene: Scene) -> dict[str, Person]:
    """Everybody's browser; people have another one and an access key."""
    found = {"anonymous": Person(scene.house.host)}
    for name in (ROBOT, KEY):
        found[name] = Person(scene.house.host)
        known = scene.projects[0].callers[name]
        found[name].headers = {"Authorization": basic(known.username or "", known.secret)}
    for name in PEOPLE:
        username = ADMIN if name == "admin" else name.replace(" ", "-")
        Person(scene.house.host).log_in(username, ADMINS_PASSWORD)
        found[name] = Person(scene.house.host).log_in(username, ADMINS_PASSWORD)
        form = {"name": "laptop", "days": "1", "scope": "*", "right": "repository:pull"}
        assert found[name].post("/mine/keys", form).status == 303
    for person in found.values():
        person.get("/help")
    return found


# The number of a run of the retention rules of each project.
runs: dict[str, int] = {}


def in_a_project(door: tuple[str, str], project: Project) -> str:
    """Spell a door's path in a project, or in its cache where only caches have such a page."""
    digest = NOT_THERE if door[1].startswith("/delete-artifact") else IMAGE.digest
    pattern = door[1].replace(table._DIGEST, f"@{digest}").replace(table._TAG, ":v1")
    name = project.mirror if pattern in _OF_CACHES else project.name
    pattern = pattern.replace(table._RUN, str(runs[project.name])).replace(table._WEBHOOK, str(project.webhook))
    return f"/projects/{name}" + pattern.replace(table._REPOSITORY, "app").replace(table._ROBOT, str(project.robot))


def outside_of_projects(door: tuple[str, str], scene: Scene) -> str:
    """Spell the path of a door that is in no project."""
    robot = scene.admin.do("listRobots").json()[0]["id"] if table._ROBOT in door[1] else 0
    return door[1].replace(table._ROBOT, str(robot)).replace(table._PLAN, "999999").replace("\\", "")


def knock(scene: Scene, person: Person, door: tuple[str, str], project: Project) -> Answer:
    """Ask as somebody; whoever leaves the project is let in again."""
    path = in_a_project(door, project)
    if door[0] == "get":
        return person.get(path)
    values = {
        "MEMBER": str(project.members[LIMITED]),
        "ROBOT": str(project.robot),
        "WEBHOOK": str(project.webhook),
        "ACCESS": "public" if project.public else "private",
    }
    return person.post(path, {name: values.get(value, value) for name, value in IN_A_PROJECT[door].fields.items()})


def turned_away(answer: Answer) -> str | int | None:
    """Say how somebody was turned away; None for whoever was let in."""
    if answer.status == 303 and answer.location.startswith("/login"):
        return "log in"
    return answer.status if answer.status in (401, 403, 404) else None


def expected(door: Door, caller: str, project: Project) -> str | int | None:
    """Say how somebody is to be turned away."""
    if caller in NOBODY and (door.people or not (door.public and project.public)):
        return "log in"
    if caller == "admin" or (door.public and project.public):
        return None
    if caller == "outsider":
        return 403 if project.public else 404
    return None if list(ROLES).index(caller) >= list(ROLES).index(door.least) else 403


def samples(least: str, project: Project) -> list[str]:
    """Choose those on both sides of a bound: who is the least that may, and who is just below."""
    if project.public:
        return ["anonymous", ROBOT, "outsider"]
    below = list(ROLES).index(least) - 1
    return ["anonymous", KEY, "outsider", *([list(ROLES)[below]] if below >= 0 else []), least]


@pytest.mark.parametrize("door", IN_A_PROJECT, ids=" ".join)
def test_in_a_project(scene: Scene, browsers: Mapping[str, Person], door: tuple[str, str]) -> None:
    wrong = []
    for project in scene.projects:
        for caller in samples(IN_A_PROJECT[door].least, project):
            answer = knock(scene, browsers[caller], door, project)
            if turned_away(answer) != expected(IN_A_PROJECT[door], caller, project):
                wrong.append((project.name, caller, answer.status, answer.location, answer.text[-900:]))
            if door[1] == "/leave" and caller in ROLES:
                member = {"role_id": ROLES[caller], "member_user": {"user_id": scene.people[caller]}}
                made = scene.admin.do("createMember", member, project_name_or_id=project.name)
                project.members[caller] = made.number
    assert wrong == []


@pytest.mark.parametrize("door", OUTSIDE, ids=" ".join)
def test_outside_of_projects(scene: Scene, browsers: Mapping[str, Person], door: tuple[str, str]) -> None:
    wrong, path = [], outside_of_projects(door, scene)
    for caller in CALLERS:
        person = browsers[caller]
        answer = person.get(path) if door[0] == "get" else person.post(path)
        refused = "log in" if caller in NOBODY else 403
        said = None if answer.status in OPEN_BUT_NOTHING_THERE else turned_away(answer)
        if said != (None if caller in OUTSIDE[door] else refused):
            wrong.append((caller, answer.status, answer.location))
    assert wrong == []


def test_every_method_of_every_page_is_in_the_table() -> None:
    methods = {
        (method, pattern)
        for pattern, handler in table._PAGES
        for method in ("get", "post")
        if getattr(handler, method) is not getattr(RequestHandler, method)
    }
    assert methods == {*OUTSIDE, *((method, table._PROJECT + rest) for method, rest in IN_A_PROJECT)}


class Controls(HTMLParser):
    """What a page leads to: links, forms, and what its scripts ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        for method, address in (
            ("get", given.get("href", "") if tag == "a" else ""),
            ("get", given.get("action", "") if tag == "form" and given.get("method", "get") == "get" else ""),
            ("get", given.get("data-refresh", "")),
            ("post", given.get("data-addresses", "")),
            ("post", given.get("action", "") if given.get("method") == "post" else ""),
            ("post", given.get("formaction", "")),
        ):
            if address.startswith("/"):
                self.found.add((method, re.split("[?#]", address)[0]))


def controls(person: Person, paths: Iterator[str]) -> set[tuple[str, str]]:
    """Read all pages of these that somebody may open."""
    found: set[tuple[str, str]] = set()
    for path in paths:
        answer = person.get(path)
        if answer.status == 200 and "text/html" in answer.headers["Content-Type"]:
            found |= Controls(answer.text).found
    return found


def doors(found: set[tuple[str, str]], name: str, mirror: str) -> set[tuple[str, str]]:
    """Say which doors of a project, of its cache and outside of projects controls lead to."""
    known = set()
    for method, path in found:
        for of, pattern in OUTSIDE:
            if of == method and re.fullmatch(pattern, path):
                known.add((method, pattern))
        for of, rest in IN_A_PROJECT:
            project = mirror if rest in _OF_CACHES else name
            if of == method and re.fullmatch(f"/projects/{project}{rest}", path):
                known.add((method, table._PROJECT + rest))
    return known


@pytest.mark.parametrize(
    ("caller", "place"),
    # In the short form, half of them see the pages of the public project, the others those of the private one.
    [
        pytest.param(caller, place, id=f"{name}-{caller}", marks=[pytest.mark.long] * (number % 2 != place))
        for place, name in enumerate(("public", "private"))
        for number, caller in enumerate(CALLERS)
    ],
)
def test_there_is_a_control_for_what_one_may_do_and_for_nothing_else(
    scene: Scene, browsers: Mapping[str, Person], caller: str, place: int
) -> None:
    project = scene.projects[place]
    # A blob that no manifest names is an unfinished push.
    Registry(scene.house.host, ADMIN, ADMINS_PASSWORD).push_blob(f"{project.name}/half", caller.encode())
    # Something is in the bin.
    scene.push(project, "gone", "v1", "gone")
    gone = {"project_name": project.name, "repository_name": "gone"}
    assert scene.admin.do("deleteRepository", None, None, **gone).status == 200
    inside = [in_a_project(door, project) for door in IN_A_PROJECT if door[0] == "get"]
    inside += [f"/projects/{project.mirror}", f"/projects/{project.name}?q=x"]
    outside = [outside_of_projects(door, scene) for door in OUTSIDE if door[0] == "get"]
    shown = doors(controls(browsers[caller], iter((*outside, *inside))), project.name, project.mirror)
    may = {door for door, callers in OUTSIDE.items() if caller in callers} - NO_LINK_TO - OF_A_PLAN
    if caller != "admin":
        may.discard(("get", "/plans"))
    may |= {
        (door[0], table._PROJECT + door[1])
        for door in IN_A_PROJECT
        if expected(IN_A_PROJECT[door], caller, project) is None
    }
    leave = ("post", table._PROJECT + "/leave")
    if caller == LIMITED or caller not in (*ROLES, "admin"):
        # Only members can leave, and the admin made the project; a limited guest does not see the list of them.
        may.discard(leave)
    # A run of the retention rules can be stopped until a worker has done it.
    stop = ("post", table._PROJECT + "/policy/retention/stop")
    assert shown - {stop} == may - {stop} - OF_PINS
