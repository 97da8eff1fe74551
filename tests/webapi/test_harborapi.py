"""The PyPI client `harborapi`, unchanged, does its work; what it reads it checks with models made from Harbor's API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from harborapi import HarborAsyncClient
from harborapi.exceptions import BadRequest, Conflict, Forbidden, NotFound, PreconditionFailed, Unauthorized
from harborapi.models import (
    Access,
    Label,
    ProjectMetadata,
    ProjectReq,
    QuotaUpdateReq,
    Repository,
    ResourceList,
    RobotCreate,
    RobotPermission,
    Tag,
)

from tests.api.client import Registry
from tests.images import multi, single
from tests.webapi.house import ADMIN, PASSWORD, House

PULL = Access(resource="repository", action="pull", effect=None)
PUSH = Access(resource="repository", action="push", effect=None)


@asynccontextmanager
async def client(house: House, username: str | None, secret: str | None) -> AsyncIterator[HarborAsyncClient]:
    """Be somebody else for a while."""
    client = HarborAsyncClient(house.url, username, secret, retry=None)
    yield client
    # It leaves its connections open otherwise.
    await client.client.aclose()


@pytest.fixture
async def harbor(house: House) -> AsyncIterator[HarborAsyncClient]:
    async with client(house, ADMIN, PASSWORD) as harbor:
        yield harbor


async def test_it_reads_what_the_system_is(harbor: HarborAsyncClient, house: House) -> None:
    assert await harbor.ping() == "Pong"
    health = await harbor.health_check()
    assert health.status == "healthy"
    assert {part.name for part in health.components or []} == {"database", "storage", "redis"}
    info = await harbor.get_system_info()
    assert info.external_url == f"http://{house.host}"
    volumes = await harbor.get_system_volume_info()
    assert (volumes.storage or [])[0].total
    (registry,) = await harbor.get_registries(name="docker")
    assert registry.name == "docker.io"
    assert await harbor.get_registry(registry.id or 0) == registry
    permissions = await harbor.get_permissions()
    assert ("repository", "pull") in {(one.resource, one.action) for one in permissions.project or []}


async def test_it_makes_changes_and_deletes_a_project(harbor: HarborAsyncClient) -> None:
    location = await harbor.create_project(
        ProjectReq(project_name="chem", public=False, metadata=ProjectMetadata(public="false"), storage_limit=1_000_000)
    )
    assert location == "/api/v2.0/projects/chem"
    assert await harbor.project_exists("chem")
    assert not await harbor.project_exists("alchemy")
    project = await harbor.get_project("chem")
    assert project.metadata is not None
    assert (project.name, project.metadata.public, project.owner_name) == ("chem", "false", ADMIN)
    assert (await harbor.get_project(project.project_id or 0)).name == "chem"
    assert [one.name for one in await harbor.get_projects(name="hem")] == ["chem"]
    assert [one.name for one in await harbor.get_projects(query="name=chem,public=false")] == ["chem"]
    with pytest.raises(Conflict):
        await harbor.create_project(ProjectReq(project_name="chem"))
    await harbor.update_project("chem", ProjectReq(metadata=ProjectMetadata(public="true")))
    project = await harbor.get_project("chem")
    assert project.metadata is not None
    assert project.metadata.public == "true"
    summary = await harbor.get_project_summary("chem")
    assert summary.quota is not None
    assert summary.quota.hard == ResourceList({"storage": 1_000_000})
    assert (summary.project_admin_count, summary.repo_count) == (1, 0)
    assert (await harbor.get_project_deletable("chem")).deletable is True
    await harbor.delete_project("chem")
    with pytest.raises(NotFound) as refused:
        await harbor.get_project("chem")
    assert [error.code for error in refused.value.errors] == ["NOT_FOUND"]


async def test_it_follows_the_links_between_pages(harbor: HarborAsyncClient) -> None:
    names = [f"paged-{number:02}" for number in range(25)]
    for name in names:
        await harbor.create_project(ProjectReq(project_name=name))
    assert [one.name for one in await harbor.get_projects(query="name=~paged-", sort="-name")] == names[::-1]
    assert [one.name for one in await harbor.get_projects(query="name=~paged-", page_size=7, limit=9)] == names[:9]


async def test_it_keeps_members(harbor: HarborAsyncClient, house: House) -> None:
    number = house.add_person("mary")
    await harbor.create_project(ProjectReq(project_name="club"))
    await harbor.add_project_member_user("club", "mary", 2)
    await harbor.add_project_member_group("club", "staff@ut.ee", 3)
    members = {one.entity_name: one for one in await harbor.get_project_members("club")}
    assert {name: (one.entity_type, one.role_id, one.role_name) for name, one in members.items()} == {
        ADMIN: ("u", 1, "projectAdmin"),
        "mary": ("u", 2, "developer"),
        "staff@ut.ee": ("g", 3, "guest"),
    }
    assert members["mary"].entity_id == number
    await harbor.update_project_member_role("club", members["mary"].id or 0, 4)
    assert (await harbor.get_project_member("club", members["mary"].id or 0)).role_name == "maintainer"
    with pytest.raises(Conflict):
        await harbor.add_project_member_user("club", number, 1)
    await harbor.remove_project_member("club", members["mary"].id or 0)
    assert [one.entity_name for one in await harbor.get_project_members("club", entity_name="mar")] == []


async def test_it_makes_a_robot_that_pushes(harbor: HarborAsyncClient, house: House) -> None:
    await harbor.create_project(ProjectReq(project_name="works", public=False))
    permissions = [RobotPermission(kind="project", namespace="works", access=[PULL, PUSH])]
    robot = RobotCreate(name="ci", description="builds", level="project", duration=30, permissions=permissions)
    made = await harbor.create_robot(robot)
    assert made.name == "robot-works+ci"
    image = single("robot")
    Registry(house.host, made.name, made.secret or "").push_image("works/app", "v1", image)
    found = await harbor.get_robot(made.id or 0)
    assert (found.duration, found.disable, found.level) == (30, False, "project")
    project = await harbor.get_project("works")
    listed = await harbor.get_robots(query=f"Level=project,ProjectID={project.project_id}")
    assert [one.name for one in listed] == [made.name]
    # What came back is sent back with one change, as Harbor's clients do.
    found.disable = True
    await harbor.update_robot(made.id or 0, found)
    again = await harbor.get_robot(made.id or 0)
    assert (again.disable, again.expires_at) == (True, found.expires_at)
    found.disable = False
    await harbor.update_robot(made.id or 0, found)
    secret = await harbor.refresh_robot_secret(made.id or 0, "")
    assert secret.secret not in (None, made.secret)
    async with client(house, made.name, made.secret) as before, client(house, made.name, secret.secret) as now:
        with pytest.raises(Unauthorized):
            await before.get_current_user()
        assert (await now.get_current_user()).username == made.name
        await harbor.delete_robot(made.id or 0)
        with pytest.raises(Unauthorized):
            await now.get_current_user()


async def test_it_reads_and_deletes_what_was_pushed(harbor: HarborAsyncClient, house: House) -> None:
    await harbor.create_project(ProjectReq(project_name="images"))
    registry = Registry(house.host, ADMIN, PASSWORD)
    name, both, alone = "tools/deep/shell", multi("both"), single("alone")
    registry.push_image(f"images/{name}", "multi", both)
    registry.push_image(f"images/{name}", "plain", alone)
    (repository,) = await harbor.get_repositories("images")
    assert (repository.name, repository.artifact_count) == (f"images/{name}", 2)
    assert f"images/{name}" in [one.name for one in await harbor.get_repositories(query="name=~deep")]
    await harbor.update_repository("images", name, Repository(description="shells"))
    assert (await harbor.get_repository("images", name)).description == "shells"

    artifacts = {one.digest: one for one in await harbor.get_artifacts("images", name)}
    assert set(artifacts) == {both.digest, alone.digest}
    assert [one.name for one in artifacts[alone.digest].tags or []] == ["plain"]
    assert artifacts[alone.digest].size == alone.size + len(alone.payload)
    tagged = await harbor.get_artifacts("images", name, query="tags=~plai")
    assert [one.digest for one in tagged] == [alone.digest]
    index = await harbor.get_artifact("images", name, "multi")
    platforms = [one.platform for one in index.references or []]
    assert {one.architecture for one in platforms if one} == {"amd64", "arm64"}
    found = await harbor.get_artifact("images", name, alone.digest, with_label=True, with_accessory=True)
    assert (found.labels, found.accessories) == ([], [])
    assert found.extra_attrs is not None
    assert (found.extra_attrs.root or {})["architecture"] == "amd64"
    assert await harbor.get_artifact_build_history("images", name, "plain")

    assert "tags/second" in await harbor.create_artifact_tag("images", name, "plain", Tag(name="second"))
    assert [one.name for one in await harbor.get_artifact_tags("images", name, alone.digest)] == ["plain", "second"]
    await harbor.delete_artifact_tag("images", name, "plain", "second")
    assert [one.name for one in await harbor.get_artifact_tags("images", name, alone.digest)] == ["plain"]

    with pytest.raises(PreconditionFailed):
        await harbor.delete_project("images")
    await harbor.delete_artifact("images", name, "plain")
    with pytest.raises(NotFound):
        await harbor.get_artifact("images", name, alone.digest)
    await harbor.delete_repository("images", name)
    with pytest.raises(NotFound):
        await harbor.get_repository("images", name)
    await harbor.delete_project("images")


async def test_it_labels(harbor: HarborAsyncClient, house: House) -> None:
    await harbor.create_project(ProjectReq(project_name="labels"))
    project = await harbor.get_project("labels")
    image = single("labelled")
    Registry(house.host, ADMIN, PASSWORD).push_image("labels/app", "v1", image)
    location = await harbor.create_label(
        Label(name="stable", color="#00aa00", scope="p", project_id=project.project_id, description="may be used")
    )
    (label,) = await harbor.get_labels(scope="p", project_id=project.project_id)
    assert location == f"/api/v2.0/labels/{label.id}"
    label.description = "may be used by all"
    await harbor.update_label(label.id or 0, label)
    assert await harbor.get_label(label.id or 0) == label
    await harbor.add_artifact_label("labels", "app", "v1", label)
    found = await harbor.get_artifact("labels", "app", "v1", with_label=True)
    assert [one.name for one in found.labels or []] == ["stable"]
    chosen = await harbor.get_artifacts("labels", "app", query=f"labels=({label.id})", with_label=True)
    assert [one.digest for one in chosen] == [image.digest]
    await harbor.delete_artifact_label("labels", "app", "v1", label.id or 0)
    assert await harbor.get_artifacts("labels", "app", query=f"labels=({label.id})") == []
    await harbor.delete_label(label.id or 0)
    with pytest.raises(NotFound):
        await harbor.get_label(label.id or 0)


async def test_it_sets_quotas(harbor: HarborAsyncClient) -> None:
    await harbor.create_project(ProjectReq(project_name="room"))
    project = await harbor.get_project("room")
    quota = await harbor.get_quota(project.project_id or 0)
    assert quota.used == ResourceList({"storage": 0})
    await harbor.update_quota(quota.id or 0, QuotaUpdateReq(hard=ResourceList({"storage": 5000})))
    (listed,) = await harbor.get_quotas(reference="project", reference_id=str(project.project_id))
    assert listed.hard == ResourceList({"storage": 5000})
    assert len(await harbor.get_quotas(sort="-used.storage", page_size=100)) >= 1


async def test_it_finds_people(harbor: HarborAsyncClient, house: House) -> None:
    number = house.add_person("zoe")
    assert [one.user_id for one in await harbor.search_users_by_username("zoe")] == [number]
    assert (await harbor.get_user_by_username("zoe")).user_id == number
    assert "zoe" in [one.username for one in await harbor.get_users(sort="username", page_size=100)]
    await harbor.set_user_admin(number, True)
    assert (await harbor.get_user(number)).sysadmin_flag is True
    await harbor.set_user_admin(number, False)
    await harbor.set_user_password(number, "another password", "")
    async with client(house, "zoe", "another password") as own:
        assert (await own.get_current_user()).user_id == number
        assert await own.get_current_user_permissions() == []
        with pytest.raises(Forbidden):
            await own.get_users()
    await harbor.delete_user(number)
    with pytest.raises(NotFound):
        await harbor.get_user(number)


async def test_it_counts_searches_and_reads_the_log(harbor: HarborAsyncClient, house: House) -> None:
    await harbor.create_project(ProjectReq(project_name="seen", public=True))
    Registry(house.host, ADMIN, PASSWORD).push_image("seen/thing", "v1", single("seen"))
    counts = await harbor.get_statistics()
    assert (counts.public_project_count or 0) >= 1
    assert counts.total_storage_consumption is not None
    found = await harbor.search("seen")
    assert [one.name for one in found.project or []] == ["seen"]
    assert [one.repository_name for one in found.repository or []] == ["seen/thing"]
    house.write_notes()
    logs = await harbor.get_project_logs("seen")
    assert ("create", "project", "seen", ADMIN) in [
        (one.operation, one.resource_type, one.resource, one.username) for one in logs
    ]
    assert [
        one.operation for one in await harbor.get_audit_logs(query="operation=create,resource_type=project", limit=1)
    ]


async def test_its_mistakes_are_told(harbor: HarborAsyncClient, house: House) -> None:
    for call in (
        harbor.get_projects(sort="colour"),
        harbor.get_projects(query="colour=red"),
        harbor.get_projects(page_size=101),
    ):
        with pytest.raises(BadRequest) as refused:
            await call
        assert [error.code for error in refused.value.errors] == ["BAD_REQUEST"]
    async with client(house, ADMIN, "wrong password") as stranger:
        with pytest.raises(Unauthorized):
            await stranger.get_current_user()
