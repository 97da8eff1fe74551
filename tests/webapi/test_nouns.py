"""What the API has beside what Harbor's client asks for: keys, logs, exports, caches, pages of lists."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.client import Registry
from tests.images import single
from tests.webapi.client import Answer, Api
from tests.webapi.house import ADMIN, PASSWORD, House
from tests.webapi.scene import access


def rels(answer: Answer) -> dict[str, str]:
    """Read `Link`: the address of each relation, beneath the API's own."""
    links = (part.strip().split("; rel=") for part in (answer.headers["Link"] or "").split(" , ") if part)
    return {rel.strip('"'): address.strip("<>").partition("/api/v2.0")[2] for address, rel in links}


def test_pages_of_a_list(ann: Api) -> None:
    for number in range(5):
        assert ann.do("createProject", {"project_name": f"book-{number}"}).status == 201
    query = {"q": "name=~book-", "sort": "-name", "page_size": 2}
    first = ann.do("listProjects", query=query)
    assert [one["name"] for one in first.json()] == ["book-4", "book-3"]
    assert (first.headers["X-Total-Count"], set(rels(first))) == ("5", {"next"})
    second = ann.call("GET", rels(first)["next"])
    assert [one["name"] for one in second.json()] == ["book-2", "book-1"]
    assert set(rels(second)) == {"prev", "next"}
    last = ann.call("GET", rels(second)["next"])
    assert [one["name"] for one in last.json()] == ["book-0"]
    assert set(rels(last)) == {"prev"}
    assert ann.call("GET", rels(last)["prev"]).json() == second.json()
    beyond = ann.do("listProjects", query={**query, "page": 9})
    assert (beyond.json(), beyond.headers["X-Total-Count"]) == ([], "5")


def test_a_list_goes_backwards_where_the_document_says_so(ann: Api, admin: Api) -> None:
    made = ann.do("createProject", {"project_name": "backwards"})
    for name in ("a", "b"):
        assert ann.do("createLabel", {"name": name, "scope": "p", "project_id": made.number}).status == 201
    query = {"scope": "p", "project_id": made.number, "sort": "-name"}
    assert [one["name"] for one in ann.do("listLabels", query=query).json()] == ["b", "a"]
    names = [one["username"] for one in admin.do("listUsers", query={"sort": "-username", "page_size": 100}).json()]
    assert names == [one["username"] for one in admin.do("listUsers", query={"page_size": 100}).json()][::-1]


def test_lists_show_what_one_may_see(ann: Api, admin: Api, nobody: Api) -> None:
    assert admin.do("createProject", {"project_name": "sight-closed"}).status == 201
    assert admin.do("createProject", {"project_name": "sight-open", "public": True}).status == 201
    for caller, seen in ((nobody, ["sight-open"]), (ann, ["sight-open"]), (admin, ["sight-closed", "sight-open"])):
        answer = caller.do("listProjects", query={"name": "sight-"})
        assert [one["name"] for one in answer.json()] == seen
        assert [one["name"] for one in caller.do("search", query={"q": "sight-"}).json()["project"]] == seen
    for public, seen in ((True, ["sight-open"]), (False, ["sight-closed"])):
        answer = admin.do("listProjects", query={"name": "sight-", "public": public})
        assert [one["name"] for one in answer.json()] == seen


def test_an_access_key_does_what_it_was_given(ann: Api, house: House) -> None:
    assert ann.do("createProject", {"project_name": "keyed"}).status == 201
    rights = "repository:pull repository:push project:read repository:list"
    body = {"name": "laptop", "duration": 7, "permissions": [{"namespace": "keyed", "access": access(rights)}]}
    made = ann.do("createAccessKey", body)
    key = Api(house.host, "ann", made.json()["secret"])
    assert key.do("getProject", project_name_or_id="keyed").status == 200
    assert key.do("listMembers", project_name_or_id="keyed").status == 403
    Registry(house.host, "ann", made.json()["secret"]).push_image("keyed/app", "v1", single("keyed"))
    assert [one["name"] for one in key.do("listRepositories", project_name="keyed").json()] == ["keyed/app"]
    (listed,) = ann.do("listAccessKeys").json()
    assert listed["permissions"][0]["namespace"] == "keyed"
    assert {f"{one['resource']}:{one['action']}" for one in listed["permissions"][0]["access"]} == set(rights.split())
    assert "secret" not in listed
    assert ann.do("createAccessKey", body).status == 409
    assert ann.do("deleteAccessKey", key_id=made.number).status == 200
    assert key.do("getProject", project_name_or_id="keyed").status == 401
    assert ann.do("deleteAccessKey", key_id=made.number).status == 404


def test_pages_of_all_repositories(ann: Api, admin: Api, nobody: Api, house: House) -> None:
    for project, public in (("shelf-a", True), ("shelf-b", False)):
        assert ann.do("createProject", {"project_name": project, "public": public}).status == 201
        for name in ("x", "y"):
            Registry(house.host, "ann", PASSWORD).push_image(f"{project}/{name}", "v1", single(f"{project} {name}"))
    everything = ["shelf-a/x", "shelf-a/y", "shelf-b/x", "shelf-b/y"]
    for caller, seen in ((ann, everything), (admin, everything), (nobody, everything[:2])):
        for sort, ordered in (("name", seen), ("-name", seen[::-1])):
            query = {"q": "name=~shelf-", "sort": sort, "page_size": 1}
            for number, name in enumerate(ordered, 1):
                answer = caller.do("listAllRepositories", query={**query, "page": number})
                assert [one["name"] for one in answer.json()] == [name]
                assert answer.headers["X-Total-Count"] == str(len(seen))
                assert ("next" in rels(answer)) is (number < len(seen))
            beyond = caller.do("listAllRepositories", query={**query, "page": 1000000})
            assert (beyond.json(), beyond.headers["X-Total-Count"]) == ([], str(len(seen)))
    whole = nobody.do("listAllRepositories")
    assert int(whole.headers["X-Total-Count"]) >= 2


def test_what_one_may_in_a_project(ann: Api, nobody: Api) -> None:
    number = ann.do("createProject", {"project_name": "own-rights"}).number
    scope = {"scope": f"/project/{number}"}
    spelled = {(one["resource"], one["action"]) for one in ann.do("getCurrentPermissions", query=scope).json()}
    assert (f"/project/{number}/member", "create") in spelled
    relative = ann.do("getCurrentPermissions", query={**scope, "relative": True}).json()
    assert {"resource": "member", "action": "create"} in relative
    assert ann.do("getCurrentPermissions", query={"scope": "/galaxy"}).status == 400
    assert nobody.do("getCurrentPermissions", query=scope).status == 401


def logs(caller: Api, house: House, q: str) -> list[tuple[str, str, str]]:
    house.write_notes()
    rows = caller.do("listAuditLogs", query={"q": q, "page_size": 100}).json()
    return [(one["operation"], one["resource_type"], one["resource"]) for one in rows]


def test_the_log_is_searched_and_exported(admin: Api, ann: Api, house: House) -> None:
    number = ann.do("createProject", {"project_name": "noted"}).number
    ann.do("updateProject", {"description": "noted"}, project_name_or_id="noted")
    Registry(house.host, "ann", PASSWORD).push_image("noted/app", "v1", single("noted"))
    ann.do("createMember", {"role_id": 3, "member_group": {"group_name": "noted-group"}}, project_name_or_id="noted")
    assert logs(admin, house, "operation=update,resource_type=project,text=~noted") == [("update", "project", "noted")]
    assert logs(admin, house, "text=~noted-group") == [("create", "member", "noted-group")]
    assert logs(admin, house, 'text=~noted,op_time=[~"2001-01-01 00:00:00"]') == []
    assert len(logs(admin, house, 'text=~noted,op_time=["2001-01-01 00:00:00"~]')) >= 3
    (newest, *_) = ann.do("listProjectLogs", project_name="noted").json()
    assert (newest["username"], newest["user_kind"], newest["client_address"]) == ("ann", "person", "127.0.0.1")
    exported = [json.loads(line) for line in ann.do("exportProjectLogs", project_name="noted").body.splitlines()]
    assert exported[0] == newest
    assert {one["project_id"] for one in exported} == {number}
    everything = admin.do("exportAuditLogs").body.splitlines()
    assert len(everything) > len(exported)


def test_a_pull_through_cache(admin: Api, ann: Api) -> None:
    (upstream,) = admin.do("listRegistries").json()
    # Clients keep this number: it is the same in every release, whatever is configured beside it.
    assert (upstream["name"], upstream["id"]) == ("docker.io", 4247095319)
    assert admin.do("getRegistry", id=upstream["id"]).json() == upstream
    body: dict[str, Any] = {
        "project_name": "hub",
        "public": True,
        "registry_id": upstream["id"],
        "proxy_cache": {"username": "someone", "password": "not-to-be-seen", "cache_bytes": 10**9},
    }
    assert ann.do("createProject", {**body, "project_name": "anns-hub"}).status == 403
    assert admin.do("createProject", body).status == 201
    found = admin.do("getProject", project_name_or_id="hub")
    assert b"not-to-be-seen" not in found.body
    assert found.json()["proxy_cache"] == {
        "has_credential": True, "cache_bytes": 10**9, "official_images": "explain",
        "allowed_names": [], "denied_names": [],
    }  # fmt: skip
    assert found.json()["registry_id"] == upstream["id"]
    rules = {"allowed_names": ["library/*", "bitnami/**"], "denied_names": ["*/miner*"]}
    change = {"proxy_cache": {"username": None, "official_images": "alias", **rules}}
    assert admin.do("updateProject", change, project_name_or_id="hub").status == 200
    assert admin.do("getProject", project_name_or_id="hub").json()["proxy_cache"] == {
        "has_credential": False, "cache_bytes": 10**9, "official_images": "alias", **rules,
    }  # fmt: skip
    bad = {"proxy_cache": {"denied_names": ["no name"]}}
    assert admin.call("PUT", "/projects/hub", bad).status == 400
    traffic = ann.do("getMirrorTraffic", project_name="hub").json()
    assert (traffic["total"]["hits"], traffic["hours"], traffic["bound_bytes"]) == (0, [], 10**9)
    assert ann.do("listMirrorFills", project_name="hub").json() == []
    assert ann.do("getMirrorBudget", project_name="hub").status == 200
    assert admin.do("createProject", {"project_name": "no-hub"}).status == 201
    assert admin.do("getMirrorTraffic", project_name="no-hub").status == 404
    assert admin.do("deleteProject", project_name_or_id="hub").status == 200


def test_a_project_by_its_number_or_its_name(admin: Api) -> None:
    number = admin.do("createProject", {"project_name": "4711"}).number
    by_name = {"X-Is-Resource-Name": "true"}
    assert admin.call("GET", "/projects/4711", headers=by_name).json()["project_id"] == number
    assert admin.call("GET", f"/projects/{number}").json()["name"] == "4711"
    assert admin.call("GET", "/projects/4711", headers={"X-Is-Resource-Name": "false"}).status == 404
    assert admin.call("GET", "/projects/4711", headers={"X-Is-Resource-Name": "perhaps"}).status == 400
    assert admin.do("updateProject", {"project_name": "renamed"}, project_name_or_id=number).status == 400


def test_a_cache_has_no_tags_of_its_own(admin: Api) -> None:
    (upstream,) = admin.do("listRegistries").json()
    assert admin.do("createProject", {"project_name": "tags-hub", "registry_id": upstream["id"]}).status == 201
    path: dict[str, Any] = {"project_name": "tags-hub", "repository_name": "library/redis", "reference": "latest"}
    assert admin.do("createTag", {"name": "mine"}, **path).status == 403


def test_tags_and_what_they_are_chosen_by(admin: Api, house: House) -> None:
    admin.do("createProject", {"project_name": "tags"})
    registry = Registry(house.host, ADMIN, PASSWORD)
    registry.push_image("tags/app", "v1", single("tags one"))
    registry.push_image("tags/app", "v2", single("tags two"))
    path: dict[str, Any] = {"project_name": "tags", "repository_name": "app"}

    def chosen(q: str) -> list[list[str]]:
        answer = admin.do("listArtifacts", query={"q": q}, **path)
        assert answer.status == 200, answer
        return [[tag["name"] for tag in one["tags"]] for one in answer.json()]

    assert chosen("tags=*") == [["v2"], ["v1"]]
    assert chosen("tags=nil") == []
    assert chosen("tags=v1") == [["v1"]]
    assert chosen("tags=v") == []
    assert chosen("type=IMAGE") == [["v2"], ["v1"]]
    assert chosen("type=CHART") == []
    assert admin.do("listArtifacts", query={"q": "labels=(1 2)"}, **path).status == 400
    assert admin.do("listArtifacts", query={"with_tag": False}, **path).json()[0].get("tags") is None
    assert admin.do("createTag", {"name": "not a tag"}, **path, reference="v1").status == 400
    assert admin.do("deleteTag", **path, reference="v1", tag_name="v2").status == 404


@pytest.mark.parametrize("spelled", ["deep%252Fer%252Fapp", "deep%2Fer%2Fapp"])
def test_a_name_with_slashes(admin: Api, house: House, spelled: str) -> None:
    admin.do("createProject", {"project_name": "slashes"})
    Registry(house.host, ADMIN, PASSWORD).push_image("slashes/deep/er/app", "v1", single("slashes"))
    answer = admin.call("GET", f"/projects/slashes/repositories/{spelled}/artifacts/v1")
    assert answer.json()["repository_name"] == "slashes/deep/er/app"
    link = answer.json()["addition_links"]["build_history"]["href"].partition("/api/v2.0")[2]
    assert admin.call("GET", link).json()[0]["created_by"]


def test_a_password_is_changed_with_the_old_one(house: House, ann: Api) -> None:
    number = house.add_person("changing")
    own = Api(house.host, "changing", PASSWORD)
    body = {"old_password": "not this one", "new_password": "another password"}
    assert own.do("setPassword", body, user_id=number).status == 403
    assert own.do("setPassword", {**body, "old_password": PASSWORD}, user_id=number).status == 200
    assert Api(house.host, "changing", "another password").do("getCurrentUser").status == 200
    assert ann.do("setPassword", body, user_id=number).status == 403
