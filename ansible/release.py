#!/usr/bin/env python3
"""Make a release that the role `registry` installs: ansible/releases/registry-VERSION.tar.gz.

It has app/, docs/guide/, requirements.txt and, unless --no-wheels is given, the wheels of what is required, for Python
3.11 on x86_64, which this must be run by: a host then needs no package index. Files are those git knows in the work
tree, as they are there now.
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

# pip asks this machine's Python what a requirement's condition says. Debian 12's is 3.11.2, for which redis needs:
_FOR_OLDER = ("async-timeout==5.0.1",)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a release that the role registry installs.")
    parser.add_argument("version", help="what it is called: letters, digits, dots and dashes")
    parser.add_argument("--no-wheels", action="store_true", help="hosts take what is required from a package index")
    parser.add_argument("--folder", type=Path, default=ROOT / "ansible" / "releases", help="where to put it")
    arguments = parser.parse_args()
    if not _VERSION.match(arguments.version):
        parser.error(f"{arguments.version!r} cannot be a folder's name")
    here = (sys.version_info[:2], platform.system(), platform.machine())
    if not arguments.no_wheels and here != _HOSTS:
        parser.error(f"wheels are for {_HOSTS}, this is {here}: use such a Python, or --no-wheels")
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
    """List what belongs to the service, in the work tree's present state."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "app", "docs/guide", "requirements.txt"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603  # ours alone
    found = names.stdout.splitlines()
    return sorted({name for name in found if (ROOT / name).is_file()})


def _wheels(folder: Path) -> list[Path]:
    """Fetch wheels, or build them of what comes without."""
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
    """Write the same bytes for the same files, whoever runs this and whenever."""
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
