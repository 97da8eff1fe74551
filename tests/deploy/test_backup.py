"""The command of the role `backup`, on a real service with PostgreSQL, to a folder and to a real S3 server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
import yaml

from app.database.quotas import ROW_BYTES
from app.registry.garbage_collection import GRACE_SECONDS
from tests.api.client import Registry, basic, exchange, expect
from tests.conftest import require
from tests.images import Image, single
from tests.parts import rclone
from tests.parts.postgres import Postgres
from tests.parts.process import ROOT, run
from tests.parts.service import Service
from tests.parts.weed import ObjectStore
from tests.upstream.client import Hub

_COMMAND = ROOT / "ansible/roles/backup/files/usr/local/sbin/registry-backup"
_PART = {"database.dump", "configuration.tar.gz", "blobs", "SHA256SUMS"}

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


class Target(Protocol):
    """Where copies go, behind the command's back."""

    settings: Mapping[str, Any]

    def files(self) -> set[str]: ...
    def read(self, path: str) -> bytes: ...
    def write(self, path: str, data: bytes) -> None: ...
    def remove(self, path: str) -> None: ...


class Folder:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.settings: Mapping[str, Any] = {"folder": str(root), "s3": None}

    def files(self) -> set[str]:
        return {str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file()}

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        (self._root / path).write_bytes(data)

    def remove(self, path: str) -> None:
        (self._root / path).unlink()


class Bucket:
    def __init__(self, store: ObjectStore, name: str) -> None:
        self._client, self._name = store.client(), name
        self._client.create_bucket(Bucket=name)
        self.settings: Mapping[str, Any] = {
            "folder": None,
            "s3": {
                "bucket": name, "prefix": "a/site", "endpoint": store.endpoint_url, "region": store.region,
                "access_key_id": store.access_key_id,
            },
        }  # fmt: skip

    def files(self) -> set[str]:
        found = self._client.list_objects_v2(Bucket=self._name).get("Contents", ())
        return {entry["Key"].removeprefix("a/site/") for entry in found}

    def read(self, path: str) -> bytes:
        data: bytes = self._client.get_object(Bucket=self._name, Key=f"a/site/{path}")["Body"].read()
        return data

    def write(self, path: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._name, Key=f"a/site/{path}", Body=data)

    def remove(self, path: str) -> None:
        self._client.delete_object(Bucket=self._name, Key=f"a/site/{path}")


class Site:
    """A service, and the command with its settings."""

    def __init__(self, service: Service, url: str, target: Target, folder: Path, secret: str) -> None:
        self.service, self.target, self._folder = service, target, folder
        self.blobs = service.folder / "data/blobs"
        self.admin = Registry(service.host, service.username, service.password)
        parts = urlsplit(url)
        self.database = parts.path.strip("/")
        self._environment = {"PGHOST": "127.0.0.1", "PGPORT": str(parts.port), "PGUSER": "postgres"}
        (folder / "s3-secret").write_text(f"{secret}\n")
        (folder / "etc/credentials").mkdir(parents=True)
        for name in ("config.yaml", "credentials/secret-key", "web.key"):
            (folder / "etc" / name).write_text(name)
        self.metric = folder / "registry-backup.prom"
        self.settings: dict[str, Any] = {
            **target.settings, "keep_days": 14, "database": self.database, "blobs": str(self.blobs),
            "metric": str(self.metric), "configuration": [str(folder / "etc"), str(folder / "not there")],
        }  # fmt: skip

    def command(self, *arguments: str, **changed: Any) -> subprocess.CompletedProcess[str]:
        file = self._folder / "settings.json"
        file.write_text(json.dumps({**self.settings, **changed}))
        return subprocess.run(
            [sys.executable, str(_COMMAND), "--settings", str(file), *arguments],
            capture_output=True, text=True, timeout=200, check=False,
            env={**os.environ, **self._environment, "CREDENTIALS_DIRECTORY": str(self._folder)},
        )  # fmt: skip

    def does(self, *arguments: str, **changed: Any) -> str:
        done = self.command(*arguments, **changed)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def refuses(self, words: str, *arguments: str, **changed: Any) -> None:
        done = self.command(*arguments, **changed)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert "tests-secret" not in done.stderr

    def sql(self, statement: str, database: str | None = None) -> str:
        command = ["psql", "--no-align", "--tuples-only", "--quiet", database or self.database, "--command", statement]
        return run(command, environment=self._environment).strip()

    def push(self, name: str) -> Image:
        image = single(name)
        self.admin.push_image(f"lab/{name}", "1", image)
        return image

    def keys(self, image: Image) -> set[str]:
        """Give the paths of an image's objects at the target."""
        digests = ", ".join(f"'{digest}'" for digest in image.blobs)
        keys = self.sql(f"SELECT object_key FROM blob WHERE digest IN ({digests})").split()
        assert len(keys) == len(image.blobs)
        return {f"blobs/objects/{key[:2]}/{key}" for key in keys}


@pytest.fixture(params=["folder", "s3"])
def site(request: pytest.FixtureRequest, postgres: Postgres, hub: Hub, tmp_path: Path) -> Iterator[Site]:
    require(rclone)
    secret = ""
    target: Target = Folder(tmp_path / "target")
    if request.param == "s3":
        store: ObjectStore = request.getfixturevalue("object_store")
        secret, target = store.secret_access_key, Bucket(store, f"backup-{tmp_path.name.replace('_', '-')}")
    url = postgres.database()
    projects = {"lab": {"public": True}, "mirror": {"public": True, "upstream": "docker.io"}}
    with Service(tmp_path / "site", database=url, upstream=hub.url, overrides={"projects": projects}) as service:
        yield Site(service, url, target, tmp_path, secret)


def test_copies_come_more_often_than_collection_takes_away() -> None:
    most = yaml.safe_load((ROOT / "ansible/roles/backup/vars/main.yml").read_text())["__backup_most_hours"]
    assert most * 3600 < GRACE_SECONDS


def test_everything_comes_back(site: Site, hub: Hub) -> None:
    kept = site.push("kept")
    login = make_robot(site)
    cached = hub.add(single("cached"), "library/cached", "latest")
    site.admin.pull_image("mirror/library/cached", "latest")
    stamp = site.does("run")
    assert site.metric.read_text().splitlines()[-1].startswith("registry_backup_success_seconds 1")
    # Neither the cache nor secrets are copied.
    assert site.target.files() == {f"dumps/{stamp}/{part}" for part in _PART} | site.keys(kept)
    assert packed(site, stamp) == {"etc", "etc/config.yaml"}
    later = site.push("later")
    before = used(site)
    site.service.stop()
    site.sql(f"DROP DATABASE {site.database}", "postgres")
    site.sql(f"CREATE DATABASE {site.database}", "postgres")
    shutil.rmtree(site.blobs / "objects")
    assert site.does("prepare") == f"prepared {stamp}"
    assert site.does("swap") == "swapped"
    site.service.start()
    site.admin.pull_image("lab/kept", "1")
    assert {path.stat().st_mode & 0o777 for path in (site.blobs / "objects").rglob("*") if path.is_file()} == {0o440}
    robot = Registry(site.service.host, *login)
    robot.push_image("lab/by-robot", "1", single("by robot"))
    assert site.admin.manifest("lab/later", "1").status == 404
    assert set(later.blobs) != set(kept.blobs)
    # What the cache had is had again.
    assert set(site.admin.pull_image("mirror/library/cached", "latest")) >= set(cached.blobs)
    assert used(site) == before - cost(later) + cost(single("by robot"))


def test_objects_stay_for_as_long_as_a_copy_names_them(site: Site) -> None:
    first = site.push("first")
    named = site.keys(first)
    oldest = site.does("run")
    forget(site, first)
    site.push("second")
    assert site.does("run") > oldest
    assert named <= site.target.files()
    half = oldest.replace(oldest[:4], "2020")
    site.target.write(f"dumps/{half}/database.dump", b"half")
    newest = site.does("run", keep_days=0)
    left = site.target.files()
    assert {path.split("/")[1] for path in left if path.startswith("dumps")} == {newest}
    assert not named & left
    assert site.keys(single("second")) <= left


def test_what_cannot_be_brought_back_is_refused(site: Site) -> None:
    site.refuses("there is no complete copy in", "prepare")
    site.refuses("nothing is prepared; nothing was changed", "swap")
    image = site.push("kept")
    stamp = site.does("run")
    tables = site.sql("SELECT count(*) FROM manifest")
    site.refuses("no complete copy 2001-01-01T00-00-00Z in", "prepare", "2001-01-01T00-00-00Z")
    object_, dump, sums = min(site.keys(image)), f"dumps/{stamp}/database.dump", f"dumps/{stamp}/SHA256SUMS"
    for path, data, words in (
        (object_, None, "is missing or damaged; nothing was changed"),
        (object_, b"x", "is missing or damaged; nothing was changed"),
        (dump, site.target.read(dump)[:-100], "database.dump in"),
        (sums, None, "there is no complete copy"),
    ):
        whole = site.target.read(path)
        shutil.move(site.blobs / "objects", site.blobs / "kept")
        if data is None:
            site.target.remove(path)
        else:
            site.target.write(path, data)
        site.refuses(words, "prepare")
        site.target.write(path, whole)
        shutil.rmtree(site.blobs / "objects", ignore_errors=True)
        shutil.move(site.blobs / "kept", site.blobs / "objects")
    assert site.sql(f"SELECT datname FROM pg_database WHERE datname = '{site.database}_restored'") == ""
    assert site.sql("SELECT count(*) FROM manifest") == tables
    assert site.does("prepare", stamp) == f"prepared {stamp}"


def test_a_lost_object_is_told_and_the_copy_is_good_for_the_rest(site: Site) -> None:
    lost = min(site.keys(site.push("lost")))
    kept = site.push("kept")
    (site.blobs / lost.removeprefix("blobs/")).unlink()
    done = site.command("run")
    assert done.returncode == 2
    assert "lacks 1 objects that the database names" in done.stderr
    assert not site.metric.exists()
    assert site.keys(kept) <= site.target.files()
    assert len(site.does("list").split()) == 1


def test_a_copy_that_was_cut_off_is_finished_by_the_next(site: Site) -> None:
    image = site.push("kept")
    cut = min(site.keys(image))
    site.target.write(cut, b"half of i")
    site.does("run")
    assert site.target.read(cut) == (site.blobs / cut.removeprefix("blobs/")).read_bytes()


def test_a_target_that_cannot_be_used(site: Site) -> None:
    if site.settings["s3"] is None:
        file = site.service.folder / "file"
        file.write_text("")
        site.refuses("cannot be used", "check", folder=str(file / "folder"))
    else:
        s3 = site.settings["s3"]
        for wrong in ({"access_key_id": "somebody"}, {"endpoint": "http://127.0.0.1:9"}):
            site.refuses("cannot be used", "check", s3={**s3, **wrong})
            site.refuses("cannot be used", "run", s3={**s3, **wrong})
    assert site.does("check") == ""
    assert site.target.files() == set()


# -- what the tests need ----------------------------------------------------------------------------------------------


def make_robot(site: Site) -> tuple[str, str]:
    access = [{"resource": "repository", "action": action} for action in ("pull", "push")]
    body = {
        "name": "ci", "level": "project", "duration": 30,
        "permissions": [{"kind": "project", "namespace": "lab", "access": access}],
    }  # fmt: skip
    login = basic(site.service.username, site.service.password)
    headers = {"Authorization": login, "Content-Type": "application/json"}
    answer = exchange(site.service.host, "POST", "/api/v2.0/robots", json.dumps(body).encode(), headers)
    made = expect(answer, 201).json()
    return made["name"], made["secret"]


def packed(site: Site, stamp: str) -> set[str]:
    """List what the configuration's archive has, from the folder etc on."""
    file = site.metric.with_name("packed.tar.gz")
    file.write_bytes(site.target.read(f"dumps/{stamp}/configuration.tar.gz"))
    with tarfile.open(file) as archive:
        return {name[name.index("etc") :] for name in archive.getnames()}


def used(site: Site) -> int:
    return int(site.sql("SELECT used_bytes FROM project WHERE name = 'lab'"))


def size(image: Image) -> int:
    return sum(map(len, image.blobs.values()))


def cost(image: Image) -> int:
    """Give what a project is charged for an image without annotations, and for its tag."""
    return size(image) + len(image.payload) + len("{}") + ROW_BYTES * (2 + len(image.blobs))


def forget(site: Site, image: Image) -> None:
    """Do at once what collection does a day after an image's deletion."""
    digests = ", ".join(f"'{digest}'" for digest in image.blobs)
    site.sql(
        f"DELETE FROM manifest WHERE digest = '{image.digest}'; DELETE FROM link WHERE digest IN ({digests});"
        f"DELETE FROM blob WHERE digest IN ({digests})"
    )
