"""Clients that know Docker Hub pull from the upstream as it is, with nothing of ours between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import images
from tests.conftest import require
from tests.parts import buildah, ctr, distribution, dockerd, podman, skopeo
from tests.parts.dockerd import Docker
from tests.parts.process import CommandFailed
from tests.upstream.client import Hub

NAME = "library/app"


@pytest.fixture(scope="module")
def mirrored(hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A Docker engine that takes Docker Hub's images from the upstream."""
    require(dockerd)
    with dockerd.dockerd(tmp_path_factory.mktemp("mirrored"), mirrors=[hub_process.url]) as docker:
        yield docker


@pytest.fixture(params=["oci", "docker"])
def image(hub: Hub, request: pytest.FixtureRequest) -> images.Image:
    # Each test's own: an engine keeps manifests for a while after their image was removed.
    return hub.add(images.multi(request.node.name, style=request.param), NAME, "1")


def config_of(image: images.Image) -> str:
    """Name the image's id: the digest of the config of its amd64 child."""
    return str(image.platform("linux/amd64").document["config"]["digest"])


def test_docker_pulls_by_its_address(hub: Hub, mirrored: Docker, image: images.Image) -> None:
    name = f"{hub.host}/{NAME}:1"
    mirrored.forget(name, f"app@{image.digest}")
    mirrored.run("pull", name)
    assert mirrored.run("image", "inspect", "--format={{.Id}}", name).strip() == config_of(image)
    counters = hub.counters()
    assert counters.get_manifest == 2
    assert set(counters.blob_gets) == set(image.platform("linux/amd64").blobs)
    mirrored.forget(name)


def test_docker_takes_it_for_docker_hub(hub: Hub, mirrored: Docker, image: images.Image) -> None:
    mirrored.forget("app:1")
    mirrored.run("pull", "app:1")
    assert mirrored.run("image", "inspect", "--format={{.Id}}", "app:1").strip() == config_of(image)
    assert hub.counters().get_manifest == 2
    mirrored.forget("app:1")


def test_what_docker_unpacked_is_there(hub: Hub, mirrored: Docker, tmp_path: Path) -> None:
    """The files of every layer come out of a container of the image."""
    hub.add(images.multi("unpacked"), NAME, "1")
    mirrored.run("pull", f"{hub.host}/{NAME}:1")
    container = mirrored.run("create", "--network=none", f"{hub.host}/{NAME}:1").strip()
    mirrored.run("cp", f"{container}:/srv", str(tmp_path))
    mirrored.run("rm", container)
    assert len(list((tmp_path / "srv").glob("*.note"))) == 2


def test_docker_is_told_of_the_limit(hub: Hub, mirrored: Docker) -> None:
    hub.add(images.multi("limited"), NAME, "1")
    hub.leave(0)
    with pytest.raises(CommandFailed, match="toomanyrequests"):
        mirrored.run("pull", f"{hub.host}/{NAME}:1")


def test_docker_with_an_account(hub: Hub, mirrored: Docker) -> None:
    secret = hub.add(images.multi("secret"), "library/secret", "1", readers=["mari"])
    hub.account("mari", "maripass")
    name = f"{hub.host}/library/secret:1"
    with pytest.raises(CommandFailed, match="denied"):
        mirrored.run("pull", name)
    mirrored.run("login", "--username=mari", "--password=maripass", hub.host)
    mirrored.run("pull", name)
    mirrored.run("logout", hub.host)
    assert mirrored.run("image", "inspect", "--format={{.Id}}", name).strip() == config_of(secret)


def test_docker_cannot_push(hub: Hub, mirrored: Docker, image: images.Image) -> None:
    name = f"{hub.host}/{NAME}:1"
    mirrored.run("pull", name)
    mirrored.run("tag", name, f"{hub.host}/{NAME}:mine")
    with pytest.raises(CommandFailed, match="denied"):
        mirrored.run("push", f"{hub.host}/{NAME}:mine")


def test_skopeo_copies_all_platforms(hub: Hub, image: images.Image, tmp_path: Path) -> None:
    require(skopeo)
    client = skopeo.Skopeo(tmp_path / "client")
    client.copy(f"docker://{hub.host}/{NAME}:1", f"dir:{tmp_path}/out", "--all", "--preserve-digests")
    assert (tmp_path / "out/manifest.json").read_bytes() == image.payload
    for digest, data in image.blobs.items():
        assert (tmp_path / "out" / digest.removeprefix("sha256:")).read_bytes() == data
    assert hub.counters().get_manifest == 3


def test_podman_pulls(hub: Hub, image: images.Image, tmp_path: Path) -> None:
    require(podman)
    client = podman.Podman(tmp_path)
    assert client.pull(f"{hub.host}/{NAME}:1").split()[-1] == config_of(image).removeprefix("sha256:")


def test_buildah_pulls(hub: Hub, image: images.Image, tmp_path: Path) -> None:
    require(buildah)
    client = buildah.Buildah(tmp_path)
    assert client.pull(f"{hub.host}/{NAME}:1").split()[-1] == config_of(image).removeprefix("sha256:")


def test_ctr_pulls(hub: Hub, mirrored: Docker, image: images.Image) -> None:
    require(ctr)
    client = ctr.Ctr(mirrored.containerd)
    client.pull(f"{hub.host}/{NAME}:1")
    assert image.digest in client.run("images", "list")


def test_another_cache_pulls_through(hub: Hub, image: images.Image, tmp_path: Path) -> None:
    """Debian's docker-registry, as a cache of the upstream, gives skopeo the same bytes cold and warm."""
    require(distribution)
    require(skopeo)
    client = skopeo.Skopeo(tmp_path / "client")
    with distribution.distribution(tmp_path / "registry", upstream=hub.url) as cache:
        for turn in ("cold", "warm"):
            client.copy(f"docker://{cache.host}/{NAME}:1", f"dir:{tmp_path}/{turn}")
            layout = json.loads((tmp_path / turn / "manifest.json").read_text())
            assert layout == image.platform("linux/amd64").document
    assert set(hub.counters().blob_gets) == set(image.platform("linux/amd64").blobs)
