"""Nothing connects at import (rule 1 of the house)."""

from __future__ import annotations

import subprocess
import sys

from tests.unit.test_architecture import ROOT, modules

# An audit hook sees every socket, process and file that importing the rooms would open to write.
_IMPORT_ALL = """
import importlib, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "sqlite3.connect", "os.mkdir"):
        raise RuntimeError(f"{event} {arguments!r} at import")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise RuntimeError(f"{arguments[0]} opened for writing at import")

sys.dont_write_bytecode = True
sys.addaudithook(refuse)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_importing_opens_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, *modules()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
