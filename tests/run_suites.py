"""Runs every check and every suite, the quick ones first, and says at the end what ran, what did not, and why.

A suite is a folder here with test files, run by one call of pytest of its own, two at a time. All are run whatever
becomes of the ones before, and any that fails fails the run. Whether a part that is missing is a failure (CI=true) is
for `tests.conftest.require` to say.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "tests" / "artifacts"
# Suites that are not named here come after these.
ORDER = (
    "unit",
    "proof",
    "sso",
    "api",
    "webapi",
    "contract",
    "mirror",
    "conformance",
    "deploy",
    "clients",
    "guide",
    "web",
    "story",
)
# Suites that are too long for every run: what is run of them here, and the command that runs all.
IN_PART = {"deploy": (("test_checks.py", "test_single.py"), "make test-deploy")}
# What a suite may take before it is ended: it hangs where pytest's own limit for each test does not reach.
LONGEST_SECONDS = 20 * 60
# Suites wait for disks, containers and clocks more than they compute.
AT_ONCE = 2

# Process groups to end when the run is.
_running: set[int] = set()


@dataclass
class Outcome:
    """What became of one suite."""

    name: str
    failed: bool
    seconds: float
    counts: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def words(self) -> str:
        """Say it in a line."""
        numbers = [f"{self.counts[kind]} {kind}" for kind in ("passed", "failed", "skipped") if self.counts[kind]]
        return ", ".join(numbers)


def main() -> int:
    REPORTS.mkdir(exist_ok=True)
    began = time.monotonic()
    outcomes = [lint()]
    try:
        with ThreadPoolExecutor(AT_ONCE) as lanes:
            outcomes += lanes.map(suite, suites())
    except BaseException:
        for pid in list(_running):
            os.killpg(pid, signal.SIGKILL)
        raise
    print("\n" + "\n".join(report(outcomes, time.monotonic() - began)))
    return int(any(outcome.failed for outcome in outcomes))


def suites() -> list[str]:
    """List the folders that have tests."""
    found = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/**/test_*.py")}
    return [name for name in ORDER if name in found] + sorted(found - {*ORDER, REPORTS.name})


def lint() -> Outcome:
    """Run the checks that read the code only."""
    code, seconds = run("lint", ["make", "--no-print-directory", "lint"])
    return Outcome("lint", code != 0, seconds)


def suite(name: str) -> Outcome:
    """Run one suite and read its report."""
    file = REPORTS / f"{name}.xml"
    file.unlink(missing_ok=True)
    code, seconds = run(name, [sys.executable, "-m", "pytest", *parts(name), "--quiet", f"--junitxml={file}"])
    outcome = Outcome(name, code != 0, seconds)
    if file.exists():
        read(file, outcome)
    return outcome


def parts(name: str) -> list[str]:
    """Name what is run of a suite."""
    files, _ = IN_PART.get(name, ((), ""))
    return [f"tests/{name}/{file}" for file in files] or [f"tests/{name}"]


def read(file: Path, outcome: Outcome) -> None:
    """Count what a report says; skipped tests by their reasons."""
    for test in ET.parse(file).getroot().iter("testcase"):
        skipped = test.find("skipped")
        if test.find("failure") is not None or test.find("error") is not None:
            outcome.counts["failed"] += 1
        elif skipped is not None:
            outcome.counts["skipped"] += 1
            outcome.skipped[skipped.get("message") or "no reason given"] += 1
        else:
            outcome.counts["passed"] += 1


def run(name: str, command: Sequence[str]) -> tuple[int, float]:
    """Run a command in the project's folder and show its output at its end; give its exit code and how long it took."""
    print(f"{name} begins", flush=True)
    began, log = time.monotonic(), REPORTS / f"{name}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        _running.add(process.pid)
        try:
            code = process.wait(LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output.write(f"ended after {LONGEST_SECONDS} s\n".encode())
            code = -signal.SIGKILL
        finally:
            _running.discard(process.pid)
    print(f"\n# {name}\n{log.read_text(errors='replace')}", flush=True)
    return code, time.monotonic() - began


def report(outcomes: Sequence[Outcome], seconds: float) -> list[str]:
    """Say what ran and what did not; the last line is like pytest's own."""
    lines = []
    for outcome in outcomes:
        nothing_ran = outcome.skipped and not outcome.counts["passed"]
        verdict = "FAILED" if outcome.failed else "not run" if nothing_ran else "ok"
        lines.append(f"{outcome.name:<12} {verdict:<7} {outcome.seconds:>5.0f} s  {outcome.words()}")
        lines += [f"{'':<12} {count} not run: {reason}" for reason, count in outcome.skipped.most_common()]
    lines += [f"{name:<12} in part         the rest is in `{command}`" for name, (_, command) in IN_PART.items()]
    total = sum((outcome.counts for outcome in outcomes), Counter[str]())
    total["failed"] += sum(outcome.failed and not outcome.counts["failed"] for outcome in outcomes)
    numbers = ", ".join(f"{total[kind]} {kind}" for kind in ("failed", "passed", "skipped") if total[kind])
    return [*lines, f"===== {numbers} in {seconds:.2f}s ====="]


if __name__ == "__main__":
    sys.exit(main())
