"""One row per client.

engines     docker podman buildah        images in a store of their own, unpacked
containerd  ctr                          the same, with credentials on each command
copiers     skopeo crane oras regctl     an OCI layout in a folder
libraries   oras-py helm                 one file
plain       the demo's own               in memory
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require
from tests.parts import buildah, ctr, dockerd, podman, skopeo
from tests.parts.process import python, run

from . import gotools
from .kinds import Client, Containerd, Copier, Engine, PlainClient, SkopeoCopier
from .samples import Carries


@dataclass(frozen=True)
class Place:
    """Where a client works: the registry's HOST:PORT, a folder of its own, and the engine, started when asked for."""

    host: str
    folder: Path
    docker: Callable[[], dockerd.Docker]


@dataclass(frozen=True)
class Row:
    name: str
    make: Callable[[Place], Client]
    carries: Carries = "image"


class GoTool(Copier):
    """What the three have in common; without Go there is none of them, and that is no failure anywhere."""

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place.host, place.folder)
        binary, reason = gotools.install(name)
        if reason is not None:
            pytest.skip(reason)
        self._binary = str(binary)

    def run(self, *arguments: str) -> str:
        folder = self._folder / "config"
        environment = {"DOCKER_CONFIG": str(folder), "REGCTL_CONFIG": str(folder / "regctl.json")}
        return run([self._binary, *arguments], environment=environment)


class Crane(GoTool):
    def __init__(self, place: Place) -> None:
        super().__init__(place, "crane")

    def login(self, username: str, password: str) -> None:
        self.run("auth", "login", f"--username={username}", f"--password={password}", self._host)

    def logout(self) -> None:
        self.run("auth", "logout", self._host)

    def fetch(self, reference: str) -> None:
        self.run("pull", "--platform=linux/amd64", "--format=oci", reference, str(self._layout))

    def send(self, reference: str) -> None:
        self.run("push", str(self._layout), reference)


class Oras(GoTool):
    def __init__(self, place: Place) -> None:
        super().__init__(place, "oras")

    def login(self, username: str, password: str) -> None:
        self.run("login", "--plain-http", f"--username={username}", f"--password={password}", self._host)

    def logout(self) -> None:
        self.run("logout", self._host)

    def fetch(self, reference: str) -> None:
        layout = ("--to-oci-layout", reference, f"{self._layout}:it")
        self.run("copy", "--from-plain-http", "--platform=linux/amd64", *layout)

    def send(self, reference: str) -> None:
        self.run("copy", "--to-plain-http", "--from-oci-layout", f"{self._layout}:it", reference)


class Regctl(GoTool):
    def __init__(self, place: Place) -> None:
        super().__init__(place, "regctl")
        self.run("registry", "set", "--tls=disabled", self._host)

    def login(self, username: str, password: str) -> None:
        self.run("registry", "login", f"--user={username}", f"--pass={password}", self._host)

    def logout(self) -> None:
        self.run("registry", "logout", self._host)

    def fetch(self, reference: str) -> None:
        self.run("image", "copy", "--platform=linux/amd64", reference, f"ocidir://{self._layout}:it")

    def send(self, reference: str) -> None:
        self.run("image", "copy", f"ocidir://{self._layout}:it", reference)


class Library(Client):
    """A library from PyPI that moves one file."""

    def __init__(self, place: Place, name: str) -> None:
        self._host, self._name = place.host, name
        self._home, self._files = place.folder, place.folder / "files"

    def login(self, username: str, password: str) -> None:
        self._run("login", username, password)

    def logout(self) -> None:
        self._run("logout")

    def pull(self, reference: str) -> str:
        shutil.rmtree(self._files, ignore_errors=True)
        self._files.mkdir()
        self._run("pull", reference, str(self._files))
        return f"sha256:{hashlib.sha256(self._file.read_bytes()).hexdigest()}"

    def push(self, reference: str) -> None:
        # Helm takes name and version from the chart, and wants what stands before them.
        target = reference.rpartition("/")[0] if self._name == "helm" else reference
        self._run("push", target, str(self._file))

    def tags(self, repository: str) -> list[str]:
        """List a repository's tags; Helm's alone."""
        return self._run("tags", repository).split()

    @property
    def _file(self) -> Path:
        (file,) = self._files.iterdir()
        return file

    def _run(self, verb: str, *arguments: str) -> str:
        return run(python("-m", "tests.clients.library", self._name, verb, str(self._home), self._host, *arguments))


def _docker(place: Place) -> Client:
    return Engine(place.host, place.docker().run)


def _podman(place: Place) -> Client:
    require(podman)
    return Engine(place.host, podman.Podman(place.folder).run, "--tls-verify=false")


def _buildah(place: Place) -> Client:
    require(buildah)
    return Engine(place.host, buildah.Buildah(place.folder).run, "--tls-verify=false")


def _ctr(place: Place) -> Client:
    require(ctr)
    return Containerd(ctr.Ctr(place.docker().containerd))


def _skopeo(place: Place) -> Client:
    require(skopeo)
    return SkopeoCopier(place.host, place.folder)


ROWS = (
    Row("docker", _docker),
    Row("podman", _podman),
    Row("buildah", _buildah),
    Row("ctr", _ctr),
    Row("skopeo", _skopeo),
    Row("crane", Crane),
    Row("oras", Oras),
    Row("regctl", Regctl),
    Row("oras-py", lambda place: Library(place, "oras"), "file"),
    Row("helm", lambda place: Library(place, "helm"), "chart"),
    Row("plain", lambda place: PlainClient(place.host)),
)
