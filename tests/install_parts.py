"""Installs what tests/apt.txt, or the lists that are named, have and this machine lacks; needs root, starts no service.

It never fails: a part that is not to be had is for the suites to report, and for CI=true to take as a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LIST = Path(__file__).with_name("apt.txt")
# Debian asks this file before it starts a service of a package just installed; 101 means no.
_POLICY = Path("/usr/sbin/policy-rc.d")


def main(lists: Sequence[str]) -> None:
    missing = [name for file in lists or [str(LIST)] for name in listed(Path(file)) if not installed(name)]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"not installed, as that takes root and apt-get: {' '.join(missing)}", flush=True)
        return
    print(f"installing {' '.join(missing)}", flush=True)
    with services_stay_off():
        apt_get("update")
        if not apt_get("install", "--yes", "--no-install-recommends", *missing):
            print("apt-get failed; the suites will say what they miss", flush=True)


def listed(file: Path) -> list[str]:
    """Read the packages that a list names."""
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line]


def installed(name: str) -> bool:
    """Ask dpkg."""
    if shutil.which("dpkg-query") is None:
        return False
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout == "installed"


def apt_get(*arguments: str) -> bool:
    """Run apt-get without questions; it waits for another one's lock for two minutes."""
    command: Sequence[str] = [
        "apt-get",
        "--quiet=2",
        "-o",
        "DPkg::Lock::Timeout=120",
        "-o",
        "Dpkg::Use-Pty=0",
        *arguments,
    ]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode == 0


@contextmanager
def services_stay_off() -> Iterator[None]:
    """Keep packages from starting their services, unless the machine has a policy of its own."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
