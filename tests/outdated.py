"""Says which requirements have newer versions, and which locked versions have known vulnerabilities; `make outdated`.

uv asks the package index, and pip-audit asks OSV; both are beside the Python that runs this. The status is 0 only if
both answered for everything and no locked version has a known vulnerability.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Each has its lock beside it.
LISTS = (
    "requirements.txt",
    "setup-requirements.txt",
    "tests/requirements.txt",
    "tests/tools-requirements.txt",
    "ansible/requirements.txt",
)
VULNERABLE, UNKNOWN = 1, 2

_PIN = re.compile(r"^([A-Za-z0-9._-]+(?:\[\w+\])?)==(\S+)", re.MULTILINE)


class UnansweredError(Exception):
    """Whoever was asked gave no answer; the message is what the tool said last."""


def main() -> int:
    """Print a report for each list; return 0, VULNERABLE, or UNKNOWN if only a part of the answers is missing."""
    statuses = {0}
    for file in LISTS:
        try:
            newer = "; ".join(outdated((ROOT / file).read_text()))
            print(f"{file}: {newer or 'no newer versions'}", flush=True)
        except UnansweredError as error:
            print(f"{file}: NOT KNOWN whether outdated, because the package index did not answer: {error}", flush=True)
            statuses.add(UNKNOWN)
    for file in (list_.replace(".txt", ".lock") for list_ in LISTS):
        try:
            found = "; ".join(vulnerabilities(ROOT / file))
            print(f"{file}: {found or 'no known vulnerabilities'}", flush=True)
            statuses.add(VULNERABLE if found else 0)
        except UnansweredError as error:
            print(f"{file}: NOT KNOWN whether vulnerable, because the database did not answer: {error}", flush=True)
            statuses.add(UNKNOWN)
    return VULNERABLE if VULNERABLE in statuses else max(statuses)


def outdated(requirements: str) -> Iterator[str]:
    """Yield each pin that is not the newest version; raise UnansweredError."""
    pins = {_normal(name): version for name, version in _PIN.findall(requirements)}
    options = ("--quiet", "--python-version=3.11", "--no-deps", "--no-header", "--no-annotate")
    said = _run("uv", "pip", "compile", *options, "-", given="\n".join(pins))
    newest = {_normal(name): version for name, version in _PIN.findall(said)}
    if newest.keys() != pins.keys():
        raise UnansweredError(f"nothing about {', '.join(sorted(pins.keys() ^ newest.keys()))}")
    yield from (f"{name} {pins[name]}, newest {newest[name]}" for name in pins if newest[name] != pins[name])


def vulnerabilities(lock: Path) -> Iterator[str]:
    """Yield each known vulnerability of what a lock has; raise UnansweredError, also if anything was left out."""
    options = ("--vulnerability-service=osv", "--disable-pip", "--format=json", "--desc=off", "--progress-spinner=off")
    report = json.loads(_run("pip-audit", *options, "--requirement", str(lock)))
    for package in report["dependencies"]:
        if "skip_reason" in package:
            raise UnansweredError(package["skip_reason"])
        for known in package["vulns"]:
            repaired = ", ".join(known["fix_versions"]) or "no version"
            yield f"{package['name']} {package['version']} has {known['id']}, repaired in {repaired}"


def _run(tool: str, *arguments: str, given: str = "") -> str:
    """Return what a tool printed; raise UnansweredError if that is nothing."""
    command = [str(Path(sys.executable).with_name(tool)), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT, check=False)
    if not done.stdout.strip():
        raise UnansweredError((done.stderr.strip().splitlines() or [f"{tool} said nothing"])[-1].strip())
    return done.stdout


def _normal(name: str) -> str:
    """Return a package's name as indexes compare it, without extras."""
    return re.sub(r"[._-]+", "-", name.partition("[")[0]).lower()


if __name__ == "__main__":
    sys.exit(main())
