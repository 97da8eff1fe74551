"""Bad input: a clear answer, nothing done, nothing told that is not the client's to know."""

from __future__ import annotations

from typing import Any

import pytest

from tests.webapi.client import Answer, Api


@pytest.fixture(scope="module")
def project(admin: Api) -> str:
    assert admin.do("createProject", {"project_name": "inputs", "public": False}).status == 201
    return "inputs"


def refused(answer: Answer, status: int, code: str, says: str) -> None:
    assert answer.status == status, answer
    (error,) = answer.json()["errors"]
    assert error["code"] == code, answer
    assert says in error["message"], answer


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("page=-1", "page must be 0 or more"),
        ("page=one", "page must be a whole number"),
        ("page=1.5", "page must be a whole number"),
        ("page=1&page=2", "page is given twice"),
        ("page=99999999999999999999999", "page must be a whole number"),
        ("page=1000001", "page must be 1000000 or less"),
        ("page_size=-1", "page_size must be 0 or more"),
        ("page_size=101", "page_size must be 100 or less"),
        ("colour=red", "unknown parameter colour"),
        ("public=maybe", "public must be true or false"),
        ("sort=size", "sort must be at most 5 of these, with commas between: name, creation_time"),
        ("sort=name,size", "sort must be at most 5 of these"),
        ("sort=repo_count", "sort must be at most 5 of these"),
        ("q=name%3Dlab%2Csize%3D5&sort=", "unknown field size"),
        ("q=name%253Dlab%252Csize%253D5", "unknown field size"),
        ("q=name%253D%2500", "without NUL"),
        ("q=size=5", "unknown field size"),
        ("q=name", "cannot be read"),
        ("q=public=perhaps", "true or false"),
        ("q=" + "a" * 1001, "q must have 1000 characters or fewer"),
        ("name=%00", "must not contain NUL"),
        ("name=%ff", "not UTF-8"),
        ("name=" + "a" * 256, "255 characters or fewer"),
    ],
)
def test_a_query(admin: Api, query: str, says: str) -> None:
    refused(admin.call("GET", f"/projects?{query}"), 400, "BAD_REQUEST", says)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "lacks project_name"),
        ([], "must be an object"),
        (None, "must be an object"),
        ({"project_name": 5}, "project_name must be text"),
        ({"project_name": ""}, "project_name must have 1 characters or more"),
        ({"project_name": "x", "public": "yes"}, "public must be true or false or null"),
        ({"project_name": "x", "public": 1}, "public must be true or false or null"),
        ({"project_name": "x", "storage_limit": 1.5}, "storage_limit must be a whole number"),
        ({"project_name": "x", "storage_limit": "10GB"}, "storage_limit must be a whole number"),
        ({"project_name": "x", "storage_limit": -2}, "storage_limit must be -1 or more"),
        ({"project_name": "x", "storage_limit": 10**20}, "storage_limit must be 9007199254740991 or less"),
        ({"project_name": "x", "metadata": {"public": True}}, 'metadata.public must be one of "true", "false"'),
        ({"project_name": "x", "metadata": []}, "metadata must be an object"),
        (
            {"project_name": "x", "metadata": {"prevent_vul": "true"}},
            "prevent_vul cannot be switched on; this registry",
        ),
        ({"project_name": "x", "metadata": {"enable_content_trust": "true"}}, "this registry verifies no signatures"),
        (
            {"project_name": "x", "registry_id": 12345},
            "there is no upstream with the number 12345; known upstreams are",
        ),
        ({"project_name": "Not A Name"}, ""),
        ({"project_name": "nul\0"}, "not JSON"),
        ({"project_name": "half\ud800"}, "not JSON"),
        ({"project_name": "a/b"}, ""),
        ({"project_name": "../up"}, ""),
        ({"project_name": "x", "proxy_cache": {"username": "u"}, "registry_id": 5}, ""),
    ],
)
def test_a_body(admin: Api, body: Any, says: str) -> None:
    refused(admin.do("createProject", body if body is not None else b"null"), 400, "BAD_REQUEST", says)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b'{"project_name": NaN}',
        b'{"storage_limit": 1e999}',
        b"[" * 100_000,
        b'{"project_name": ' + b"9" * 5000 + b"}",
        b"\x00",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_not_json(admin: Api, data: bytes) -> None:
    refused(admin.do("createProject", data), 400, "BAD_REQUEST", "not JSON")


def test_a_number_with_a_point_is_the_number(admin: Api, project: str) -> None:
    """JSON has one kind of number."""
    body = b'{"role_id": 3.0, "member_group": {"group_name": "points"}}'
    assert admin.do("createMember", body, project_name_or_id=project).status == 201


def test_a_body_of_somebody_unknown_is_not_read(nobody: Api) -> None:
    for body in (b"{", b"x" * 900_000, b'{"project_name": 5}'):
        refused(nobody.do("createProject", body), 401, "UNAUTHORIZED", "log in")


def test_a_long_body_is_checked_as_a_short_one_is_and_a_longer_one_refused(admin: Api) -> None:
    rights = [{"kind": "project", "namespace": "*", "access": [{"resource": "repository", "action": "pull"}]}]
    robot = {"name": "long", "level": "system", "duration": 1, "permissions": rights * 600}
    refused(admin.do("createRobot", robot), 400, "BAD_REQUEST", "permissions must have 100 entries or fewer")
    refused(admin.do("createRobot", {**robot, "permissions": rights * 6000}), 413, "TOO_LARGE", "131072 bytes at most")


def test_forms_are_not_taken(admin: Api) -> None:
    answer = admin.call("POST", "/projects", b"project_name=x", {"Content-Type": "application/x-www-form-urlencoded"})
    refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE", "send JSON")


def test_names_that_are_taken_or_reserved(admin: Api, project: str) -> None:
    refused(admin.do("createProject", {"project_name": project}), 409, "CONFLICT", project)
    for name in ("v2", "api", "service", "saml", "login"):
        refused(admin.do("createProject", {"project_name": name}), 409, "CONFLICT", name)


def test_paths_that_are_not_there(admin: Api, nobody: Api) -> None:
    for path in ("/nothing", "/projects/", "/projects/x/y", "/", "", "/projects/inputs/members/1/2"):
        for caller in (admin, nobody):
            refused(caller.call("GET", path), 404, "NOT_FOUND", "openapi.json")


def test_methods_that_are_not_there(admin: Api) -> None:
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        answer = admin.call(method, "/projects")
        refused(answer, 405, "METHOD_NOT_ALLOWED", "does not have this method")
        assert answer.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.0", "9" * 30, "%00", "1%2F2"])
def test_numbers_in_a_path(admin: Api, project: str, number: str) -> None:
    for path in (f"/projects/{project}/members/{number}", f"/robots/{number}", f"/users/{number}", f"/quotas/{number}"):
        answer = admin.call("GET", path)
        assert answer.status == 400, (path, answer)


@pytest.mark.parametrize("name", ["%00", "..", "%2e%2e", "%ff", "UPPER", "a%252F..%252Fb", "%25252F", "x" * 250, "%0a"])
def test_names_in_a_path(admin: Api, project: str, name: str) -> None:
    for path in (f"/projects/{name}", f"/projects/{project}/repositories/{name}"):
        answer = admin.call("GET", path)
        assert answer.status in (400, 404), (path, answer)


def test_credentials_that_are_none(nobody: Api) -> None:
    for header in ("Basic", "Basic !!!", "Basic YWJj", "Bearer x", "Digest x"):
        answer = nobody.call("GET", "/projects", headers={"Authorization": header})
        assert answer.status == 401, (header, answer)
        assert answer.headers["WWW-Authenticate"].startswith("Basic "), answer


def test_a_robot_of_another_project(admin: Api, project: str) -> None:
    assert admin.do("createProject", {"project_name": "other"}).status == 201
    access = [{"resource": "repository", "action": "pull"}]
    two = [{"namespace": project, "access": access}, {"namespace": "other", "access": access}]
    body = {"name": "both", "level": "project", "permissions": two}
    refused(admin.do("createRobot", body), 400, "BAD_REQUEST", "in that one project")
    body = {"name": "x", "level": "project", "permissions": [{"namespace": "none", "access": access}]}
    refused(admin.do("createRobot", body), 404, "NOT_FOUND", "none")


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"name": "Not Good"}, 400, "name"),
        ({"duration": 99999}, 400, "days"),
        ({"secret": "Chosen-By-Me-1"}, 400, "secret cannot be chosen; leave it out, and the registry makes one"),
        ({"level": "galaxy"}, 400, 'level must be one of "project", "system"'),
        ({"permissions": []}, 400, "permissions must have 1 entries or more"),
        ({"permissions": [{"namespace": "inputs", "access": [{"resource": "member", "action": "create"}]}]}, 400,
         "member:create"),
        ({"permissions": [{"namespace": "inputs", "access": [{"resource": "coffee", "action": "make"}]}]}, 400,
         "coffee:make"),
        ({"permissions": [{"kind": "system", "namespace": "/", "access": [{"resource": "a", "action": "b"}]}]}, 400,
         'kind must be one of "project"'),
    ],
)  # fmt: skip
def test_a_robot(admin: Api, project: str, change: dict[str, Any], status: int, says: str) -> None:
    access = [{"resource": "repository", "action": "pull"}]
    body = {"name": "ci", "level": "project", "permissions": [{"namespace": project, "access": access}], **change}
    refused(admin.do("createRobot", body), status, "BAD_REQUEST", says)


def test_the_last_project_admin_stays(ann: Api) -> None:
    assert ann.do("createProject", {"project_name": "anns"}).status == 201
    (member,) = ann.do("listMembers", project_name_or_id="anns").json()
    answer = ann.do("deleteMember", project_name_or_id="anns", mid=member["id"])
    refused(answer, 412, "PRECONDITION", "project admin")
    answer = ann.do("updateMember", {"role_id": 2}, project_name_or_id="anns", mid=member["id"])
    refused(answer, 412, "PRECONDITION", "project admin")


def test_a_member_is_a_person_or_a_group(admin: Api, project: str) -> None:
    for body in (
        {"role_id": 1},
        {"role_id": 1, "member_user": {"username": "ann"}, "member_group": {"group_name": "g"}},
        {"role_id": 6, "member_user": {"username": "ann"}},
        {"role_id": 1, "member_user": {}},
        {"role_id": 1, "member_group": {"group_name": "a", "ldap_group_dn": "b"}},
        {"role_id": True, "member_user": {"username": "ann"}},
    ):
        refused(admin.do("createMember", body, project_name_or_id=project), 400, "BAD_REQUEST", "")
    for user in ({"username": "nobody-of-that-name"}, {"user_id": 10**9}):
        answer = admin.do("createMember", {"role_id": 1, "member_user": user}, project_name_or_id=project)
        refused(answer, 404, "NOT_FOUND", "")


def test_quotas_for_makers(ann: Api, admin: Api) -> None:
    body = {"project_name": "huge", "storage_limit": 10**15}
    assert ann.do("createProject", body).status == 403
    assert ann.do("createProject", {**body, "storage_limit": -1}).status == 403
    assert admin.do("createProject", {**body, "storage_limit": -1}).status == 201


def test_administrators_cannot_shut_themselves_out(admin: Api) -> None:
    own = admin.do("getCurrentUser").json()["user_id"]
    for answer in (
        admin.do("setSysadmin", {"sysadmin_flag": False}, user_id=own),
        admin.do("setDisabled", {"disabled": True}, user_id=own),
        admin.do("deleteUser", user_id=own),
    ):
        refused(answer, 403, "FORBIDDEN", "your own account")


def test_secrets_are_not_repeated(admin: Api, project: str) -> None:
    body = {"project_name": "x", "proxy_cache": {"username": "u", "password": "s3cr3t-in-a-wrong-place", "more": 1}}
    answer = admin.do("createProject", body)
    assert answer.status == 400
    assert b"s3cr3t" not in answer.body
    body = {"name": "x", "level": "project", "secret": "s3cr3t-of-mine", "permissions": []}
    assert b"s3cr3t" not in admin.do("createRobot", body).body
