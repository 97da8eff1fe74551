"""What clients do to a project besides pushing and pulling one image."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.conftest import require
from tests.images import Image
from tests.parts import podman, skopeo
from tests.parts.dockerd import Docker
from tests.parts.process import CommandFailed
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.webapi.client import Api

from . import samples
from .plain import Plain
from .table import Crane, Library, Oras, Place

TAG = "1.0.0"


@pytest.fixture
def image(hub: Hub, name: str) -> Image:
    """Docker Hub's ``library/NAME:1.0.0``."""
    return hub.add(images.multi(name, sizes=(2_000, 2_000_000)), f"library/{name}", TAG)


@pytest.fixture
def copier(service: Service, place: Place) -> skopeo.Skopeo:
    """skopeo, logged in."""
    require(skopeo)
    client = skopeo.Skopeo(place.folder)
    user = (f"--username={service.username}", f"--password={service.password}")
    client.run("login", "--tls-verify=false", *user, service.host)
    return client


def requests(service: Service, repository: str) -> list[tuple[str, str, int]]:
    """Read the access log: method, what of the repository was asked for, status."""
    found, prefix = [], f"/v2/{repository}/"
    for line in service.log().splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("path", "").startswith(prefix):
            found.append((entry["method"], entry["path"].removeprefix(prefix).split("/")[0], entry["status"]))
    return found


def sent(service: Service, repository: str) -> list[str]:
    """Name the methods by which bytes of blobs were sent to a repository."""
    return [
        method for method, what, _ in requests(service, repository) if method in ("PATCH", "PUT") and what == "blobs"
    ]


def test_docker_mounts_layers_it_pushed_before(
    service: Service, member: Docker, admin: Plain, image: Image, name: str
) -> None:
    """Into a second repository of the same project docker sends the config alone, the layers are there."""
    source, first, second = f"mirror/library/{name}", f"lab/{name}-a", f"lab/{name}-b"
    member.run("pull", f"{service.host}/{source}:{TAG}")
    pushed = {}
    for repository in (first, second):
        member.run("tag", f"{service.host}/{source}:{TAG}", f"{service.host}/{repository}:{TAG}")
        pushed[repository] = member.run("push", f"{service.host}/{repository}:{TAG}")
    assert f"Mounted from {source}" in pushed[first]
    for repository in (first, second):
        assert pushed[repository].count("Mounted from") == 2
        assert requests(service, repository).count(("POST", "blobs", 201)) == 2
        assert sent(service, repository) == ["PATCH", "PUT"]
        assert admin.pull(repository, TAG).document["config"]["digest"] in image.blobs


def test_two_pushes_at_once_share_a_layer(
    service: Service, member: Docker, admin: Plain, image: Image, name: str, tmp_path: Path
) -> None:
    """Two images on one base, pushed at the same time to two repositories: both are whole."""
    base = f"{service.host}/mirror/library/{name}:{TAG}"
    targets = {}
    for top in ("left", "right"):
        (tmp_path / "Dockerfile").write_text(f"FROM {base}\nCOPY top.txt /srv/top.txt\n")
        (tmp_path / "top.txt").write_text(f"{name} {top}\n")
        targets[top] = f"lab/{name}-{top}"
        member.run("build", "--network=none", f"--tag={service.host}/{targets[top]}:{TAG}", str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda target: member.run("push", f"{service.host}/{target}:{TAG}"), targets.values()))
    left, right = (admin.pull(target, TAG) for target in targets.values())
    assert left.layers[:2] == right.layers[:2]
    assert left.layers[2] != right.layers[2]


def test_docker_says_that_the_password_is_wrong(service: Service, docker: Docker) -> None:
    with pytest.raises(CommandFailed, match="wrong user name or password; check both and log in again"):
        docker.run("login", "--username=mari", "--password=mistyped", service.host)


def test_skopeo_copies_an_index_with_its_children(
    hub: Hub, service: Service, copier: skopeo.Skopeo, admin: Plain, image: Image, name: str
) -> None:
    """All platforms, byte for byte; Docker Hub gave each manifest once, and the copy is another repository's."""
    source, target = f"docker://{service.host}/mirror/library/{name}:{TAG}", f"docker://{service.host}/lab/{name}:all"
    copier.copy(source, target, "--all", "--preserve-digests")
    assert hub.counters().get_manifest == 3
    there = admin.send("GET", f"/v2/lab/{name}/manifests/all")
    assert (there.headers["Docker-Content-Digest"], there.body) == (image.digest, image.payload)
    for platform in images.PLATFORMS:
        assert admin.pull(f"lab/{name}", "all", platform=platform) == image.platform(platform)


def test_skopeo_lists_and_deletes(service: Service, copier: skopeo.Skopeo, image: Image, name: str) -> None:
    source, target = f"docker://{service.host}/mirror/library/{name}:{TAG}", f"docker://{service.host}/lab/{name}"
    for platform, tag in (("amd64", "one"), ("arm64", "two")):
        copier.run(
            f"--override-arch={platform}", "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
            source, f"{target}:{tag}",
        )  # fmt: skip
    assert json.loads(copier.run("list-tags", "--tls-verify=false", target))["Tags"] == ["one", "two"]
    copier.run("delete", "--tls-verify=false", f"{target}:one")
    assert json.loads(copier.run("list-tags", "--tls-verify=false", target))["Tags"] == ["two"]
    with pytest.raises(CommandFailed, match="manifest unknown"):
        copier.run("inspect", "--tls-verify=false", f"{target}:one")
    copier.run("inspect", "--tls-verify=false", f"{target}:two")


def test_podman_searches(service: Service, copier: skopeo.Skopeo, place: Place, image: Image, name: str) -> None:
    """`podman search` reads the catalogue: public repositories, and to who logged in private ones too."""
    require(podman)
    for project in ("lab", "secret"):
        copier.copy(
            f"docker://{service.host}/mirror/library/{name}:{TAG}", f"docker://{service.host}/{project}/{name}:{TAG}"
        )
    client = podman.Podman(place.folder / "p")
    search = ("search", "--tls-verify=false", "--format={{.Name}}")
    assert client.run(*search, f"{service.host}/{name}").split() == [
        f"{service.host}/lab/{name}", f"{service.host}/mirror/library/{name}",
    ]  # fmt: skip
    tags = client.run("search", "--tls-verify=false", "--list-tags", f"{service.host}/lab/{name}")
    assert TAG in tags.split()
    user = (f"--username={service.username}", f"--password={service.password}")
    client.run("login", "--tls-verify=false", *user, service.host)
    assert f"{service.host}/secret/{name}" in client.run(*search, f"{service.host}/{name}").split()


@pytest.mark.timeout(600)
def test_crane_copies_lists_and_deletes(service: Service, place: Place, admin: Plain, image: Image, name: str) -> None:
    crane = Crane(place)
    crane.login(service.username, service.password)
    target = f"{service.host}/lab/{name}"
    crane.run("copy", f"{service.host}/mirror/library/{name}:{TAG}", f"{target}:{TAG}")
    assert crane.run("digest", f"{target}:{TAG}").strip() == image.digest
    assert f"lab/{name}" in crane.run("catalog", service.host).split()
    crane.run("tag", f"{target}:{TAG}", "again")
    assert crane.run("ls", target).split() == [TAG, "again"]
    crane.run("delete", f"{target}:{TAG}")
    assert crane.run("ls", target).split() == ["again"]
    crane.run("delete", f"{target}@{image.digest}")
    assert admin.send("GET", f"/v2/lab/{name}/manifests/again").status == 404


@pytest.mark.timeout(600)
def test_oras_attaches_and_discovers(service: Service, place: Place, image: Image, name: str) -> None:
    """As signatures and bills of materials are kept: an artifact whose subject is the image."""
    oras = Oras(place)
    oras.login(service.username, service.password)
    target = f"{service.host}/lab/{name}:{TAG}"
    oras.run("copy", "--from-plain-http", "--to-plain-http", f"{service.host}/mirror/library/{name}:{TAG}", target)
    for kind in ("sbom", "signature"):
        file = place.folder / f"{kind}.json"
        file.write_text(json.dumps({"of": name, "kind": kind}))
        oras.run(
            "attach", "--plain-http", "--disable-path-validation", f"--artifact-type=application/vnd.test.{kind}",
            target, f"{file}:application/json",
        )  # fmt: skip
    oras.logout()
    discover = ("discover", "--plain-http", "--format=json")
    shown = json.loads(oras.run(*discover, "--artifact-type=application/vnd.test.sbom", target))
    (sbom,) = shown["referrers"]
    assert sbom["artifactType"] == "application/vnd.test.sbom"
    assert len(json.loads(oras.run(*discover, target))["referrers"]) == 2
    layout = place.folder / "sbom"
    oras.run("copy", "--from-plain-http", "--to-oci-layout", sbom["reference"], f"{layout}:it")
    blobs = [path.read_bytes() for path in (layout / "blobs/sha256").iterdir()]
    assert (place.folder / "sbom.json").read_bytes() in blobs


def test_helm_lists_versions(hub: Hub, service: Service, place: Place, name: str) -> None:
    hub.add(samples.make("chart", name).image, f"library/{name}", TAG)
    helm = Library(place, "helm")
    helm.pull(f"{service.host}/mirror/library/{name}:{TAG}")
    helm.login(service.username, service.password)
    helm.push(f"{service.host}/lab/charts/{name}:{TAG}")
    assert helm.tags(f"{service.host}/lab/charts/{name}") == [TAG]


@pytest.mark.long
def test_docker_pulls_what_was_restored(
    service: Service, member: Docker, copier: skopeo.Skopeo, image: Image, name: str
) -> None:
    """Deleted by skopeo with its platforms, refused to docker, restored by one call, and pulled as it was."""
    repository, address = f"lab/{name}", f"{service.host}/lab/{name}:{TAG}"
    copier.copy(f"docker://{service.host}/mirror/library/{name}:{TAG}", f"docker://{address}", "--all")
    member.run("pull", address)
    was = member.run("inspect", "--format={{.Id}}", address)
    member.run("rmi", address)
    api = Api(service.host, service.username, service.password)
    path: dict[str, Any] = {"project_name": "lab", "repository_name": name, "reference": TAG}
    assert api.do("deleteArtifact", **path).status == 200
    with pytest.raises(CommandFailed, match=r"manifest unknown|not found"):
        member.run("pull", address)
    entry = next(one for one in api.do("listBin", project_name_or_id="lab").json() if one["digest"] == image.digest)
    assert (entry["repository_name"], entry["tags"]) == (repository, [TAG])
    answer = api.do("restoreFromBin", project_name_or_id="lab", bin_id=entry["id"])
    assert answer.json() == {"repository_name": repository, "tags": [TAG], "not_restored": []}
    member.run("pull", address)
    assert member.run("inspect", "--format={{.Id}}", address) == was
