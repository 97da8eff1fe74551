"""Engines that are set up to ask the mirror for what other registries have, with the logins that they have there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests import images
from tests.conftest import require
from tests.images import Image
from tests.parts import ctr, dockerd, logins, podman, skopeo
from tests.parts.dockerd import Docker
from tests.parts.process import wait_for
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.webapi.client import Api

from .kinds import layout_config
from .samples import config_of, paid_once
from .table import Place

TAG = "1.0.0"
# Nobody listens there: a client that falls back on Docker Hub itself gets no further.
NOWHERE = "http://127.0.0.1:9"
MIRRORS = {"docker.io": "mirror", "quay.io": "quay", "ghcr.io": "ghcr"}
LOGIN = ("hubuser", "dckr_pat_of_docker_hub")
USER = (f"--user={':'.join(LOGIN)}",)


@pytest.fixture(scope="module")
def stand_ins(hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Hub]]:
    """A strict upstream for each registry that is mirrored, by the registry's name."""
    with Hub(tmp_path_factory.mktemp("quay")) as quay, Hub(tmp_path_factory.mktemp("ghcr")) as ghcr:
        yield {"docker.io": hub_process, "quay.io": quay, "ghcr.io": ghcr}


@pytest.fixture(scope="module")
def service(stand_ins: Mapping[str, Hub], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A mirror of each stand-in; http://localhost:PORT is Docker Hub's alone."""
    overrides = {
        "upstreams": {registry: {"url": stand_in.url} for registry, stand_in in stand_ins.items()},
        "projects": {project: {"upstream": registry} for registry, project in MIRRORS.items()},
        "hosts": {"localhost": "mirror"},
    }
    with Service(tmp_path_factory.mktemp("service"), processes=2, overrides=overrides) as service:
        yield service


@pytest.fixture
def image(hub: Hub, name: str) -> Image:
    """Docker Hub's ``library/NAME:1.0.0``."""
    return hub.add(images.multi(name), f"library/{name}", TAG)


# dockerd


@pytest.fixture(scope="module")
def mirrored(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """An engine whose registry-mirrors name the service: it asks there for what Docker Hub has."""
    require(dockerd)
    mirror = f"http://localhost:{service.host.rpartition(':')[2]}"
    with dockerd.dockerd(tmp_path_factory.mktemp("mirrored"), mirrors=[mirror]) as docker:
        yield docker


def test_registry_mirrors(hub: Hub, mirrored: Docker, image: Image, name: str) -> None:
    """Docker's registry-mirrors, which is told nothing but a host: by tag and, what is cached now, by digest."""
    mirrored.run("pull", f"{name}:{TAG}")
    assert mirrored.run("images", "--no-trunc", "--quiet", f"{name}:{TAG}").strip() == config_of(image)
    mirrored.forget(f"{name}:{TAG}", f"{name}@{image.digest}")
    mirrored.run("pull", f"{name}@{image.digest}")
    paid_once(hub, image)


def test_registry_mirrors_of_a_namespace(hub: Hub, mirrored: Docker, name: str) -> None:
    image = hub.add(images.multi(name, style="docker"), f"someone/{name}", TAG)
    mirrored.run("pull", f"someone/{name}:{TAG}")
    assert mirrored.run("images", "--no-trunc", "--quiet", f"someone/{name}:{TAG}").strip() == config_of(image)
    paid_once(hub, image)


@pytest.mark.parametrize("ours", [False, True], ids=["nobody-here", "an-account-of-ours"])
def test_registry_mirrors_with_a_login_to_docker_hub(
    hub: Hub, service: Service, mirrored: Docker, image: Image, name: str, *, ours: bool
) -> None:
    """Docker sends it to the mirror. Where its name is also one of ours, the wrong password is noted, and no more."""
    username = f"hubuser-{name}"
    api = Api(service.host, service.username, service.password)
    if ours:
        assert api.do("createUser", {"username": username, "password": "of-this-registry"}).status == 201
    logins.write(mirrored.logins, logins.DOCKER_HUB, username, LOGIN[1])
    try:
        mirrored.run("pull", f"{name}:{TAG}")
    finally:
        mirrored.logins.unlink()
    assert mirrored.run("images", "--no-trunc", "--quiet", f"{name}:{TAG}").strip() == config_of(image)
    paid_once(hub, image)
    if ours:
        query = {"q": f"operation=refuse,text=~{username}"}
        wait_for(lambda: api.do("listAuditLogs", query=query).json(), what="the refusal in the audit log")


# containerd


@pytest.mark.parametrize(
    ("path", "options"),
    [("", {}), ("/mirror/v2", {"override_path": True})],
    ids=["root-with-ns", "override-path"],
)
def test_containerd_hosts(
    hub: Hub, service: Service, place: Place, image: Image, name: str, path: str, options: dict[str, bool]
) -> None:
    """containerd's hosts.toml for one registry: the image keeps the name it has on Docker Hub."""
    require(ctr)
    lines = [f'server = "{NOWHERE}"', f'[host."{service.url}{path}"]', 'capabilities = ["pull", "resolve"]']
    lines += [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    hosts = place.folder / "hosts/docker.io/hosts.toml"
    hosts.parent.mkdir(parents=True)
    hosts.write_text("\n".join(lines))
    client = ctr.Ctr(place.docker().containerd)
    target = f"docker.io/library/{name}:{TAG}"
    client.run("images", "pull", f"--hosts-dir={hosts.parents[1]}", "--platform=linux/amd64", target)
    assert image.digest in client.run("images", "list", f"name=={target}")
    paid_once(hub, image)


def hosts_for_all(folder: Path, url: str) -> str:
    """Write containerd's one file for all registries; give the option that names its folder."""
    hosts = folder / "hosts/_default/hosts.toml"
    hosts.parent.mkdir(parents=True)
    hosts.write_text(f'[host."{url}"]\n  capabilities = ["pull", "resolve"]\n')
    return f"--hosts-dir={hosts.parents[1]}"


@pytest.mark.parametrize(
    ("path", "user"), [("", ()), ("", USER), ("/v2", USER)], ids=["nobody", "logged-in-elsewhere", "by-k3s"]
)
def test_containerd_with_one_file_for_all_registries(
    stand_ins: Mapping[str, Hub], service: Service, place: Place, name: str, path: str, user: tuple[str, ...]
) -> None:
    """One name, and another image in each registry. k3s makes the same file from its registries.yaml, with a path."""
    require(ctr)
    client = ctr.Ctr(place.docker().containerd)
    hosts = hosts_for_all(place.folder, service.url + path)
    added = {}
    for registry, stand_in in stand_ins.items():
        stand_in.reset()
        stand_in.limit(None)
        added[registry] = stand_in.add(images.multi(f"{registry} {name}"), f"library/{name}", TAG)
    for registry, image in added.items():
        target = f"{registry}/library/{name}:{TAG}"
        client.run("images", "pull", hosts, "--platform=linux/amd64", *user, target)
        assert image.digest in client.run("images", "list", f"name=={target}")
        for one in (image, image.platform("linux/amd64")):
            assert client.run("content", "get", one.digest) == one.payload.decode()
    for registry, stand_in in stand_ins.items():
        paid_once(stand_in, added[registry])


@pytest.mark.parametrize("user", [(), USER], ids=["nobody", "logged-in-there"])
def test_containerd_asks_a_registry_that_is_not_mirrored_itself(
    service: Service, place: Place, name: str, tmp_path: Path, user: tuple[str, ...]
) -> None:
    """A login reaches the registry that it is for: only who has it may pull this image."""
    require(ctr)
    with Hub(tmp_path) as elsewhere:
        elsewhere.account(*LOGIN)
        image = elsewhere.add(images.multi(name), f"library/{name}", TAG, readers=[LOGIN[0]] if user else None)
        client = ctr.Ctr(place.docker().containerd)
        target = f"{elsewhere.host}/library/{name}:{TAG}"
        hosts = hosts_for_all(place.folder, service.url)
        client.run("images", "pull", hosts, "--platform=linux/amd64", *user, target)
        assert image.digest in client.run("images", "list", f"name=={target}")
        paid_once(elsewhere, image)
    assert f'"path": "/v2/library/{name}/manifests/{TAG}", "status": 404' in service.log()


# podman and skopeo


def in_its_place(host: str) -> str:
    return f'[[registry]]\nprefix = "docker.io"\nlocation = "{host}/mirror"\ninsecure = true\n'


def before_it(host: str) -> str:
    return f'[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "{host}/mirror"\ninsecure = true\n'


def test_registries_conf(hub: Hub, service: Service, place: Place, image: Image, name: str) -> None:
    """What podman, buildah and skopeo read: Docker Hub is to be had below the mirror's name."""
    require(skopeo)
    conf = place.folder / "registries.conf"
    conf.write_text(in_its_place(service.host))
    target = place.folder / "layout"
    skopeo.Skopeo(place.folder).run(f"--registries-conf={conf}", "copy", f"docker://{name}:{TAG}", f"oci:{target}:it")
    assert layout_config(target) == config_of(image)
    paid_once(hub, image)


@pytest.mark.parametrize("conf", [in_its_place, before_it])
def test_podman_with_a_login_to_docker_hub(
    hub: Hub, service: Service, place: Place, image: Image, name: str, conf: Callable[[str], str]
) -> None:
    require(podman)
    client = podman.Podman(place.folder / "p", registries=conf(service.host))
    logins.write(client.logins, "docker.io", *LOGIN)
    target = f"docker.io/library/{name}:{TAG}"
    client.run("pull", target)
    assert client.run("images", "--no-trunc", "--quiet", target).strip() == config_of(image)
    paid_once(hub, image)
