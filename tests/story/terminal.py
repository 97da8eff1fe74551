"""Somebody's shell, in which they paste what pages gave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parts.dockerd import Docker
from tests.parts.process import CommandFailed, run


class Terminal:
    """A shell with log-ins of its own; the engine behind ``docker`` is everybody's."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self._environment = {"DOCKER_HOST": f"unix://{docker.socket}", "DOCKER_CONFIG": str(folder)}

    def type(self, line: str) -> str:
        """Run a line as it is and give what it printed; raises CommandFailed."""
        return run(["sh", "-c", line], environment=self._environment)

    def refused(self, line: str) -> str:
        """Run a line that must fail; gives what it printed."""
        with pytest.raises(CommandFailed) as failed:
            self.type(line)
        return str(failed.value).partition(":\n")[2]

    def pull(self, address: str) -> str:
        """Pull an image that the engine does not have any more."""
        self.forget(address)
        return self.type(f"docker pull {address}")

    def forget(self, address: str) -> None:
        """Remove an image from the engine, so that only the registry has it."""
        self.type(f"docker image rm --force {address} 2>&1 || true")
