"""vagrant up, with the project's own Vagrantfile and a box made here, to a registry that answers over TLS."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.parts.process import ROOT

from . import laptop as laptop_part
from .hosts import Bed
from .laptop import Laptop, laptop

# Without the processor's help, and beside other tests, it took 55 minutes.
_SECONDS = 7200
_ADDRESS = "192.168.56.10"

pytestmark = [pytest.mark.long, pytest.mark.timeout(_SECONDS + 600)]


@pytest.fixture(scope="module")
def project(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a release in it: Vagrant and the Vagrantfile write beside it."""
    copy = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "ansible", "Vagrantfile"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    (copy / "ansible/releases").mkdir()
    shutil.copy(release / "registry-1.0.0.tar.gz", copy / "ansible/releases")
    return copy


@pytest.fixture(scope="module")
def machine(bed: Bed, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    require(laptop_part)
    with laptop(bed, project, tmp_path_factory.mktemp("laptop")) as made:
        yield made


def test_vagrant_up(machine: Laptop, project: Path) -> None:
    said = machine.run("vagrant", "up", timeout=_SECONDS)
    assert f"The registry is at {_ADDRESS} and is called registry.test" in said
    assert "docker pull registry.test/mirror/library/redis" in said
    certificate = project / "ansible/inventory/vagrant/authority.pem"
    ask = [
        "curl",
        "--silent",
        "--show-error",
        "--cacert",
        str(certificate),
        "--resolve",
        f"registry.test:443:{_ADDRESS}",
    ]
    assert json.loads(machine.run(*ask, "https://registry.test/healthz")) == {"status": "ok"}
    token = json.loads(machine.run(*ask, "https://registry.test/service/token?service=registry.test"))["token"]
    bearer = ["--header", f"Authorization: Bearer {token}"]
    assert (
        machine.run(*ask, *bearer, "--output", "/dev/null", "--write-out", "%{http_code}", "https://registry.test/v2/")
        == "200"
    )
    machine.run("vagrant", "destroy", "--force", timeout=300)
