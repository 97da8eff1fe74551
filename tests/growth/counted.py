"""Runs the service and counts the steps that SQLite's machine takes, in a file that the tests read."""

from __future__ import annotations

import mmap
import sqlite3
import struct
import sys
from pathlib import Path
from typing import Any

import app.__main__ as program

NAME = "steps"
# A statement with fewer steps is not counted; one of a page of a list has hundreds.
_EVERY = 10


class Steps:
    """How many steps were counted so far, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)

    @property
    def taken(self) -> int:
        (number,) = struct.unpack_from("q", self._shared)
        return int(number)

    def count(self) -> None:
        """Have every later connection of this process count; never ends, so the process is for counting alone."""
        connect = sqlite3.connect

        def add() -> int:
            struct.pack_into("q", self._shared, 0, self.taken + _EVERY)
            return 0

        def counting(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **options)
            connection.set_progress_handler(add, _EVERY)
            return connection

        vars(sqlite3)["connect"] = counting


def main() -> int:
    """Run a command of the service; the file is beside the configuration."""
    Steps(Path(sys.argv[sys.argv.index("--config") + 1]).parent).count()
    return program.main()


if __name__ == "__main__":
    sys.exit(main())
