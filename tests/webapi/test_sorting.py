"""Every word of ``sort`` that the document has, in both directions and two at once; and exact names in ``q``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from app.web.api.document import Operation, document
from tests.api.client import Registry
from tests.images import single
from tests.webapi.client import Api
from tests.webapi.house import ADMIN, PASSWORD, House
from tests.webapi.scene import access

SORTED: list[tuple[str, Operation]] = [
    (path, operation) for path, item in document().paths.items() for operation in item.values() if operation.sort
]
NAME = "sorted-lists"


@pytest.fixture(scope="module")
def numbers(house: House) -> Mapping[str, object]:
    """Put a few of everything there, in an order of their own; give what paths and queries need."""
    admin = Api(house.host, ADMIN, PASSWORD)
    project, webhook = admin.do("createProject", {"project_name": NAME, "description": "z"}).number, 0
    for number, name in enumerate(("sorted-c", "sorted-a", "sorted-b")):
        admin.do("createProject", {"project_name": name, "description": str(number), "storage_limit": 10**9 - number})
        permissions = [{"namespace": NAME, "access": access("repository:pull")}]
        robot = {"name": name, "level": "project", "permissions": permissions, "duration": 5 - number}
        assert admin.do("createRobot", {**robot, "description": str(number)}).status == 201
        label = {"name": name, "scope": "p", "project_id": project, "color": f"#00000{number}", "description": name}
        assert admin.do("createLabel", label).status == 201
        hook = {"name": name, "targets": [{"address": "http://hooks.test/"}], "event_types": ["PUSH_ARTIFACT"]}
        webhook = admin.do("createWebhook", hook, project_name_or_id=NAME).number
        user = {"username": name, "password": PASSWORD, "realname": f"R {-number}", "email": f"{name}@example.org"}
        assert admin.do("createUser", user).status == 201
        image = single(f"sorted {number}", sizes=(500 * (number + 1),))
        for repository in (name, "app"):
            Registry(house.host, ADMIN, PASSWORD).push_image(f"{NAME}/{repository}", name, image)
    for tag in ("x", "w"):
        path: dict[str, Any] = {"project_name": NAME, "repository_name": "app", "reference": "sorted-a"}
        assert admin.do("createTag", {"name": tag}, **path).status == 201
    for name, disabled in (("b", True), ("a", False), ("c", True)):
        rule = {"tag_selectors": [{"pattern": name}], "disabled": disabled}
        assert admin.do("createImmutableTagRule", rule, project_name_or_id=NAME).status == 201
    house.write_notes()
    named = {"project_name": NAME, "project_name_or_id": NAME, "project": project, "webhook_policy_id": webhook}
    return named | {"repository_name": "app", "reference": "sorted-a"}


def asked(operation: Operation, numbers: Mapping[str, object]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the query and the path of a list."""
    query: dict[str, Any] = {"page_size": 100}
    if operation.id == "listLabels":
        query |= {"scope": "p", "project_id": numbers["project"]}
    if operation.id == "listRobots":
        query |= {"q": f"Level=project,ProjectID={numbers['project']}"}
    return query, {name: numbers[name] for name in operation.path}


def value(row: Mapping[str, Any], field: str) -> tuple[bool, Any]:
    """Give what a row is sorted by; what it lacks comes last."""
    found: Any = row
    for step in field.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    if field == "op_time":
        # Ids grow with time, but for some milliseconds.
        found = row["id"]
    if field == "username" and "user_kind" in row:
        found = f"{row['user_kind']}:{found}"
    if (field == "expires_at" and found == -1) or (field == "hard.storage" and found == -1):
        found = None
    return found is not None, found


@pytest.mark.parametrize(("operation", "field"), [(one, field) for _, one in SORTED for field in one.sort])
def test_by_every_field(admin: Api, numbers: Mapping[str, object], operation: Operation, field: str) -> None:
    query, path = asked(operation, numbers)
    for word in (field, f"-{field}"):
        rows = admin.do(operation.id, query={**query, "sort": word}, **path).json()
        values = [value(row, field) for row in rows]
        known = [found for there, found in values if there]
        assert [there for there, _ in values] == sorted((there for there, _ in values), reverse=True), word
        if (operation.id, field) != ("listAuditLogExts", "username") and "LogExts" not in operation.id:
            assert known == sorted(known, reverse=word.startswith("-")), word
        # Pages of one row are cut from the same order.
        pages = [
            admin.do(operation.id, query={**query, "sort": word, "page": page, "page_size": 1}, **path).json()
            for page in (1, 2)
        ]
        assert [page[0] for page in pages if page] == rows[:2]


@pytest.mark.parametrize("operation", [one for _, one in SORTED])
def test_by_two_fields(admin: Api, numbers: Mapping[str, object], operation: Operation) -> None:
    query, path = asked(operation, numbers)
    first, last = operation.sort[-1], operation.sort[0]
    rows = admin.do(operation.id, query={**query, "sort": f"-{first},{last}"}, **path).json()
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(value(row, first), []).append(value(row, last)[1])
    assert all(group == sorted(group) for group in groups.values())
    assert admin.do(operation.id, query={**query, "sort": ",".join([first] * 6)}, **path).status == 400


@pytest.mark.parametrize(
    ("operation", "field", "key", "exact", "part"),
    [
        ("listProjects", "name", "name", "sorted-a", "sorted-"),
        ("listRepositories", "name", "name", f"{NAME}/sorted-a", "sorted-a"),
        ("listAllRepositories", "name", "name", f"{NAME}/sorted-a", "sorted-a"),
        ("listRobots", "name", "name", f"robot-{NAME}+sorted-a", "sorted-a"),
        ("listLabels", "name", "name", "sorted-a", "SORTED"),
        ("listUsers", "username", "username", "sorted-a", "SORTED"),
        ("listTags", "name", "name", "w", "W"),
        ("listRegistries", "name", "name", "docker.io", "docker"),
    ],
)
def test_an_exact_name_finds_one(
    admin: Api, numbers: Mapping[str, object], operation: str, field: str, key: str, exact: str, part: str
) -> None:
    found = next(one for _, one in SORTED if one.id == operation)
    query, path = asked(found, numbers)
    front = f"{query['q']}," if "q" in query else ""
    chosen = admin.do(operation, query={**query, "q": f"{front}{field}={exact}"}, **path)
    assert [row[key] for row in chosen.json()] == [exact]
    assert chosen.headers["X-Total-Count"] == "1"
    assert admin.do(operation, query={**query, "q": f"{front}{field}={exact}", "page": 2}, **path).json() == []
    assert exact in [
        row[key] for row in admin.do(operation, query={**query, "q": f"{front}{field}=~{part}"}, **path).json()
    ]
    for nothing in (exact[:-1] or "v", f"{exact}x", exact.replace("a", "%"), exact.replace("o", "_")):
        if nothing != exact:
            assert admin.do(operation, query={**query, "q": f"{front}{field}={nothing}"}, **path).json() == [], nothing


def test_a_name_may_leave_out_what_is_in_front(admin: Api, numbers: Mapping[str, object]) -> None:
    """A robot account its prefix, a repository its project."""
    query = {"q": f"Level=project,ProjectID={numbers['project']},name={NAME}+sorted-a"}
    assert len(admin.do("listRobots", query=query).json()) == 1
    assert len(admin.do("listRepositories", query={"q": "name=sorted-a"}, project_name=NAME).json()) == 1


def test_an_exact_repository_of_others_is_nowhere(house: House, numbers: Mapping[str, object]) -> None:
    for caller in (Api(house.host), Api(house.host, "sorted-a", PASSWORD)):
        assert caller.do("listAllRepositories", query={"q": f"name={NAME}/sorted-a"}).json() == []


def test_artifacts_by_their_digest(admin: Api, numbers: Mapping[str, object]) -> None:
    path: dict[str, Any] = {"project_name": NAME, "repository_name": "app"}
    digests = [row["digest"] for row in admin.do("listArtifacts", **path).json()]
    for digest in digests:
        for q in (f"digest={digest}", f"digest=~{digest[10:25]}", f"digest=~{digest[10:25].upper()}"):
            assert [row["digest"] for row in admin.do("listArtifacts", query={"q": q}, **path).json()] == [digest]
    unknown = "sha256:" + "0" * 64
    assert admin.do("listArtifacts", query={"q": f"digest={unknown}"}, **path).json() == []
    assert admin.do("listArtifacts", query={"q": "digest=x"}, **path).status == 400
    assert admin.do("listArtifacts", query={"q": f"digest={unknown},type=IMAGE"}, **path).status == 400


def test_the_log_by_its_fields(admin: Api, numbers: Mapping[str, object]) -> None:
    def found(q: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = admin.do(
            "listProjectLogs", query={"q": q, "page_size": 100}, project_name=NAME
        ).json()
        return rows

    assert {row["username"] for row in found(f"username={ADMIN}")} == {ADMIN}
    assert found("username=adm") == []
    assert len(found("username=~ADM")) == len(found(f"username={ADMIN}"))
    assert found("username=~person") == [], "the kind of an actor is no part of the name"
    assert {row["operation"] for row in found("operation=~PUS")} == {"push"}
    assert {row["resource"] for row in found(f"resource={NAME}")} == {NAME}
    assert all("sorted-a" in row["resource"] for row in found("resource=~sorted-a"))
    assert {row["resource_type"] for row in found("resource_type=~labe")} == {"label"}


def test_all_entries_at_once(admin: Api, numbers: Mapping[str, object]) -> None:
    """In Harbor, a page of no entries has all of them."""
    whole = admin.do("listUsers", query={"page": 0, "page_size": 0})
    assert len(whole.json()) == int(whole.headers["X-Total-Count"])
    assert whole.headers["Link"] is None
    assert admin.do("listUsers", query={"page": 2, "page_size": 0}).json() == []
