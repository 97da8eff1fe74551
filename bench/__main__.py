"""``python -m bench [--write] [MEASUREMENT …]``: measure and print the table; ``--write`` puts it into README.md."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import tornado

from tests.parts import distribution

from .blobs import blobs
from .growth import growth
from .herd import herd
from .manifests import heads, manifests
from .nginx import nginx
from .pushes import memory, pushes
from .servers import versions
from .table import Row, render
from .tags import tags

README = Path(__file__).with_name("README.md")
# Everything after this line is written by the program.
MARK = "<!-- measured -->\n"

MEASUREMENTS: dict[str, Callable[[Path], Iterator[Row]]] = {
    measure.__name__: measure for measure in (manifests, heads, blobs, pushes, memory, tags, herd, nginx)
}


def main() -> int:
    """Run what was asked for; answers the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="The registry beside its peers.")
    parser.add_argument("--write", action="store_true", help="put the table into bench/README.md")
    parser.add_argument("measurements", nargs="*", metavar="MEASUREMENT", help=", ".join(MEASUREMENTS))
    arguments = parser.parse_args()
    if arguments.measurements == ["growth"]:
        growth(README, write=arguments.write)
        return 0
    unknown = set(arguments.measurements) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
    if arguments.write and arguments.measurements:
        parser.error("--write is for all measurements together: a table is of one run")
    if (reason := distribution.missing()) is not None:
        print(f"nothing was measured: {reason}")
        return 1
    text = measured(arguments.measurements or list(MEASUREMENTS))
    print(text)
    if arguments.write:
        before, mark, _ = README.read_text().partition(MARK)
        README.write_text(f"{before}{mark}\n{text}\n")
    return 0


def measured(names: list[str]) -> str:
    """Run measurements and say what they found, and where and when, in Markdown."""
    began, load = time.monotonic(), os.getloadavg()[0]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in names:
            print(f"# {name}", file=sys.stderr, flush=True)
            rows += MEASUREMENTS[name](Path(folder) / name)
    minutes, after = (time.monotonic() - began) / 60, os.getloadavg()[0]
    others = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        f"{time.strftime('%Y-%m-%d')}, {_machine()}; load {load:.1f} before and {after:.1f} at the end of "
        f"{minutes:.0f} minutes. Python {platform.python_version()}, Tornado {tornado.version}, "
        f"SQLite {sqlite3.sqlite_version}; {others}.\n\n{render(rows)}"
    )


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "an unknown kind")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}"


if __name__ == "__main__":
    sys.exit(main())
