"""A running registry takes over what Debian's docker-registry has stored, and a client pulls it by its old name."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.images import Image, multi, single
from tests.parts import distribution, skopeo
from tests.parts.distribution import Distribution
from tests.parts.harbor import KEY, Folder, Harbor
from tests.parts.postgres import Postgres
from tests.parts.process import command
from tests.parts.service import Service
from tests.parts.skopeo import Skopeo

from .scene import SECRET

NAMES = {"lab/app": ("v1", multi("moved")), "lab/tool": ("latest", single("tool"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("old")


@pytest.fixture(scope="module")
def old(folder: Path) -> Iterator[Distribution]:
    require(distribution)
    with distribution.distribution(folder) as running:
        yield running


@pytest.fixture
def harbor(postgres: Postgres, folder: Path) -> Iterator[Harbor]:
    harbor = Harbor(postgres.database(), Folder(folder / "data"))
    yield harbor
    harbor.close()


def push(host: str, name: str, image: Image, tag: str) -> None:
    """Push an image to a registry without access control."""
    for digest, data in image.blobs.items():
        location = _send(host, "POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
        path = "/" + location.split("/", 3)[3] if "://" in location else location
        assert _send(host, "PUT", f"{path}&digest={digest}", data).status == 201
    for digest, (media_type, payload) in sorted(image.manifests.items(), key=lambda one: one[0] == image.digest):
        reference = tag if digest == image.digest else digest
        assert _send(host, "PUT", f"/v2/{name}/manifests/{reference}", payload, media_type).status == 201


def _send(
    host: str, method: str, path: str, body: bytes = b"", media_type: str = "application/octet-stream"
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request(method, path, body, {"Content-Type": media_type})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def record(harbor: Harbor, project: int, name: str, image: Image, tag: str) -> None:
    """Note in Harbor's database what was pushed."""
    for digest, data in image.blobs.items():
        harbor.record_blob(digest, len(data))
    for digest, (media_type, payload) in image.manifests.items():
        harbor.record_blob(digest, len(payload))
        harbor.record(project, name, digest, media_type, *([tag] if digest == image.digest else []))


def test_a_client_pulls_what_was_moved_and_takes_it_back(
    folder: Path, old: Distribution, harbor: Harbor, tmp_path: Path
) -> None:
    require(skopeo)
    lab = harbor.add_project("lab")
    harbor.add_robot("lab+ci", SECRET, [(f"/project/{lab}", right) for right in ("repository:pull", "repository:push")],
                     project=lab)  # fmt: skip
    for name, (tag, image) in NAMES.items():
        push(old.host, name, image, tag)
        record(harbor, lab, name, image, tag)
    place = {"database_url": harbor.url, "driver": "filesystem", "folder": str(folder / "data"),
             "secret_key": KEY}  # fmt: skip
    client, login = Skopeo(tmp_path / "skopeo"), f"robot$lab+ci:{SECRET}"
    with Service(tmp_path / "service", overrides={"harbor": place}) as service:
        told = command("move-in", "--config", str(service.config), timeout=60).stdout
        assert "Nothing differs." in told, told
        for name, (tag, image) in NAMES.items():
            copied = tmp_path / name.replace("/", "-")
            client.copy(f"docker://{service.host}/{name}:{tag}", f"dir:{copied}", "--all", f"--src-creds={login}")
            manifest = (copied / "manifest.json").read_bytes()
            assert hashlib.sha256(manifest).hexdigest() == image.digest.partition(":")[2]
        assert not [path for path in (service.folder / "data/blobs/objects").rglob("*") if path.is_file()]
        # The way back: an image pushed here meanwhile.
        new = single("pushed meanwhile")
        source = tmp_path / "new"
        push(old.host, "elsewhere", new, "new")
        client.copy(f"docker://{old.host}/elsewhere:new", f"dir:{source}")
        client.copy(f"dir:{source}", f"docker://{service.host}/lab/new:v9", f"--dest-creds={login}")
        client.copy(
            f"docker://{service.host}/lab/new:v9", f"docker://{old.host}/lab/new:v9",
            "--all", "--preserve-digests", f"--src-creds={login}",
        )  # fmt: skip
        there = client.run("inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{old.host}/lab/new:v9")
        assert there.strip() == new.digest
        assert service.faults() == []
