"""Runs ansible-playbook as an operator would, with an inventory of the project and the test's own hosts."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.parts.process import ROOT

# Ansible has an environment of its own, as it has on the operator's machine.
TOOLS = ROOT / ".venv-ansible" / "bin"
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


def missing() -> str | None:
    if not (TOOLS / "ansible-playbook").exists():
        return "no Ansible (make .venv-ansible/setup.stamp)"
    return None


@dataclass(frozen=True)
class Outcome:
    """What a run printed; ``changed`` and ``failed`` are of all hosts together."""

    output: str
    status: int

    @property
    def changed(self) -> int:
        return sum(int(line[3]) for line in _RECAP.finditer(self.output))

    @property
    def failed(self) -> int:
        return sum(int(line[4]) + int(line[5]) for line in _RECAP.finditer(self.output))


class Inventory:
    """One of the project's inventories with its hosts' addresses and secrets replaced by the test's."""

    def __init__(self, name: str, folder: Path, hosts: Mapping[str, Mapping[str, Any]]) -> None:
        self._name, self._folder = name, folder
        self.hosts = {host: dict(variables) for host, variables in hosts.items()}

    def play(self, playbook: str, *arguments: str, timeout: float = 1800.0, **changed: Any) -> Outcome:
        """Run a playbook of ansible/ and give what came of it; ``changed`` variables hold for this run."""
        file = self._folder / "hosts.yml"
        hosts = {host: {**variables, **changed} for host, variables in self.hosts.items()}
        file.write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
        done = subprocess.run(
            [
                TOOLS / "ansible-playbook", "-i", ROOT / "ansible/inventory" / self._name, "-i", file,
                ROOT / "ansible" / playbook, *arguments,
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
            cwd=self._folder, env=environment(self._folder), check=False,
        )  # fmt: skip
        (self._folder / f"{Path(playbook).stem}.log").write_text(done.stdout)
        return Outcome(done.stdout, done.returncode)


def environment(folder: Path) -> dict[str, str]:
    """Give the tools the project's settings and a home of their own."""
    own = {"ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"), "ANSIBLE_HOME": str(folder / "ansible")}
    path = f"{TOOLS}:{os.environ['PATH']}"
    return {**os.environ, **own, "PATH": path, "ANSIBLE_NOCOLOR": "1", "PYTHONWARNINGS": "ignore"}
