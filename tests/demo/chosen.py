"""Chooses the client of the demo: the best that works on this machine."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import SubprocessError

from tests.clients.kinds import Client, Engine, PlainClient, SkopeoCopier
from tests.parts import dockerd, podman, skopeo
from tests.parts.process import CommandFailed, run


@dataclass(frozen=True)
class Chosen:
    """``pull`` and ``push`` show what is done, with {} for the image; ``about`` says what this client is."""

    client: Client
    about: str
    pull: str
    push: str


def choose(stack: ExitStack, folder: Path, host: str) -> Chosen:
    """Start the first client that works here; what has to be ended goes into ``stack``."""
    for part, make in ((dockerd, _docker), (podman, _podman), (skopeo, _skopeo)):
        if part.missing() is not None:
            continue
        try:
            return make(stack, folder, host)
        except (CommandFailed, OSError, RuntimeError, SubprocessError, TimeoutError):
            pass  # it is installed and cannot run here: no privileges, no namespaces
    about = "the demo's own, in Python: docker, podman and skopeo are not here, or do not work here"
    return Chosen(PlainClient(host), about, "a pull of {}", "a push to {}")


def _docker(stack: ExitStack, folder: Path, host: str) -> Chosen:
    # An engine that is interrupted while it starts is killed, and leaves its folder mounted on itself.
    stack.callback(_unmount, folder / "docker/data")
    docker = stack.enter_context(dockerd.dockerd(folder / "docker"))
    version = docker.run("version", "--format={{.Server.Version}}").strip()
    about = f"Docker {version}, with an engine of its own"
    return Chosen(Engine(host, docker.run), about, "$ docker pull {}", "$ docker push {}")


def _unmount(folder: Path) -> None:
    with suppress(CommandFailed):  # mostly it is no mount
        run(["umount", str(folder)])


def _podman(stack: ExitStack, folder: Path, host: str) -> Chosen:
    command = podman.Podman(folder / "podman").run
    command("images")
    version = command("--version").split()[-1]
    client, about = Engine(host, command, "--tls-verify=false"), f"podman {version}, with a store of its own"
    return Chosen(client, about, "$ podman pull {}", "$ podman push {}")


def _skopeo(stack: ExitStack, folder: Path, host: str) -> Chosen:
    version = skopeo.Skopeo(folder / "skopeo").run("--version").split()[2]
    client, about = SkopeoCopier(host, folder / "skopeo"), f"skopeo {version}, into a folder"
    return Chosen(client, about, "$ skopeo copy docker://{} oci:layout", "$ skopeo copy oci:layout docker://{}")
