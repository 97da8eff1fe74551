"""A host takes a release's wheels only as they were when the release was made."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import require
from tests.parts.process import ROOT

from . import playbook

# Each test makes an environment with pip, by Ansible.
pytestmark = pytest.mark.timeout(300)

_PLAY = [
    {
        "name": "Install a release here",
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [{"name": "Install", "ansible.builtin.include_role": {"name": "registry", "tasks_from": "release"}}],
    }
]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """Import ansible/release.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("release", ROOT / "ansible/release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel with one module, which needs nothing."""
    path = tmp_path / "one-1.0-py3-none-any.whl"
    info = "one-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("one.py", "VALUE = 1\n")
        packed.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: one\nVersion: 1.0\n")
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{info}/RECORD", f"one.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def install(folder: Path, contents: dict[str, bytes], maker: ModuleType) -> subprocess.CompletedProcess[str]:
    """Install a release with these contents on this machine, in a folder, by the role's own tasks."""
    archive, place, play = folder / "registry-1.0.0.tar.gz", folder / "release", folder / "play.yml"
    maker._pack(archive, {"app/main.py": b"", **contents})
    place.mkdir()
    play.write_text(json.dumps(_PLAY))
    variables = {"registry_version": "1.0.0", "registry_archive": str(archive), "__registry_release": str(place)}
    variables["__registry_python"] = str(Path(sys.base_prefix) / "bin/python3")
    return subprocess.run(
        [playbook.TOOLS / "ansible-playbook", "-i", "localhost,", "-c", "local", "-e", json.dumps(variables), play],
        env={**playbook.environment(folder), "ANSIBLE_ROLES_PATH": str(ROOT / "ansible/roles")},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


@pytest.mark.long
def test_a_release_as_it_was_made_is_installed(tmp_path: Path, wheel: Path, maker: ModuleType) -> None:
    require(playbook)
    contents = {f"wheels/{wheel.name}": wheel.read_bytes(), "wheels.lock": maker._hashes([wheel])}
    done = install(tmp_path, contents, maker)
    assert done.returncode == 0, done.stdout[-3000:]
    assert list((tmp_path / "release/.venv").rglob("site-packages/one.py"))
    assert (tmp_path / "release/.complete").exists()


@pytest.mark.long
def test_a_wheel_with_one_other_byte_is_refused(tmp_path: Path, wheel: Path, maker: ModuleType) -> None:
    require(playbook)
    changed = wheel.read_bytes().replace(b"VALUE = 1", b"VALUE = 2")
    contents = {f"wheels/{wheel.name}": changed, "wheels.lock": maker._hashes([wheel])}
    done = install(tmp_path, contents, maker)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stdout, done.stdout[-3000:]
    assert not list((tmp_path / "release/.venv").rglob("site-packages/one.py"))
    assert not (tmp_path / "release/.complete").exists()
