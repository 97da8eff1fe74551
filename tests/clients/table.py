"""One row per client: how it logs in, pulls and pushes, and by what it knows what it has pulled.

    engines   docker podman buildah    images in a store of their own, unpacked
              ctr                      containerd, credentials on each command
    copiers   skopeo crane oras regctl an OCI layout in a folder
    libraries oras-py helm             one file
    plain                              the demo's own, in memory
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.images import Image
from tests.parts import buildah, ctr, dockerd, podman, skopeo
from tests.parts.process import python, run

from . import gotools
from .plain import Plain
from .samples import Carries


class Client(ABC):
    """A client with credentials and images of its own; what fails raises CommandFailed with what it printed."""

    @abstractmethod
    def login(self, username: str, password: str) -> None: ...

    @abstractmethod
    def logout(self) -> None: ...

    @abstractmethod
    def pull(self, reference: str) -> str:
        """Fetch anew, nothing of it at hand; give the `Sample.identity` of what came."""

    @abstractmethod
    def push(self, reference: str) -> None:
        """Push what was pulled last under another name."""


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


class Engine(Client):
    """The commands that docker, podman and buildah have in common."""

    def __init__(self, host: str, command: Callable[..., str], *insecure: str) -> None:
        self._host, self._run, self._insecure, self._last = host, command, insecure, ""

    def login(self, username: str, password: str) -> None:
        self._run("login", *self._insecure, f"--username={username}", f"--password={password}", self._host)

    def logout(self) -> None:
        self._run("logout", self._host)

    def pull(self, reference: str) -> str:
        self.forget()
        self._run("pull", *self._insecure, reference)
        self._last = reference
        return self._run("images", "--no-trunc", "--quiet", reference).strip()

    def push(self, reference: str) -> None:
        self._run("tag", self._last, reference)
        self._run("push", *self._insecure, reference)

    def forget(self) -> None:
        """Remove what was pulled last, under all its names."""
        if self._last:
            image, self._last = self._run("images", "--no-trunc", "--quiet", self._last).strip(), ""
            self._run("rmi", "--force", image)


class Containerd(Client):
    def __init__(self, host: str, command: ctr.Ctr) -> None:
        self._ctr, self._user, self._last = command, (), ""
        self._names: list[str] = []

    def login(self, username: str, password: str) -> None:
        self._user = (f"--user={username}:{password}",)

    def logout(self) -> None:
        self._user = ()

    def pull(self, reference: str) -> str:
        if self._names:
            self._ctr.run("images", "remove", "--sync", *self._names)
            self._names = []
        self._ctr.pull(reference, "--platform=linux/amd64", *self._user)
        self._last, self._names = reference, [reference]
        manifest = self._read(self._target(reference))
        if "manifests" in manifest:
            manifest = self._read(manifest["manifests"][0]["digest"])
        return str(manifest["config"]["digest"])

    def push(self, reference: str) -> None:
        if reference not in self._names:
            self._ctr.run("images", "tag", self._last, reference)
            self._names.append(reference)
        self._ctr.push(reference, "--platform=linux/amd64", *self._user)

    def _target(self, reference: str) -> str:
        return self._ctr.run("images", "list", f"name=={reference}").splitlines()[1].split()[2]

    def _read(self, digest: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self._ctr.run("content", "get", digest))
        return document


class Copier(Client):
    """Pulls into an OCI layout and pushes from it; a kind says how."""

    def __init__(self, place: Place) -> None:
        self._host, self._folder = place.host, place.folder
        self._layout = place.folder / "layout"

    def pull(self, reference: str) -> str:
        shutil.rmtree(self._layout, ignore_errors=True)
        self.fetch(reference)
        return layout_config(self._layout)

    def push(self, reference: str) -> None:
        self.send(reference)

    @abstractmethod
    def fetch(self, reference: str) -> None: ...

    @abstractmethod
    def send(self, reference: str) -> None: ...


class SkopeoCopier(Copier):
    def __init__(self, place: Place) -> None:
        require(skopeo)
        super().__init__(place)
        self._skopeo = skopeo.Skopeo(place.folder)

    def login(self, username: str, password: str) -> None:
        user = (f"--username={username}", f"--password={password}")
        self._skopeo.run("login", "--tls-verify=false", *user, self._host)

    def logout(self) -> None:
        self._skopeo.run("logout", self._host)

    def fetch(self, reference: str) -> None:
        self._skopeo.copy(f"docker://{reference}", f"oci:{self._layout}:it")

    def send(self, reference: str) -> None:
        self._skopeo.copy(f"oci:{self._layout}:it", f"docker://{reference}")


class GoTool(Copier):
    """What the three have in common; without Go there is none of them, and that is no failure anywhere."""

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place)
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
        platform = ("--platform=linux/amd64",) if "/mirror/" in reference else ()
        self.run("copy", "--from-plain-http", *platform, "--to-oci-layout", reference, f"{self._layout}:it")

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

    def __init__(self, place: Place, name: str, package: str) -> None:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no {package} in this environment (tests/requirements.txt)")
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


class PlainClient(Client):
    def __init__(self, place: Place) -> None:
        self._host = place.host
        self._plain = Plain(place.host)
        self._image: Image | None = None

    def login(self, username: str, password: str) -> None:
        self._plain = Plain(self._host, username, password)

    def logout(self) -> None:
        self._plain = Plain(self._host)

    def pull(self, reference: str) -> str:
        repository, _, tag = reference.removeprefix(f"{self._host}/").rpartition(":")
        self._image = self._plain.pull(repository, tag)
        return str(self._image.document["config"]["digest"])

    def push(self, reference: str) -> None:
        assert self._image is not None
        repository, _, tag = reference.removeprefix(f"{self._host}/").rpartition(":")
        self._plain.push(self._image, repository, tag)


def layout_config(layout: Path) -> str:
    """Give the config's digest of the one image in an OCI layout; raises where a blob is not what its name says."""

    def read(digest: str) -> bytes:
        data = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
        return data

    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads(read(entry["digest"]))
    for part in (manifest["config"], *manifest["layers"]):
        read(part["digest"])
    return str(manifest["config"]["digest"])


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
    return Containerd(place.host, ctr.Ctr(place.docker().containerd))


ROWS = (
    Row("docker", _docker),
    Row("podman", _podman),
    Row("buildah", _buildah),
    Row("ctr", _ctr),
    Row("skopeo", SkopeoCopier),
    Row("crane", Crane),
    Row("oras", Oras),
    Row("regctl", Regctl),
    Row("oras-py", lambda place: Library(place, "oras", "oras"), "file"),
    Row("helm", lambda place: Library(place, "helm", "helm_python"), "chart"),
    Row("plain", PlainClient),
)
