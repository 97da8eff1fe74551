"""What clients do with a mirror besides pulling one image by tag, and what they tell the one who took a wrong way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import images
from tests.conftest import require
from tests.images import Image
from tests.parts import buildah, skopeo
from tests.parts.dockerd import Docker
from tests.parts.process import CommandFailed
from tests.parts.service import Service
from tests.upstream.client import Hub

from .plain import Plain
from .samples import config_of, paid_once
from .table import ROWS, Place, Row

TAG = "1.0.0"
IN_WORDS = "Docker Hub has no 'redis'; its official images are under library/: pull mirror/library/redis"


@pytest.fixture
def image(hub: Hub, name: str) -> Image:
    """Docker Hub's ``library/NAME:1.0.0``."""
    return hub.add(images.multi(name), f"library/{name}", TAG)


def test_docker_pulls_by_digest(hub: Hub, service: Service, docker: Docker, image: Image, name: str) -> None:
    """An index that no tag led to, and then one of its children, which is cached by then."""
    repository = f"{service.host}/mirror/library/{name}"
    docker.run("pull", f"{repository}@{image.digest}")
    child = image.platform("linux/amd64")
    docker.run("pull", f"{repository}@{child.digest}")
    assert docker.run("images", "--no-trunc", "--quiet", f"{repository}@{child.digest}").strip() == config_of(image)
    paid_once(hub, image)


def test_docker_inspects_all_platforms(hub: Hub, service: Service, docker: Docker, image: Image, name: str) -> None:
    """`docker manifest inspect` shows the index as Docker Hub has it, and asks for each child and its config."""
    shown = docker.run("manifest", "inspect", "--insecure", f"{service.host}/mirror/library/{name}:{TAG}")
    assert json.loads(shown)["manifests"] == image.document["manifests"]
    configs = [image.platform(platform).document["config"]["digest"] for platform in images.PLATFORMS]
    assert dict(hub.counters().blob_gets) == dict.fromkeys(configs, 1)


def test_skopeo_inspects_without_the_layers(
    hub: Hub, service: Service, tmp_path: Path, image: Image, name: str
) -> None:
    require(skopeo)
    shown = skopeo.Skopeo(tmp_path).run(
        "inspect", "--tls-verify=false", f"docker://{service.host}/mirror/library/{name}:{TAG}"
    )
    assert json.loads(shown)["Layers"] == image.platform("linux/amd64").layers
    assert json.loads(shown)["RepoTags"] == [TAG]
    assert set(hub.counters().blob_gets) == {config_of(image)}


def test_docker_builds_on_it(
    hub: Hub, service: Service, member: Docker, tmp_path: Path, image: Image, name: str
) -> None:
    """FROM the mirror, push to a project, and what is pulled back has the files of both."""
    (tmp_path / "note.txt").write_text("on top\n")
    base = f"{service.host}/mirror/library/{name}:{TAG}"
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\nCOPY note.txt /srv/note.txt\n")
    built = f"{service.host}/lab/{name}:built"
    member.run("build", "--network=none", f"--tag={built}", str(tmp_path))
    paid_once(hub, image)
    member.run("push", built)
    member.forget(built, base)
    member.run("pull", built)
    container = member.run("create", "--network=none", built).strip()
    member.run("cp", f"{container}:/srv", str(tmp_path / "out"))
    member.run("rm", container)
    assert (tmp_path / "out/note.txt").read_text() == "on top\n"
    assert len(list((tmp_path / "out").glob("*.bin"))) == len(image.platform("linux/amd64").layers)


def test_buildah_builds_on_it(hub: Hub, service: Service, place: Place, image: Image, name: str) -> None:
    require(buildah)
    base = f"{service.host}/mirror/library/{name}:{TAG}"
    (place.folder / "Containerfile").write_text(f"FROM {base}\nLABEL built=here\n")
    client = buildah.Buildah(place.folder / "b")
    client.run("bud", "--isolation=chroot", "--tls-verify=false", "--tag=built", str(place.folder))
    assert "built" in client.run("images")
    paid_once(hub, image)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_official_image_without_library(place: Place, row: Row) -> None:
    """Every client is refused, and all but these three show the registry's own words."""
    words = {"ctr": "401 Unauthorized", "regctl": "unauthorized", "helm": "401"}
    with pytest.raises(CommandFailed, match=words.get(row.name, IN_WORDS)):
        row.make(place).pull(f"{place.host}/mirror/redis:latest")


def test_the_refusal_has_a_challenge(admin: Plain) -> None:
    """A 401 without one is none (RFC 9110, 15.5.2), and it names no error: Docker would show words of its own."""
    reply = admin.send("GET", "/v2/mirror/redis/manifests/latest")
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith("Bearer realm=")
    assert "error=" not in reply.headers["WWW-Authenticate"]


def test_nothing_can_be_pushed_there(service: Service, member: Docker, image: Image, name: str) -> None:
    theirs = f"{service.host}/mirror/library/{name}"
    member.run("pull", f"{theirs}:{TAG}")
    member.run("tag", f"{theirs}:{TAG}", f"{theirs}:mine")
    with pytest.raises(CommandFailed, match="push to a project of your own"):
        member.run("push", f"{theirs}:mine")


def test_out_of_budget(hub: Hub, docker: Docker, tmp_path: Path, image: Image, name: str) -> None:
    """Docker prints why it gets nothing new, and goes on getting what is cached."""
    hub.add(images.multi(f"{name}-other"), f"library/{name}-other", TAG)
    hub.limit(3)
    with Service(tmp_path, upstream=hub.url) as service:
        cached = f"{service.host}/mirror/library/{name}:{TAG}"
        docker.run("pull", cached)
        docker.forget(cached)
        with pytest.raises(CommandFailed, match=r"toomanyrequests: docker\.io gives this registry 3 pulls in 6 h"):
            docker.run("pull", f"{service.host}/mirror/library/{name}-other:{TAG}")
        docker.run("pull", cached)
