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
from .images import images, tokens
from .lookups import lookups
from .manifests import heads, manifests, production, production_nginx
from .nginx import nginx
from .plans import report
from .push_cost import push_cost
from .pushes import memory, pushes
from .servers import versions
from .table import Row, render
from .tags import tags

README = Path(__file__).with_name("README.md")
# Everything after this line is written by the program.
MARK = "<!-- measured -->\n"

# A table for each section: what its server runs on, and the measurements.
SECTIONS: dict[str, tuple[Callable[[Path], Iterator[Row]], ...]] = {
    "As the roles install it: PostgreSQL and Redis by socket": (
        production,
        production_nginx,
        tokens,
        images,
        push_cost,
    ),
    "As it ships: SQLite, a private Redis": (manifests, heads, blobs, pushes, memory, tags, herd, nginx, lookups),
}
MEASUREMENTS = {measure.__name__: measure for section in SECTIONS.values() for measure in section}


def main() -> int:
    """Run what was asked for; answers the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="The registry beside its peers.")
    parser.add_argument("--write", action="store_true", help="put the table into bench/README.md")
    parser.add_argument("measurements", nargs="*", metavar="MEASUREMENT", help=", ".join(MEASUREMENTS))
    arguments = parser.parse_args()
    if arguments.measurements == ["growth"]:
        growth(README, write=arguments.write)
        return 0
    if arguments.measurements == ["plans"]:
        print(report())
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
    tables: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for title, section in SECTIONS.items():
            rows: list[Row] = []
            for measure in section:
                if measure.__name__ in names:
                    print(f"# {measure.__name__}", file=sys.stderr, flush=True)
                    rows += measure(Path(folder) / measure.__name__)
            if rows:
                tables.append(f"## {title}\n\n{render(rows)}")
    minutes, after = (time.monotonic() - began) / 60, os.getloadavg()[0]
    others = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        f"{time.strftime('%Y-%m-%d')}, {_machine()}; load {load:.1f} before and {after:.1f} at the end of "
        f"{minutes:.0f} minutes. Python {platform.python_version()}, Tornado {tornado.version}, "
        f"SQLite {sqlite3.sqlite_version}; {others}.\n\n" + "\n\n".join(tables)
    )


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "an unknown kind")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}"


if __name__ == "__main__":
    sys.exit(main())
