"""The file in which docker and podman keep logins, for a login to a registry that no test can reach."""

from __future__ import annotations

import base64
import json
from pathlib import Path

# Docker's name for Docker Hub there; podman writes docker.io.
DOCKER_HUB = "https://index.docker.io/v1/"


def write(file: Path, registry: str, username: str, password: str) -> None:
    """Write a file with this login alone, as ``docker login`` would after it has asked the registry."""
    login = base64.b64encode(f"{username}:{password}".encode()).decode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"auths": {registry: {"auth": login}}}))
