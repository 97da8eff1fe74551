"""The container image of a release: built without pulling any, run by podman as the quadlet says, served by itself."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require
from tests.parts.process import ROOT, run, wait_for

from . import hosts
from .conftest import SETUP_SECONDS
from .hosts import Bed, Host

pytestmark = [pytest.mark.long, pytest.mark.timeout(SETUP_SECONDS)]

_QUADLET = "/etc/containers/systemd/registry.container"
# What a guest of systemd-nspawn may not do: make control groups and keyrings, and raise limits.
_ALLOWANCES = {
    "/etc/containers/containers.conf": (
        '[containers]\nkeyring = false\ndefault_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]\n'
    ),
    f"{_QUADLET}.d/guest.conf": "[Container]\nPodmanArgs=--cgroups=disabled\n",
}
_ADDRESS = "127.0.0.1:8080"
_PULLED = f"{_ADDRESS}/own/registry:1.0.0"


@dataclass
class Small:
    """A host that runs the image, and the administrator's password, which its log has printed once."""

    host: Host
    password: str

    def answers(self, path: str) -> bool:
        asked = f"curl --silent --output /dev/null --write-out '%{{http_code}}' http://{_ADDRESS}{path} || true"
        return self.host.ssh(asked) == "200"


@pytest.fixture(scope="module")
def small(bed: Bed, release: Path) -> Small:
    """A bare Debian 13, whose podman knows quadlets."""
    require(hosts)
    image = [sys.executable, str(ROOT / "ansible/image.py"), "1.0.0", "--folder", str(release)]
    run(image, timeout=900)
    places = [f"--bind-ro={release}:/releases", f"--bind-ro={ROOT / 'ansible/image'}:/image"]
    # podman's layers cannot lie on a host whose disk is an overlay itself.
    host = bed.boot("small", *places, "--tmpfs=/var/lib/containers:mode=0755", suite=hosts.TRIXIE)
    host.ssh("apt-get -qq update && apt-get -qq install --yes --no-install-recommends podman crun", timeout=600)
    host.ssh("podman load --quiet --input /releases/registry-1.0.0.oci.tar", timeout=300)
    host.ssh(f"install -D --mode=0644 /image/registry.container {_QUADLET}")
    for file, text in _ALLOWANCES.items():
        host.ssh(f"mkdir --parents $(dirname {file}) && cat > {file} <<'END'\n{text}END")
    host.ssh("systemctl daemon-reload && systemctl start registry", timeout=120)
    made = Small(host, "")
    wait_for(lambda: made.answers("/readyz"), what="the registry to be ready", timeout=60, interval=1)
    log = host.ssh("journalctl --unit registry --output cat")
    printed = re.search(r"log in as admin with the password (\S+)", log)
    assert printed, log
    made.password = printed[1]
    return made


def test_it_is_pulled_from_itself(small: Small) -> None:
    ssh = small.host.ssh
    ssh("podman exec registry registry-admin create-project own --public")
    login = f"--tls-verify=false --creds admin:{small.password}"
    ssh(f"podman push --quiet {login} localhost/registry:1.0.0 {_PULLED}", timeout=300)
    ssh(f"podman pull --quiet --tls-verify=false {_PULLED}", timeout=300)
    # The quadlet that names the pulled image finds the same data.
    ssh(f"sed --in-place 's|^Image=.*|Image={_PULLED}|' {_QUADLET}")
    ssh("systemctl daemon-reload && systemctl restart registry", timeout=120)
    wait_for(lambda: small.answers("/readyz"), what="the registry to be ready again", timeout=60, interval=1)
    assert json.loads(ssh("podman inspect registry"))[0]["ImageName"] == _PULLED
    listed = ssh(f"curl --silent --user admin:{small.password} http://{_ADDRESS}/v2/own/registry/tags/list")
    assert json.loads(listed)["tags"] == ["1.0.0"]


def test_it_runs_with_few_rights(small: Small) -> None:
    shown = json.loads(small.host.ssh("podman inspect registry"))[0]
    assert shown["Config"]["User"] == "registry"
    assert shown["HostConfig"]["ReadonlyRootfs"]
    assert not shown["EffectiveCaps"]


def test_it_comes_back_by_itself(small: Small) -> None:
    ssh = small.host.ssh
    before = ssh("podman inspect --format '{{.State.Pid}}' registry")
    ssh(f"kill -KILL {before}")

    def back() -> bool:
        now = ssh("podman inspect --format '{{.State.Pid}}' registry 2>/dev/null || true")
        return now not in ("", "0\n", before) and small.answers("/readyz")

    wait_for(back, what="the registry to be back", timeout=60, interval=1)
