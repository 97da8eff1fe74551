"""What Harbor's clients read after a move, from the oldest Harbor in a folder and from the newest one in S3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harborapi import HarborAsyncClient
from pydantic import BaseModel

from tests.parts.harbor import KEY, NEW, OLD, Bucket, Folder, Harbor, Place
from tests.parts.postgres import Postgres
from tests.parts.process import python, run
from tests.parts.service import Service
from tests.parts.weed import ObjectStore

from .scene import fill

# Numbers and times differ between two Harbors, and the others say where the registry is.
_PASSING = ("id", "_id", "_time", "_at", "ref", "href", "secret")


def lasting(value: Any) -> Any:
    """Leave out what differs between two Harbors that were filled alike."""
    if isinstance(value, BaseModel):
        return lasting(json.loads(value.model_dump_json()))
    if isinstance(value, Mapping):
        return {name: lasting(one) for name, one in value.items() if not name.endswith(_PASSING)}
    return [lasting(one) for one in value] if isinstance(value, list) else value


async def seen(service: Service) -> dict[str, Any]:
    """Read everything of record by the client, as an administrator."""
    client = HarborAsyncClient(f"{service.url}/api/v2.0", service.username, service.password, retry=None)
    found: dict[str, Any] = {}
    try:
        projects = [one for one in await client.get_projects(sort="name") if one.name in ("inner", "lab")]
        for project in projects:
            name = str(project.name)
            retention = project.metadata.retention_id if project.metadata else None
            found[name] = {
                "project": project,
                "summary": await client.get_project_summary(name),
                "members": sorted(json.dumps(lasting(one)) for one in await client.get_project_members(name)),
                "rules": await client.get_project_immutable_tag_rules(name),
                "retention": await client.get_retention_policy(int(retention)) if retention else None,
                "webhooks": await client.get_webhook_policies(name),
                "labels": await client.get_labels(scope="p", project_id=project.project_id),
                "robots": await client.get_robots(query=f"Level=project,ProjectID={project.project_id}", sort="name"),
                "log": await client.get_project_logs(name, sort="op_time"),
            }
            for repository in await client.get_repositories(name, sort="name"):
                full = str(repository.name)
                inside = full.partition("/")[2]
                artifacts = await client.get_artifacts(name, inside, with_label=True, with_accessory=True)
                found[full] = [repository, sorted((lasting(one) for one in artifacts), key=lambda one: one["digest"])]
        found["people"] = sorted(json.dumps(lasting(one)) for one in await client.get_users())
        found["robots"] = await client.get_robots(sort="name")
    finally:
        await client.client.aclose()
    return {name: lasting(value) for name, value in found.items()}


async def moved(postgres: Postgres, version: int, place: Place, section: dict[str, Any], folder: Path) -> Any:
    """Fill a Harbor of this version, move it in by the command, and read what clients see."""
    with closing(Harbor(postgres.database(), place, version=version)) as harbor:
        fill(harbor)
        known = {"database_url": harbor.url, "secret_key": KEY, **section}
        with Service(folder, overrides={"harbor": known}) as service:
            command = ("-m", "app", "move-in", "--config", str(service.config), "--people", "{username}@ut.ee")
            assert "Nothing differs." in run(python(*command), timeout=120)
            return await seen(service)


@pytest.mark.long
async def test_a_client_of_harbor_reads_the_same_from_both_shapes(
    postgres: Postgres, object_store: ObjectStore, tmp_path: Path
) -> None:
    bucket = object_store.bucket("both-shapes")
    old = await moved(
        postgres, OLD, Folder(tmp_path / "old"), {"driver": "filesystem", "folder": str(tmp_path / "old")},
        tmp_path / "from-old",
    )  # fmt: skip
    new = await moved(
        postgres, NEW, Bucket(object_store.client(), "both-shapes"), {"driver": "s3", "s3": dict(bucket)},
        tmp_path / "from-new",
    )  # fmt: skip
    assert old == new
    lab = old["lab"]
    assert (lab["summary"]["quota"]["hard"], lab["summary"]["repo_count"]) == ({"storage": 10**9}, 1)
    assert lab["project"]["metadata"]["public"] == "true"
    assert {json.loads(one)["entity_name"]: json.loads(one)["role_name"] for one in lab["members"]} == {
        "mari@ut.ee": "projectAdmin", "juri": "developer", "staff": "guest",
    }  # fmt: skip
    assert [one["name"] for one in lab["robots"]] == ["robot$lab+ci", "robot$lab+off", "robot$lab+old"]
    assert [one["name"] for one in lab["webhooks"]] == ["chat"]
    assert [one["name"] for one in lab["labels"]] == ["release"]
    assert lab["rules"][0]["tag_selectors"][0]["pattern"] == "v1"
    assert lab["retention"]["rules"][0]["params"] == {"latestPushedK": 10}
    assert [one["resource"] for one in lab["log"]] == ["lab/app:v1"]
    repository, artifacts = old["lab/app"]
    assert (repository["description"], repository["pull_count"]) == ("about lab/app", 3)
    tags = sorted(tag["name"] for one in artifacts for tag in one["tags"] or [])
    assert tags == ["both", "latest", "v1", "v2"]
