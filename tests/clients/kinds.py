"""How a client logs in, pulls and pushes, and by what it knows what it has pulled: what the clients have in common.

Nothing here needs more than the standard library: the demo uses these too.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.images import Image
from tests.parts import ctr, skopeo

from .plain import Plain


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
    """ctr, whose credentials go with each command."""

    def __init__(self, command: ctr.Ctr) -> None:
        self._ctr, self._last = command, ""
        self._user: tuple[str, ...] = ()
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

    def __init__(self, host: str, folder: Path) -> None:
        self._host, self._folder = host, folder
        self._layout = folder / "layout"

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
    def __init__(self, host: str, folder: Path) -> None:
        super().__init__(host, folder)
        self._skopeo = skopeo.Skopeo(folder)

    def login(self, username: str, password: str) -> None:
        user = (f"--username={username}", f"--password={password}")
        self._skopeo.run("login", "--tls-verify=false", *user, self._host)

    def logout(self) -> None:
        self._skopeo.run("logout", self._host)

    def fetch(self, reference: str) -> None:
        self._skopeo.copy(f"docker://{reference}", f"oci:{self._layout}:it")

    def send(self, reference: str) -> None:
        self._skopeo.copy(f"oci:{self._layout}:it", f"docker://{reference}")


class PlainClient(Client):
    def __init__(self, host: str) -> None:
        self._host, self._plain = host, Plain(host)
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
