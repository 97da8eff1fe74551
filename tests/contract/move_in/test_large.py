"""A Harbor of 200 projects, 2,000 repositories and 20,000 artifacts in S3; the command is killed 20 times."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.database import Database
from app.database.migrate import migrate
from tests.parts.harbor import KEY, Bucket, Harbor
from tests.parts.postgres import Postgres
from tests.parts.process import ROOT, python
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


class Mover:
    """A registry that moves the Harbor in by the command, as an operator does."""

    def __init__(self, folder: Path, url: str, harbor: Harbor, theirs: Mapping[str, Any], ours: Mapping[str, Any]):
        folder.mkdir()
        self.url, self._folder = url, folder
        (folder / "data").mkdir()
        content = {
            "data_dir": str(folder / "data"),
            "database": {"url": url},
            "access": {"secret_key": "k" * 32},
            "storage": {"driver": "s3", "s3": dict(ours)},
            "harbor": {"database_url": harbor.url, "driver": "s3", "s3": dict(theirs), "secret_key": KEY},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(content))

    def start(self) -> subprocess.Popen[str]:
        config = str(self._folder / "config.yaml")
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


@pytest.mark.long
@pytest.mark.timeout(5400)
async def test_killed_at_random_points_it_comes_out_the_same(
    postgres: Postgres, object_store: ObjectStore, tmp_path: Path
) -> None:
    theirs, killed_bucket, whole_bucket = (object_store.bucket(name) for name in ("harbor", "killed", "whole"))
    harbor = Harbor(postgres.database(), Bucket(object_store.client(), "harbor"))
    began = time.monotonic()
    fill(harbor)
    print(f"filled in {time.monotonic() - began:.0f} s")
    movers = []
    for name, bucket in (("killed", killed_bucket), ("whole", whole_bucket)):
        url = postgres.database()
        await migrate(url)
        movers.append(Mover(tmp_path / name, url, harbor, theirs, bucket))
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
    for kept in ("killed", "whole"):
        assert not object_store.client().list_objects_v2(Bucket=kept).get("Contents"), "no byte was copied"
    began = time.monotonic()
    assert " new" not in killed.run().partition("The same on both sides")[0]
    print(f"a run without changes: {time.monotonic() - began:.0f} s")
    assert await killed.state() == state
    for number in range(PROJECTS):
        project = harbor.execute("SELECT project_id FROM project WHERE name = %s", f"project-{number}")[0][0]
        harbor.image(project, f"project-{number}/app-0", f"later {number}", "v0", "later")
    told = killed.run()
    assert f"artifacts: {PROJECTS} new" in told
    assert "Nothing differs." in told
    harbor.close()
