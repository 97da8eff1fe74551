"""Builds the official suite, runs it against a registry and reads what it found.

Source: https://github.com/opencontainers/distribution-spec/tree/main/conformance. It ends with 0 when it could not
even begin, so what counts is what it wrote: `results.yaml` (a state for each API) and `junit.xml` (every step).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.parts.process import ROOT

MODULE = "github.com/opencontainers/distribution-spec/conformance"
VERSION = "v0.0.0-20260831232431-97274622c111"
ARTIFACTS = ROOT / "tests" / "artifacts"

_PREFIX = "OCI Conformance Test/"
_GOOD = {"Pass", "Disabled"}


class NotBuilt(Exception):
    """Why the suite's program cannot be had here, in words."""


class NotRun(AssertionError):
    """The suite ended without a result; the message has all it printed."""


@dataclass(frozen=True)
class Step:
    """One step that did not pass: its name, what the suite says of it, and the exchange of messages."""

    name: str
    message: str
    exchange: str

    def __str__(self) -> str:
        return f"{self.name}\n    " + self.message.replace("\n", "\n    ")


@dataclass(frozen=True)
class Result:
    """What the suite found; ``folder`` has its report.html, to be read in a browser."""

    folder: Path
    passed: int
    failures: list[Step]
    skipped: list[Step]
    apis: dict[str, str]
    data: dict[str, str]

    @property
    def not_passed(self) -> list[str]:
        """List the APIs and the kinds of data that neither passed nor are switched off in this version."""
        states = [*self.apis.items(), *self.data.items()]
        return [f"{name}: {state}" for name, state in states if state not in _GOOD]

    def summary(self) -> str:
        """Say it for people: how much passed, and every step that failed."""
        lines = [f"{self.passed} passed, {len(self.failures)} failed, {len(self.skipped)} skipped; {self.folder}"]
        return "\n".join([*lines, *map(str, self.failures), *self.not_passed])


def program() -> Path:
    """Build the suite's program, once for each version of it; raises NotBuilt."""
    if shutil.which("go") is None:
        raise NotBuilt("no Go here")
    folder = ARTIFACTS / "go" / VERSION
    built = folder / "conformance"
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["go", "install", f"{MODULE}@{VERSION}"], env={**os.environ, "GOBIN": str(folder)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        if done.returncode != 0:
            raise NotBuilt(f"Go cannot build the suite: {done.stderr.strip()[-500:]}")
    return built


def run(
    host: str,
    name: str,
    *,
    version: str,
    repositories: tuple[str, str] = ("conformance/repo1", "conformance/repo2"),
    credentials: tuple[str, str] | None = None,
    keep_tokens: bool = True,
) -> Result:
    """Run the suite of one ``version`` (1.1 or dev) of the specification against a registry without TLS.

    ``name`` is the folder under tests/artifacts/conformance for its reports. Raises NotRun, NotBuilt.
    """
    folder = ARTIFACTS / "conformance" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    username, password = credentials or ("", "")
    settings = {
        "OCI_REGISTRY": host, "OCI_TLS": "disabled", "OCI_VERSION": version, "OCI_RESULTS_DIR": str(folder),
        "OCI_REPO1": repositories[0], "OCI_REPO2": repositories[1], "OCI_USERNAME": username, "OCI_PASSWORD": password,
        "OCI_CACHE_AUTH": str(keep_tokens).lower(),
    }  # fmt: skip
    others = {key: value for key, value in os.environ.items() if not key.startswith("OCI_")}
    done = subprocess.run(
        [program()], env=others | settings, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    if not (folder / "results.yaml").exists() or not (folder / "junit.xml").exists():
        raise NotRun(f"the suite ended with {done.returncode} and left no result:\n{done.stdout}{done.stderr}")
    return _read(folder)


def _read(folder: Path) -> Result:
    states = yaml.safe_load((folder / "results.yaml").read_text())
    steps = list(ET.parse(folder / "junit.xml").getroot().iter("testcase"))
    by_status: dict[str, list[Step]] = {"passed": [], "failure": [], "error": [], "skipped": []}
    for step in steps:
        name, message = step.get("name", "").removeprefix(_PREFIX), step.findtext("system-out") or "no reason given"
        by_status[step.get("status", "error")].append(Step(name, message, step.findtext("system-err") or ""))
    return Result(
        folder=folder,
        passed=len(by_status["passed"]),
        failures=by_status["failure"] + by_status["error"],
        skipped=by_status["skipped"],
        apis=dict(states["apis"]),
        data=dict(states["data"]),
    )
