"""The operators' rule on which names a mirror serves: in words, before the upstream is asked, and for the cache too."""

from __future__ import annotations

import subprocess

import pytest

from tests.parts.process import command
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client
from .conftest import Make


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("good/miner-2", "**/miner*"),
        ("library/miner", "**/miner*"),
        ("miner", "**/miner*"),
        ("other/app", "library/*, {good,better}/**"),
    ],
)
async def test_what_is_not_allowed_is_denied_before_the_upstream_is_asked(
    hub: Hub, client: Client, admin: Client, make: Make, name: str, rule: str
) -> None:
    image = hub.add(make(), name if "/" in name else f"library/{name}", "1")
    for someone in (client, admin):
        for path in ("manifests/1", f"manifests/{image.digest}", f"blobs/{next(iter(image.blobs))}", "tags/list"):
            answer = await someone.ask("GET", f"/v2/ruled/{name}/{path}")
            assert (answer.status, answer.code) == (403, "DENIED"), path
            assert f"ruled/{name if '/' in name else f'library/{name}'}" in answer.words
            assert rule in answer.words
    answer = await client.ask("HEAD", f"/v2/ruled/{name}/manifests/1")
    assert (answer.status, answer.body) == (403, b"")
    assert hub.counters().requests.total() == 0


async def test_what_is_allowed_is_served_and_the_short_name_too(hub: Hub, client: Client, make: Make) -> None:
    for name in ("library/ruled", "good/ruled"):
        await client.pull(f"ruled/{name}", "1", hub.add(make(), name, "1"))
    assert (await client.manifest("ruled/ruled", "1")).status == 200


async def test_a_new_rule_holds_for_what_is_cached(
    hub: Hub, service: Service, client: Client, admin: Client, project: str, make: Make
) -> None:
    image = hub.add(make(sizes=(10,)), "evil/app", "1")
    await client.pull(f"{project}/evil/app", "1", image)
    await client.pull(f"{project}/good/app", "1", hub.add(make(sizes=(10,)), "good/app", "1"))
    layer = image.layers[0]
    mount = f"/v2/lab/mounted/blobs/uploads/?mount={layer}&from={project}/evil/app"

    async def listed() -> list[str]:
        names, at = [], f"/v2/_catalog?n=1&last={project}/"
        for _ in range(2):
            answer = await client.ask("GET", at)
            names += [name for name in answer.document["repositories"] if name.startswith(f"{project}/")]
            at = answer.headers.get("Link", f"<{at}>").split("<")[1].split(">")[0]
        return names

    assert await listed() == [f"{project}/evil/app", f"{project}/good/app"]
    said = change(service, project, "--denied-names", "evil/**", "a?b").stdout
    assert f"changed {project}" in said
    for path in ("manifests/1", f"manifests/{image.digest}", f"blobs/{layer}", "tags/list", f"referrers/{layer}"):
        answer = await client.ask("GET", f"/v2/{project}/evil/app/{path}")
        assert (answer.status, answer.code) == (403, "DENIED"), path
    assert await listed() == [f"{project}/good/app"]
    # Nor does its blob come out of the cache by a mount.
    assert (await admin.ask("POST", mount)).status == 202
    change(service, project, "--denied-names")
    assert (await client.manifest(f"{project}/evil/app", "1")).status == 200
    assert (await admin.ask("POST", mount)).status == 201


def test_a_rule_that_is_no_glob_is_refused_in_one_line(service: Service, project: str) -> None:
    ended = change(service, project, "--allowed-names", "No Name")
    assert ended.returncode == 2
    assert ended.stderr.startswith("registry: allowed_names: 'No Name' is no name or glob")


def change(service: Service, project: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the operators' command to its end."""
    return command("admin", "change-project", project, "--config", str(service.config), *arguments)
