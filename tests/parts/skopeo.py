"""skopeo, with credentials and scratch files kept to a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from .process import run


def missing() -> str | None:
    return None if shutil.which("skopeo") else "no skopeo on the PATH (apt: skopeo)"


class Skopeo:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "auth.json").write_text("{}")
        self._environment = {"REGISTRY_AUTH_FILE": str(folder / "auth.json"), "TMPDIR": str(folder)}

    def run(self, *arguments: str, timeout: float = 120.0) -> str:
        """Run ``skopeo ARGUMENTS`` and give its output; raises CommandFailed."""
        return run(["skopeo", "--insecure-policy", *arguments], environment=self._environment, timeout=timeout)

    def copy(self, source: str, target: str, *options: str, timeout: float = 120.0) -> str:
        """Copy between transports over plain HTTP, such as ``docker://HOST/NAME:TAG`` to ``dir:PATH``."""
        return self.run(
            "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *options, source, target, timeout=timeout
        )
