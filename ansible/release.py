#!/usr/bin/env python3
"""Make a release that the role `registry` installs: ansible/releases/registry-VERSION.tar.gz.

It has app/, docs/guide/ and requirements.txt: the files that git knows, with their present content in the work tree.
Unless --no-wheels is given, it also has the wheels of all requirements, so that hosts need no package index. The wheels
are for Python 3.11 on x86_64, so this must be run by such a Python.
"""

from __future__ import annotations

import argparse
import gzip
import io
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*\Z")
_HOSTS = ((3, 11), "Linux", "x86_64")

# pip evaluates a requirement's condition with this machine's Python. Debian 12 has 3.11.2, and redis needs this there:
_FOR_OLDER = ("async-timeout==5.0.1",)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a release that the role registry installs.")
    parser.add_argument("version", help="the release's name: letters, digits, dots and dashes")
    parser.add_argument("--no-wheels", action="store_true", help="hosts fetch the requirements from a package index")
    parser.add_argument("--folder", type=Path, default=ROOT / "ansible" / "releases", help="the folder to write it to")
    arguments = parser.parse_args()
    if not _VERSION.match(arguments.version):
        parser.error(f"{arguments.version!r} cannot be a folder's name; use letters, digits, dots and dashes")
    here = (sys.version_info[:2], platform.system(), platform.machine())
    if not arguments.no_wheels and here != _HOSTS:
        parser.error(f"the wheels are for {_HOSTS}, but this is {here}: use such a Python, or --no-wheels")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    archive = arguments.folder / f"registry-{arguments.version}.tar.gz"
    with tempfile.TemporaryDirectory() as scratch:
        wheels = [] if arguments.no_wheels else _wheels(Path(scratch))
        draft = archive.with_suffix(".part")
        _pack(
            draft, {**{name: ROOT / name for name in _listed()}, **{f"wheels/{wheel.name}": wheel for wheel in wheels}}
        )
        draft.rename(archive)
    sys.stdout.write(f"{archive}\n")
    return 0


def _listed() -> list[str]:
    """List the service's files that exist in the work tree."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "app", "docs/guide", "requirements.txt"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603  # ours alone
    found = names.stdout.splitlines()
    return sorted({name for name in found if (ROOT / name).is_file()})


def _wheels(folder: Path) -> list[Path]:
    """Fetch the wheels of all requirements, build those that the index does not have, and return their paths."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        "--wheel-dir",
        str(folder),
    ]
    subprocess.run([*command, "--requirement", str(ROOT / "requirements.txt"), *_FOR_OLDER], check=True)  # noqa: S603  # the same
    return sorted(folder.glob("*.whl"))


def _pack(archive: Path, files: dict[str, Path]) -> None:
    """Write the archive; the same files always give the same bytes."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o644
            content = path.read_bytes()
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    sys.exit(main())
