"""The inventory `uthpc`, the worked example of a real site, as it stands: only addresses are the test's own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.parts.idp import IdentityProvider
from tests.parts.process import ROOT, run

from .conftest import SETUP_SECONDS
from .hosts import Bed
from .playbook import TOOLS, Inventory, environment

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * SETUP_SECONDS)]

_INVENTORY = ROOT / "ansible/inventory/uthpc"
_NAME = "registry.hpc.ut.ee"


def test_the_example_of_a_site_runs(bed: Bed, release: Path, university: IdentityProvider, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(_documented_password())
    secrets = yaml.safe_load(
        run(
            [str(TOOLS / "ansible-vault"), "view", "--vault-password-file", str(password),
             str(_INVENTORY / "group_vars/all/secrets.yml")],
            environment=environment(tmp_path),
        )
    )  # fmt: skip
    settings = yaml.safe_load((_INVENTORY / "group_vars/all/main.yml").read_text())
    host = bed.boot("uthpc")
    inventory = Inventory("uthpc", tmp_path, {"registry1": {
        **host.variables,
        "registry_archive": f"{release}/registry-{{{{ registry_version }}}}.tar.gz",
        "registry_config": _at(settings["registry_config"], university.metadata_url),
        "firewall_ssh_networks": [f"{bed.address}/32"],
    }})  # fmt: skip
    played = inventory.play("site.yml", "--vault-password-file", str(password), timeout=SETUP_SECONDS)
    assert played.status == 0, played.output[-6000:]
    for secret in secrets.values():
        assert secret.splitlines()[0] not in played.output or "PRIVATE" in secret
    units = [f"registry@{number}" for number in range(1, settings["registry_workers"] + 1)]
    assert set(host.ssh(f"systemctl is-active {' '.join(units)}").split()) == {"active"}
    assert json.loads(_curl(host.address, "/healthz")) == {"status": "ok"}
    assert f'entityID="https://{_NAME}/saml/metadata"' in _curl(host.address, "/saml/metadata")
    admin = ("--user", f"admin:{secrets['registry_admin_password']}")
    projects = json.loads(_curl(host.address, "/api/v2.0/projects", *admin))
    assert [project["name"] for project in projects] == list(settings["registry_config"]["projects"])
    assert host.ssh("cat /etc/registry/credentials/docker-token").strip() == secrets["uthpc_docker_token"]


def _documented_password() -> str:
    """Read it where an operator would."""
    text = (ROOT / "docs/operations.md").read_text()
    return text.partition("echo ")[2].partition(" > /tmp/password")[0]


def _at(config: dict[str, Any], metadata_url: str) -> dict[str, Any]:
    """Give the site's configuration with an identity provider that is there."""
    return {**config, "saml": {**config["saml"], "idp_metadata_url": metadata_url}}


def _curl(address: str, path: str, *arguments: str) -> str:
    command = ["curl", "--silent", "--show-error", "--max-time", "60", "--fail", "--cacert"]
    command += [str(_INVENTORY / "certificate.pem"), "--resolve", f"{_NAME}:443:{address}", *arguments]
    return subprocess.run([*command, f"https://{_NAME}{path}"], check=True, capture_output=True, text=True).stdout
