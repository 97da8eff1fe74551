"""Two hosts on one PostgreSQL and one Redis, the ways to shut somebody out there, and the doors to try afterwards."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from tests.api.client import Registry, basic, exchange
from tests.images import single
from tests.parts.process import command
from tests.parts.service import ADMIN, PASSWORD, Service
from tests.sso.forge import Forger, encoded, inflated
from tests.web.http import Person
from tests.webapi.client import OPERATIONS, Answer, Api
from tests.webapi.scene import access

GROUPS = "urn:oid:1.3.6.1.4.1.5923.1.5.1.1"
GROUP = "lab-members"
_RIGHTS = "repository:pull repository:push repository:list project:read"
_NUMBERS = itertools.count(1)
_AT_ONCE = 12
IN, OUT = True, False


@dataclass
class Somebody:
    """Who is shut out of a project by ``act``, which returns a status.

    ``right`` is what they lose: to pull, to push, or (``configure``) to see the project's settings. Each of ``doors``
    takes a host, and says whether it let them in. ``ended`` is set once an act was answered with success.
    """

    name: str
    project: str
    act: Callable[[], int]
    right: str = "pull"
    login: tuple[str, str] | None = None
    cookie: str | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    ended: bool = False

    def doors(self) -> dict[str, Callable[[str], bool]]:
        found: dict[str, Callable[[str], bool]] = {}
        if self.login is not None or self.cookie is None:
            found["token"] = self._new_token
        if self.login is not None:
            found["v2"] = self._v2
        if self.login is not None and self.right == "pull":
            found["api"] = self._api
        if self.login is None or self.cookie is not None:
            found["page"] = self._page
        if self.tokens:
            found["bearer"] = self._bearer
        return found

    def _headers(self) -> dict[str, str]:
        # From elsewhere each time, because wrong log-ins from one address are slowed down.
        number = next(_NUMBERS)
        login = {} if self.login is None else {"Authorization": basic(*self.login)}
        return {**login, "X-Forwarded-For": f"198.18.{number // 256 % 256}.{number % 256}"}

    def _new_token(self, host: str) -> bool:
        query = urlencode({"service": host, "scope": f"repository:{self.project}/app:pull,push"})
        answer = exchange(host, "GET", f"/service/token?{query}", None, self._headers())
        return answer.status == 200 and self.right in str(claims(answer.json()["token"])["access"])

    def _v2(self, host: str) -> bool:
        if self.right == "push":
            return exchange(host, "POST", f"/v2/{self.project}/app/blobs/uploads/", b"", self._headers()).status == 202
        return exchange(host, "GET", f"/v2/{self.project}/app/manifests/v1", None, self._headers()).status == 200

    def _api(self, host: str) -> bool:
        return exchange(host, "GET", f"/api/v2.0/projects/{self.project}", None, self._headers()).status == 200

    def _page(self, host: str) -> bool:
        path = f"/projects/{self.project}" + ("/configuration" if self.right == "configure" else "")
        cookie = {} if self.cookie is None else {"Cookie": f"session={self.cookie}"}
        return exchange(host, "GET", path, None, {"Accept": "text/html", **cookie}).status == 200

    def _bearer(self, host: str) -> bool:
        headers = {"Authorization": f"Bearer {self.tokens[host]}"}
        return exchange(host, "GET", f"/v2/{self.project}/app/manifests/v1", None, headers).status == 200


def claims(token: str) -> dict[str, Any]:
    """Read what a token says."""
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


class Hosts:
    """The two hosts; the first one is told who is to be shut out."""

    def __init__(self, services: Sequence[Service], forger: Forger) -> None:
        self.services = services
        self.names = [service.host for service in services]
        self._forger = forger
        self._host = self.names[0]
        self._admin = Api(self._host, ADMIN, PASSWORD)

    def everybody(self) -> list[Somebody]:
        """Make one somebody for each way to be shut out, each in a project of their own, and open all doors."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            made = list(pool.map(lambda make: make(), self._makers()))
        self.try_doors(made, expected=IN)
        return made

    def act(self, everybody: Sequence[Somebody]) -> None:
        """Shut out everybody who is still in, all at once."""
        waiting = [one for one in everybody if not one.ended]
        with ThreadPoolExecutor(len(waiting) or 1) as pool:
            for one, status in zip(waiting, pool.map(lambda one: one.act(), waiting), strict=True):
                # A thing that is gone has been removed by an act that was not answered.
                one.ended = 200 <= status < 400 or status == 404
                assert one.ended or status >= 500, f"{one.name}: {status}"

    def try_doors(self, everybody: Sequence[Somebody], *, expected: bool) -> int:
        """Try every door of everybody on each host; raise AssertionError with those that are not as expected."""
        asked = [
            (one, host, door, knock) for one in everybody for host in self.names for door, knock in one.doors().items()
        ]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            opened = list(pool.map(lambda each: each[3](each[1]), asked))
        wrong = [
            f"{one.name} {'got in' if found else 'was kept out'} by {door} at host {self.names.index(host)}"
            for (one, host, door, _), found in zip(asked, opened, strict=True)
            if found != expected
        ]
        assert not wrong, wrong
        return len(asked)

    # The ways

    def _makers(self) -> Iterator[Callable[[], Somebody]]:
        def of(make: Callable[..., Somebody], *arguments: object) -> Callable[[], Somebody]:
            return lambda: make(*arguments)

        for change in ("deleteRobot", "disable", "refreshRobot"):
            yield of(self._robot, change)
        yield of(self._key)
        for change in ("deleteUser", "setDisabled", "setPassword", "command line", "page", "deleteMember"):
            yield of(self._person, change)
        yield of(self._role)
        yield of(self._lowered)
        yield of(self._public)
        yield of(self._removed)
        yield of(self._logged_out)
        yield of(self._session_ended)
        yield of(self._group)

    def _project(self, *, public: bool = False) -> str:
        name = f"lab-{next(_NUMBERS)}"
        assert self._do("createProject", {"project_name": name, "public": public}).status == 201
        Registry(self._host, ADMIN, PASSWORD).push_image(f"{name}/app", "v1", single(name, sizes=(500,)))
        return name

    def _member(self, project: str, role: int = 2) -> tuple[str, int, int]:
        """Make a person who is a member; return their name, their number and the membership's."""
        name = f"person-{next(_NUMBERS)}"
        number = self._do("createUser", {"username": name, "password": PASSWORD}).number
        member = {"role_id": role, "member_user": {"username": name}}
        return name, number, self._do("createMember", member, project_name_or_id=project).number

    def _robot(self, change: str) -> Somebody:
        project = self._project()
        permissions = [{"namespace": project, "access": access(_RIGHTS)}]
        body = {"name": f"ci-{next(_NUMBERS)}", "level": "project", "permissions": permissions}
        made = self._do("createRobot", body).json()
        operation, given = ("updateRobot", {"disable": True}) if change == "disable" else (change, None)
        given = {} if change == "refreshRobot" else given
        return Somebody(
            f"robot, {change}",
            project,
            lambda: self._do(operation, given, robot_id=made["id"]).status,
            login=(made["name"], made["secret"]),
        )

    def _key(self) -> Somebody:
        project = self._project()
        name, _, _ = self._member(project)
        permissions = [{"namespace": project, "access": access(_RIGHTS)}]
        own = Api(self._host, name, PASSWORD)
        made = _call(own, "createAccessKey", {"name": "key", "duration": 1, "permissions": permissions}).json()
        return Somebody(
            "access key removed",
            project,
            lambda: _call(own, "deleteAccessKey", key_id=made["id"]).status,
            login=(name, made["secret"]),
        )

    def _person(self, change: str) -> Somebody:
        project = self._project()
        name, number, member = self._member(project)
        acts: Mapping[str, Callable[[], int]] = {
            "deleteUser": lambda: self._do("deleteUser", user_id=number).status,
            "setDisabled": lambda: self._do("setDisabled", {"disabled": True}, user_id=number).status,
            "setPassword": lambda: self._do("setPassword", {"new_password": "another of hers"}, user_id=number).status,
            "deleteMember": lambda: self._do("deleteMember", project_name_or_id=project, mid=member).status,
            "command line": lambda: self._by_hand(name),
            "page": lambda: self._by_page(number),
        }
        return Somebody(f"person, {change}", project, acts[change], login=(name, PASSWORD), cookie=self._cookie(name))

    def _role(self) -> Somebody:
        project = self._project()
        name, _, member = self._member(project)
        return Somebody(
            "role lowered to guest",
            project,
            lambda: self._do("updateMember", {"role_id": 3}, project_name_or_id=project, mid=member).status,
            right="push",
            login=(name, PASSWORD),
        )

    def _lowered(self) -> Somebody:
        project = self._project()
        name, _, member = self._member(project, role=1)
        return Somebody(
            "project admin lowered",
            project,
            lambda: self._do("updateMember", {"role_id": 2}, project_name_or_id=project, mid=member).status,
            right="configure",
            cookie=self._cookie(name),
        )

    def _public(self) -> Somebody:
        project = self._project(public=True)
        change = {"public": False}
        return Somebody(
            "project made private",
            project,
            lambda: self._do("updateProject", change, project_name_or_id=project).status,
        )

    def _removed(self) -> Somebody:
        """A project that is deleted; the tokens of before end with it."""
        project = self._project()
        name, _, _ = self._member(project)

        def remove() -> int:
            # A project with repositories is not deleted.
            first = self._do("deleteRepository", project_name=project, repository_name="app").status
            return self._do("deleteProject", project_name_or_id=project).status if first in (200, 404) else first

        scope = f"repository:{project}/app:pull"
        tokens = {host: Registry(host, name, PASSWORD).token(scope) for host in self.names}
        return Somebody("project deleted", project, remove, login=(name, PASSWORD), tokens=tokens)

    def _logged_out(self) -> Somebody:
        project = self._project()
        name, _, _ = self._member(project)
        browser = Person(self._host).log_in(name, PASSWORD)
        browser.get("/mine")
        cookie, token = browser.cookies["session"], browser.token

        def log_out() -> int:
            browser.cookies["session"] = cookie
            answer = browser.post("/logout", token=token)
            return answer.status if answer.location == "/" else 503

        return Somebody("logged out", project, log_out, cookie=cookie)

    def _session_ended(self) -> Somebody:
        project = self._project()
        name, _, _ = self._member(project)
        cookie, own = self._cookie(name), Api(self._host, name, PASSWORD)
        (session,) = _call(own, "listSessions").json()
        end = lambda: _call(own, "deleteSession", session_id=session["id"]).status  # noqa: E731
        return Somebody("session ended", project, end, cookie=cookie)

    def _group(self) -> Somebody:
        """A member by a group of the university, who is in it no more at the next log-in."""
        project, username = self._project(), f"p{next(_NUMBERS)}@ut.ee"
        group = f"{GROUP}-{next(_NUMBERS)}"
        member = {"role_id": 2, "member_group": {"group_name": group}}
        assert self._do("createMember", member, project_name_or_id=project).status == 201
        browser = Person(self._host)
        assert self._at_university(browser, username, [group]) == 303
        cookie = browser.cookies["session"]

        def lose() -> int:
            return self._at_university(Person(self._host), username, ["others"])

        return Somebody("university group lost", project, lose, cookie=cookie)

    # How they are done

    def _do(self, operation: str, body: object = None, **path: object) -> Answer:
        return _call(self._admin, operation, body, **path)

    def _cookie(self, name: str) -> str:
        return Person(self._host).log_in(name, PASSWORD).cookies["session"]

    def _by_hand(self, name: str) -> int:
        config = str(self.services[0].config)
        done = command("admin", "set-password", name, "--config", config, given="another of hers\n")
        return 200 if done.returncode == 0 else 503

    def _by_page(self, number: int) -> int:
        browser = Person(self._host)
        browser.get("/login")
        began = browser.post("/login", {"username": ADMIN, "password": PASSWORD, "next": "/administration/users"})
        if began.status != 303:
            return began.status
        browser.get("/administration/users")
        answer = browser.post("/administration/users/change", {"account": str(number), "change": "disable"})
        # Without Redis, the browser is nobody's.
        return 503 if answer.location.startswith("/login") or answer.status == 403 else answer.status

    def _at_university(self, browser: Person, username: str, groups: Sequence[str]) -> int:
        begun = browser.get("/saml/login")
        if begun.status != 303:
            return begun.status
        request = inflated(parse_qs(urlsplit(begun.location).query)["SAMLRequest"][0])
        said = self._forger.claims(request.get("ID")).changed(username=username, attributes={GROUPS: groups})
        form = urlencode({"SAMLResponse": encoded(self._forger.answer(said))}).encode()
        answer = browser.ask("POST", "/saml/acs", form, {"Content-Type": "application/x-www-form-urlencoded"})
        # It is refused if Redis has forgotten in between that the log-in was begun.
        return 503 if answer.status == 403 else answer.status


def _call(api: Api, operation: str, body: object = None, **path: object) -> Answer:
    """Do an operation of the document, whatever its answer is."""
    method, template = OPERATIONS[operation]
    for name, value in path.items():
        template = template.replace(f"{{{name}}}", quote(str(value), safe=""))
    return api.call(method, template, body)


@contextmanager
def hosts(folder: Path, database: str, redis: str, processes: int) -> Iterator[Hosts]:
    """Start both hosts; they share the folder of blobs and the keys in it."""
    forger = Forger(folder)
    overrides = {
        "server": {"trusted_proxies": ["127.0.0.1"]},
        "data_dir": str(folder / "data"),
        "projects": {},
        "policy": {"projects_per_person": 1000},
        "saml": {"enabled": True, "idp_metadata_url": forger.metadata_url},
    }
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                Service(folder / name, processes=processes, database=database, redis=redis, overrides=overrides)
            )
            for name in ("first", "second")
        ]
        forger.serve(started[0].url)
        yield Hosts(started, forger)


def settled(hosts: Hosts, seconds: float = 60.0) -> None:
    """Wait until a person can log in again on each host."""
    end = time.monotonic() + seconds
    for host in hosts.names:
        while True:
            browser = Person(host)
            browser.get("/login")
            if browser.post("/login", {"username": ADMIN, "password": PASSWORD, "next": "/"}).status == 303:
                break
            assert time.monotonic() < end, f"nobody can log in at {host}"
            time.sleep(0.3)
