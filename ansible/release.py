#!/usr/bin/env python3
"""Make a release that the role `registry` installs: ansible/releases/registry-VERSION.tar.gz.

It has app/ and docs/guide/: the files that git knows, with their present content in the work tree. It also has the
wheels of all requirements, and their hashes in wheels.lock, so that hosts need no package index and refuse a changed
wheel. The wheels are for x86_64 and the Pythons of Debian 12 (3.11) and 13 (3.13). This must be run by Python 3.11.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*\Z")
_HOSTS = ((3, 11), "Linux", "x86_64")
# Debian 13's. Its C library runs all wheels up to these platforms.
_LATER = ("3.13", tuple(f"manylinux_2_{minor}_x86_64" for minor in (41, 39, 36, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)))
# One requirement in requirements.lock, with its hashes.
_LOCKED = re.compile(r"^(?P<name>[^\s=]+)==.*\n(?:    --hash=.*\n)+", re.MULTILINE)
# The time of files in wheels that are built here. It is fixed, so that the same sources give the same release.
_BUILT_AT = "315532800"
# The role's preflight and its installation name this file too.
_LIST = "wheels.lock"


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a release that the role registry installs.")
    parser.add_argument("version", help="the release's name: letters, digits, dots and dashes")
    parser.add_argument("--folder", type=Path, default=ROOT / "ansible" / "releases", help="the folder to write it to")
    arguments = parser.parse_args()
    if not _VERSION.match(arguments.version):
        parser.error(f"{arguments.version!r} cannot be a folder's name; use letters, digits, dots and dashes")
    here = (sys.version_info[:2], platform.system(), platform.machine())
    if here != _HOSTS:
        parser.error(f"the wheels are for {_HOSTS}, but this is {here}: use such a Python")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    archive = arguments.folder / f"registry-{arguments.version}.tar.gz"
    with tempfile.TemporaryDirectory() as scratch:
        wheels = _wheels(Path(scratch))
        contents = {name: (ROOT / name).read_bytes() for name in _listed()}
        contents |= {f"wheels/{wheel.name}": wheel.read_bytes() for wheel in wheels}
        draft = archive.with_suffix(".part")
        _pack(draft, {**contents, _LIST: _hashes(wheels)})
        draft.rename(archive)
    sys.stdout.write(f"{archive}\n")
    return 0


def _listed() -> list[str]:
    """List the service's files that exist in the work tree."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "app", "docs/guide"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603  # ours alone
    found = names.stdout.splitlines()
    return sorted({name for name in found if (ROOT / name).is_file()})


def _wheels(scratch: Path) -> list[Path]:
    """Fetch the wheels that requirements.lock names, build those that the index does not have, return their paths.

    pip checks the hashes of everything that it fetches here. The environment is new, so a build uses the setuptools of
    setup-requirements.lock, and no other that may be beside this Python.
    """
    venv.create(scratch / "venv", with_pip=True)
    pip = [str(scratch / "venv/bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    hashed = ["--require-hashes", "--no-build-isolation"]
    _run([*pip, "install", *hashed, "--requirement", str(ROOT / "setup-requirements.lock")])
    wheels = ["--wheel-dir", str(scratch / "wheels")]
    _run([*pip, "wheel", *hashed, *wheels, "--requirement", str(ROOT / "requirements.lock")])
    python, platforms = _LATER
    (scratch / "later.lock").write_text(_bound_to_python(scratch / "wheels"))
    later = ["--python-version", python, *(part for name in platforms for part in ("--platform", name))]
    later += ["--only-binary=:all:", "--no-deps", "--require-hashes", "--dest", str(scratch / "wheels")]
    _run([*pip, "download", *later, "--requirement", str(scratch / "later.lock")])
    return sorted((scratch / "wheels").glob("*.whl"))


def _bound_to_python(wheels: Path) -> str:
    """Return the requirements whose wheels are for the running Python only, with their hashes."""
    mine = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    bound = {wheel.name.split("-")[0].lower() for wheel in wheels.glob(f"*-{mine}-{mine}-*.whl")}
    locked = _LOCKED.finditer((ROOT / "requirements.lock").read_text())
    return "".join(entry[0] for entry in locked if re.sub(r"[-.]+", "_", entry["name"]).lower() in bound)


def _run(command: list[str]) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _BUILT_AT}
    subprocess.run(command, check=True, env=environment)  # noqa: S603  # ours alone


def _hashes(wheels: list[Path]) -> bytes:
    """Return the requirements by which pip takes these wheels and no other file."""
    hashes = defaultdict(list)
    for wheel in wheels:
        hashes["==".join(wheel.name.split("-")[:2])].append(hashlib.sha256(wheel.read_bytes()).hexdigest())
    lines = (" ".join([name, *(f"--hash=sha256:{digest}" for digest in found)]) for name, found in hashes.items())
    return "".join(f"{line}\n" for line in lines).encode()


def _pack(archive: Path, contents: dict[str, bytes]) -> None:
    """Write the archive; the same contents always give the same bytes."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o644
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    sys.exit(main())
