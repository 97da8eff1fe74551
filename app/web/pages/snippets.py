"""The set-up of each client to pull through the mirror, as in docs/clients.md, with this host's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .texts import mark


@dataclass(frozen=True, slots=True)
class Snippet:
    """A text to copy. ``about`` is a text of the catalogue; ``file`` is the file to write (empty: a command line)."""

    about: str
    text: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """One client's set-up."""

    name: str
    snippets: Sequence[Snippet]


def ways(external_url: str, mirror: str, mirror_url: str | None) -> Sequence[Way]:
    """List the set-up of each client.

    ``mirror`` is the project that mirrors Docker Hub. ``mirror_url`` is the address of a host that serves this mirror
    at its root, as Docker's registry-mirrors needs, or None.
    """
    host = external_url.partition("://")[2].rstrip("/")
    at = f"{host}/{mirror}"
    return (
        _docker(at, mirror_url),
        _containerd(external_url),
        _podman(at),
        _k3s(external_url, host),
        _apptainer(at, host),
        _gitlab(at, host),
    )


def _docker(at: str, mirror_url: str | None) -> Way:
    once = Snippet(mark("Pull one image"), f"docker pull {at}/library/redis:7")
    build = Snippet(mark("Build on one"), f"FROM {at}/library/alpine:3.20", "Dockerfile")
    if mirror_url is None:
        return Way("Docker", (once, build))
    every = Snippet(
        mark("For every Docker Hub image, by its usual name; restart Docker afterwards"),
        f'{{"registry-mirrors": ["{mirror_url}"]}}',
        "/etc/docker/daemon.json",
    )
    return Way("Docker", (once, build, every))


def _containerd(external_url: str) -> Way:
    hosts = f"""\
[host."{external_url.rstrip("/")}"]
  capabilities = ["pull", "resolve"]"""
    config = """\
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d\""""
    return Way(
        "containerd",
        (
            Snippet(
                mark("For every registry that is mirrored here; containerd asks the others itself"),
                hosts,
                "/etc/containerd/certs.d/_default/hosts.toml",
            ),
            Snippet(
                mark("If containerd does not read that folder yet; restart containerd afterwards"),
                config,
                "/etc/containerd/config.toml",
            ),
        ),
    )


def _podman(at: str) -> Way:
    every = f"""\
[[registry]]
location = "docker.io"

[[registry.mirror]]
location = "{at}\""""
    return Way(
        "podman",
        (
            Snippet(mark("Pull one image"), f"podman pull {at}/library/redis:7"),
            Snippet(
                mark("For every Docker Hub image; if the mirror fails, Docker Hub is asked"),
                every,
                "/etc/containers/registries.conf.d/mirror.conf",
            ),
        ),
    )


def _k3s(external_url: str, host: str) -> Way:
    mirrors = f"""\
mirrors:
  docker.io:
    endpoint:
      - "{external_url.rstrip("/")}\""""
    login = f"""\
configs:
  "{host}":
    auth: {{username: NAME, password: SECRET}}"""
    path = "/etc/rancher/k3s/registries.yaml"
    return Way(
        "k3s",
        (
            Snippet(mark("On every node; restart k3s afterwards"), mirrors, path),
            Snippet(mark("For private projects, in the same file: a robot account"), login, path),
        ),
    )


def _apptainer(at: str, host: str) -> Way:
    return Way(
        "Apptainer",
        (
            Snippet(mark("Pull one image"), f"apptainer pull docker://{at}/library/python:3.12"),
            Snippet(mark("Log in for private projects"), f"apptainer registry login --username NAME docker://{host}"),
        ),
    )


def _gitlab(at: str, host: str) -> Way:
    test = f"""\
test:
  image: {at}/library/python:3.12
  services:
    - name: {at}/library/postgres:16
      alias: postgres
  script: pytest"""
    publish = f"""\
publish:
  image: {{name: "{at}/library/docker:27", entrypoint: [""]}}
  services:
    - name: {at}/library/docker:27-dind
      alias: docker
  script:
    - echo "$REGISTRY_PASSWORD" | docker login --username "$REGISTRY_USER" --password-stdin {host}
    - docker build --tag "{host}/PROJECT/app:$CI_COMMIT_SHORT_SHA" .
    - docker push "{host}/PROJECT/app:$CI_COMMIT_SHORT_SHA\""""
    return Way(
        "GitLab CI",
        (
            Snippet(mark("Test with images from the mirror"), test, ".gitlab-ci.yml"),
            Snippet(
                mark("Build and push, with a robot account in two masked variables of the project"),
                publish,
                ".gitlab-ci.yml",
            ),
        ),
    )
