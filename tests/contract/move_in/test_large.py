"""A Harbor of 200 projects, 2,000 repositories and 20,000 artifacts, in a folder and in S3, is moved in.

The command is killed 20 times. Then a running registry answers for each tag, to the robot account of its project.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.database import Database
from app.database.migrate import migrate
from tests.api.client import Registry, digest_of, expect
from tests.parts.harbor import KEY, Bucket, Folder, Harbor, Place
from tests.parts.postgres import Postgres
from tests.parts.process import ROOT, python
from tests.parts.service import Service
from tests.parts.weed import ObjectStore

from .scene import SECRET, state_of

PROJECTS, REPOSITORIES, IMAGES = 200, 10, 6
KILLS = 20


def fill(harbor: Harbor) -> None:
    """Give each repository six images, two indexes of them, a signature and a chart, with layers in common."""
    people = [harbor.add_user(f"person-{number}") for number in range(50)]
    for number in range(PROJECTS):
        project = harbor.add_project(
            f"project-{number}", owner=people[number % 50], public=str(number % 2 == 0).lower()
        )
        harbor.add_robot(f"project-{number}+ci", SECRET, [(f"/project/{project}", "repository:pull")], project=project)
        for repository in range(REPOSITORIES):
            name = f"project-{number}/app-{repository}"
            images = [
                harbor.image(project, name, f"{name} {image}", f"v{image}", shared=b"base of %d" % (image % 3))
                for image in range(IMAGES)
            ]
            harbor.index(project, name, images[:2], "multi")
            harbor.index(project, name, images[2:4])
            harbor.signature(project, name, images[0])
            harbor.chart(project, name, "chart")


@dataclass(frozen=True)
class Shape:
    """A place for Harbor's blobs with its section of the configuration, and our own stores by the folders' names."""

    place: Place
    section: dict[str, Any]
    buckets: Mapping[str, Mapping[str, Any]]
    client: Any = None

    def own_bytes(self, folder: Path) -> list[Any]:
        """List the objects that the registry in this folder has stored."""
        if self.client is None:
            return [path for path in (folder / "data/blobs").rglob("*") if path.is_file()]
        return list(self.client.list_objects_v2(Bucket=folder.name).get("Contents") or [])

    def settings(self, folder: Path) -> dict[str, Any]:
        own = self.buckets.get(folder.name)
        storage = {"driver": "s3", "s3": dict(own)} if own is not None else {"driver": "filesystem"}
        return {"access": {"secret_key": "k" * 32}, "storage": storage}


class Mover:
    """A registry that moves the Harbor in by the command, as an operator does."""

    def __init__(self, folder: Path, url: str, harbor: Harbor, shape: Shape) -> None:
        folder.mkdir()
        self.url, self.folder = url, folder
        (folder / "data").mkdir()
        known = {"database_url": harbor.url, "secret_key": KEY, **shape.section}
        self.settings = shape.settings(folder) | {"harbor": known}
        content = {"data_dir": str(folder / "data"), "database": {"url": url}, **self.settings}
        (folder / "config.yaml").write_text(yaml.safe_dump(content))

    def start(self) -> subprocess.Popen[str]:
        config = str(self.folder / "config.yaml")
        command = python("-m", "app", "move-in", "--config", config, "--people", "{username}@ut.ee")
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self) -> str:
        process = self.start()
        told, complaint = process.communicate(timeout=1800)
        assert process.returncode == 0, complaint
        return told

    async def state(self) -> dict[str, list[tuple[Any, ...]]]:
        database = Database(self.url)
        state = await state_of(database)
        await database.close()
        return state


def ask_for_every_tag(service: Service, harbor: Harbor) -> int:
    """Pull the manifest of each tag as the robot account of its project, with its old secret; return how many."""
    named: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    statement = (
        "SELECT r.name, t.name, a.digest FROM tag t JOIN artifact a ON a.id = t.artifact_id "
        "JOIN repository r ON r.repository_id = t.repository_id"
    )
    for repository, tag, digest in harbor.execute(statement):
        named[repository.partition("/")[0]].append((repository, tag, digest))

    def ask(project: str) -> int:
        robot = Registry(service.host, f"robot${project}+ci", SECRET)
        for repository, tag, digest in named[project]:
            assert digest_of(expect(robot.manifest(repository, tag), 200).body) == digest, (repository, tag)
        return len(named[project])

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(ask, named))


@pytest.fixture(params=["folder", "s3"])
def shape(request: pytest.FixtureRequest, tmp_path: Path) -> Shape:
    if request.param == "folder":
        root = tmp_path / "harbor"
        return Shape(Folder(root), {"driver": "filesystem", "folder": str(root)}, {})
    store: ObjectStore = request.getfixturevalue("object_store")
    theirs, *ours = (store.bucket(name) for name in ("harbor", "killed", "whole"))
    own = dict(zip(("killed", "whole"), ours, strict=True))
    return Shape(Bucket(store.client(), "harbor"), {"driver": "s3", "s3": theirs}, own, store.client())


@pytest.mark.long
@pytest.mark.timeout(5400)
async def test_killed_at_random_points_it_comes_out_the_same(postgres: Postgres, shape: Shape, tmp_path: Path) -> None:
    harbor = Harbor(postgres.database(), shape.place)
    began = time.monotonic()
    fill(harbor)
    print(f"filled in {time.monotonic() - began:.0f} s")
    movers = []
    for name in ("killed", "whole"):
        url = postgres.database()
        await migrate(url)
        movers.append(Mover(tmp_path / name, url, harbor, shape))
    killed, whole = movers
    began = time.monotonic()
    told = whole.run()
    seconds = time.monotonic() - began
    print(f"moved in {seconds:.0f} s\n{told}")
    assert f"artifacts: {PROJECTS * REPOSITORIES * (IMAGES + 4)} new" in told
    assert "Nothing differs." in told
    chance = random.Random(14)
    for _ in range(KILLS):
        process = killed.start()
        await asyncio.sleep(1 + chance.random() * seconds / KILLS * 2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert "Nothing differs." in killed.run()
    state = await killed.state()
    assert state == await whole.state()
    began = time.monotonic()
    assert " new" not in killed.run().partition("The same on both sides")[0]
    print(f"a run without changes: {time.monotonic() - began:.0f} s")
    assert await killed.state() == state
    for number in range(PROJECTS):
        project = harbor.execute("SELECT project_id FROM project WHERE name = %s", f"project-{number}")[0][0]
        harbor.image(project, f"project-{number}/app-0", f"later {number}", "v0", "later")
    began = time.monotonic()
    told = killed.run()
    print(f"a run with {PROJECTS} pushes: {time.monotonic() - began:.0f} s")
    assert f"artifacts: {PROJECTS} new" in told
    assert "Nothing differs." in told
    began = time.monotonic()
    with Service(tmp_path / "serving", processes=2, database=killed.url, overrides=killed.settings) as service:
        count = await asyncio.to_thread(ask_for_every_tag, service, harbor)
        assert service.faults() == []
    print(f"{count} tags asked for in {time.monotonic() - began:.0f} s")
    assert count == PROJECTS * (REPOSITORIES * (IMAGES + 2) + 1)
    for mover in movers:
        assert not shape.own_bytes(mover.folder), "no byte was copied"
    harbor.close()
