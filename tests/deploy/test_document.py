"""An operator follows docs/operations.md command by command, from an empty folder to a restored registry."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.images import multi
from tests.parts.dockerd import Docker
from tests.parts.process import ROOT
from tests.upstream.client import Hub

from .authority import Authority
from .conftest import NAME, PASSWORD, SETUP_SECONDS, introduce, variables
from .engine import engine
from .hosts import Bed, Host

pytestmark = pytest.mark.timeout(2 * SETUP_SECONDS)

_WRITTEN = "registry.example.org"
# Programs whose lines in the document are commands. The other indented lines are settings, answers and pictures.
_PROGRAMS = (
    r"python3|pip|cd|\./release\.py|ansible/\w+\.py|cp|ansible-playbook|ansible-vault|docker|echo|vagrant|podman"
    r"|install|systemctl|journalctl|registry-admin|registry-backup|grep"
)
# Sections whose commands another test gives, and that test.
_ELSEWHERE = {"Try it first": "test_vagrant", "In a container": "test_image", "A pushed secret": "test_delivery"}
# Settings that go into the Vault.
_SECRET = ("registry_secret_key", "registry_admin_password", "nginx_certificate_key")
# Commands of the document that are given on the host of the registry.
_ON_THE_HOST = ("registry-admin", "registry-backup", "grep", "journalctl")


def _commands() -> dict[str, list[str]]:
    """List the document's commands by section, without their comments."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (ROOT / "docs/operations.md").read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif re.match(rf" {{4,6}}(?:{_PROGRAMS}) ", line):
            found.setdefault(section, []).append(re.sub(r"\s{2,}#.*", "", line.strip()))
    return found


@dataclass
class Operator:
    """A clone of the project in an empty folder, the shell's state there, a bare host, and an engine beside it."""

    folder: Path
    host: Host
    docker: Docker
    hub: Hub
    inventory: Path
    # What a site writes into its inventory.
    own: dict[str, Any]
    environment: dict[str, str]
    where: Path

    def run(self, command: str) -> str:
        """Run one command as the document spells it; return what it printed. Raises AssertionError if it fails."""
        spelled = command.replace(_WRITTEN, NAME)
        if spelled.startswith(_ON_THE_HOST):
            return self.host.ssh(spelled, timeout=120)
        if spelled.startswith("docker pull"):
            return self.docker.run(*spelled.split()[1:])
        if spelled.startswith("cd "):
            self.where = self.where / spelled[3:]
            return ""
        # Nobody sits at the terminal to be asked for a password.
        spelled = spelled.replace(" --ask-vault-pass", f" --vault-password-file {self.folder}/password")
        activate = self.folder / ".venv-ansible/bin/activate"
        done = subprocess.run(
            ["bash", "-ec", f"[ ! -e {activate} ] || . {activate}\n{spelled}"],
            cwd=self.where, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=1800, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout[-6000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def operator(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("document")
    clone, authority = folder / "registry", Authority(folder)
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    host = bed.boot("document1")
    introduce(host, authority, host.address)
    with ExitStack() as stack:
        hub = host.inside(lambda: Hub(folder / "upstream"))
        stack.callback(hub.close)
        host.inside(lambda: hub.add(multi("redis"), "library/redis", "latest"))
        names = {NAME: host.address}
        docker = stack.enter_context(engine(folder / "engine", hosts=names, authority=authority.file))
        own = variables(host, authority, folder, hub, bed)
        environment = {
            "HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CONFIG": str(clone / "ansible/ansible.cfg"),
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
        }  # fmt: skip
        (clone / "password").write_text("a-password-of-the-vault\n")
        yield Operator(clone, host, docker, hub, clone / "ansible/inventory/mine", own, environment, clone)


def _write_inventory(operator: Operator) -> None:
    """Write into `inventory/mine` what the document asks for."""
    own = dict(operator.own)
    secret = {name: own.pop(name) for name in _SECRET}
    (operator.inventory / "certificate.pem").write_text(own.pop("nginx_certificate"))
    hosts = operator.inventory / "hosts.yml"
    document = yaml.safe_load(hosts.read_text())
    reached = {name: own.pop(name) for name in operator.host.variables}
    document["all"]["hosts"]["registry1"] = reached
    hosts.write_text(yaml.safe_dump(document))
    main = operator.inventory / "group_vars/all/main.yml"
    # The archive is the one that release.py wrote.
    own.pop("registry_archive")
    written = yaml.safe_load(main.read_text())
    main.write_text(yaml.safe_dump({**written, **own}))
    vault = operator.inventory / "group_vars/all/secrets.yml"
    vault.write_text(yaml.safe_dump(secret))
    operator.run(f"ansible-vault encrypt --vault-password-file {operator.folder}/password {vault}")


def _set_version(operator: Operator, version: str) -> None:
    main = operator.inventory / "group_vars/all/main.yml"
    main.write_text(re.sub(r"registry_version: .*", f"registry_version: {version}", main.read_text()))


def test_every_section_with_commands_is_followed() -> None:
    assert set(_commands()) == {*_STEPS, *_ELSEWHERE}
    for test in _ELSEWHERE.values():
        assert (ROOT / f"tests/deploy/{test}.py").exists()


def _install(operator: Operator, commands: list[str]) -> None:
    for command in commands:
        if command.startswith("ansible-vault create"):
            _write_inventory(operator)
            continue
        if command.startswith("echo "):
            command = command.replace("/tmp/password", f"{operator.folder}/example")
        if command.startswith("ansible-vault view"):
            command = command.replace("/tmp/password", f"{operator.folder}/example")
            assert "registry_secret_key" in operator.run(command)
            continue
        said = operator.run(command)
        if "site.yml" in command:
            assert "failed=0" in said
    assert operator.host.inside(operator.hub.counters).get_manifest > 0


def _each(operator: Operator, commands: list[str]) -> None:
    operator.environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(operator.folder / "password")
    for command in commands:
        operator.run(command)


def _upgrade(operator: Operator, commands: list[str]) -> None:
    _each(operator, commands)
    _set_version(operator, "1.1.0")
    assert "1.1.0" in operator.host.ssh("readlink --canonicalize /opt/registry/current")


def _rollback(operator: Operator, commands: list[str]) -> None:
    _each(operator, commands)
    _set_version(operator, "1.0.0")
    assert "1.0.0" in operator.host.ssh("readlink --canonicalize /opt/registry/current")


def _back_up(operator: Operator, commands: list[str]) -> None:
    """The copy of the first command is what the second one restores."""
    operator.host.ssh("registry-admin create-project before-the-copy")
    _each(operator, [command for command in commands if "backup.yml" in command])
    operator.host.ssh("registry-admin create-project after-the-copy")
    _each(operator, [command for command in commands if "backup.yml" not in command])
    projects = operator.host.ssh(
        f"curl --silent --user admin:{PASSWORD} 'https://{NAME}/api/v2.0/projects?page_size=100'"
    )
    assert "before-the-copy" in projects
    assert "after-the-copy" not in projects


def _explain(operator: Operator, commands: list[str]) -> None:
    refused = operator.host.ssh(f"curl --silent --head https://{NAME}/v2/mirror/library/no-such/manifests/1 || true")
    said = re.search(r"(?i)^x-request-id: (\S+)", refused, re.MULTILINE)
    assert said is not None, refused
    stands = {
        "4f1c2a9b7d3e5f60": said[1],
        "192.0.2.17": operator.host.address,
        "mirror/library/redis": "mirror/library/redis",
    }
    for command in commands:
        spelled = re.sub("|".join(map(re.escape, stands)), lambda found: stands[found[0]], command)
        print(spelled, operator.host.ssh(f"{spelled} || true", timeout=60), sep="\n")
    assert said[1] in operator.host.ssh(f"grep {said[1]} /var/log/nginx/registry.log")


_STEPS: dict[str, Callable[[Operator, list[str]], None]] = {
    "Install": _install,
    "Upgrade": _upgrade,
    "Rollback": _rollback,
    "Backup and restore": _back_up,
    "What happened to a request": _explain,
}


@pytest.mark.long
@pytest.mark.parametrize("section", _STEPS)
def test_a_section_is_followed(operator: Operator, section: str) -> None:
    _STEPS[section](operator, _commands()[section])
