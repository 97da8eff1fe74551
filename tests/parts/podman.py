"""podman with an image store of its own."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from .process import run


def missing() -> str | None:
    return None if shutil.which("podman") else "no podman on the PATH (apt: podman)"


class Podman:
    """Images and credentials stay in ``folder``; the storage driver is vfs, which needs nothing of the machine.

    ``logins`` is the file with the credentials (`tests.parts.logins`).
    """

    def __init__(self, folder: Path, *, registries: str | None = None) -> None:
        """``registries`` is the text of a registries.conf; None: the machine's."""
        folder.mkdir(parents=True, exist_ok=True)
        self.logins = folder / "auth.json"
        self.logins.write_text("{}")
        # podman refuses one of more than 50 characters, which a test's own folder soon has.
        runroot = tempfile.mkdtemp(prefix="podman-", dir="/tmp")
        atexit.register(shutil.rmtree, runroot, ignore_errors=True)
        self._command = [
            "podman", f"--root={folder}/root", f"--runroot={runroot}", "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs", "--events-backend=file", f"--tmpdir={folder}/tmp",
        ]  # fmt: skip
        self._environment = {"REGISTRY_AUTH_FILE": str(self.logins), "TMPDIR": str(folder)}
        if registries is not None:
            conf = folder / "registries.conf"
            conf.write_text(registries)
            self._environment["CONTAINERS_REGISTRIES_CONF"] = str(conf)

    def run(self, *arguments: str, timeout: float = 120.0) -> str:
        """Run ``podman ARGUMENTS`` and give its output; raises CommandFailed."""
        return run([*self._command, *arguments], environment=self._environment, timeout=timeout)

    def pull(self, image: str) -> str:
        return self.run("pull", "--tls-verify=false", image)

    def push(self, image: str) -> str:
        return self.run("push", "--tls-verify=false", image)
