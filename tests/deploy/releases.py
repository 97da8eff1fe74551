"""Releases that are made of another one."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path


def broken(archive: Path, to: Path, scratch: Path) -> None:
    """Make a release whose service ends at once."""
    shutil.unpack_archive(archive, scratch, filter="data")
    main = scratch / "app/main.py"
    text = main.read_text()
    assert "    sockets = bind(" in text
    main.write_text(text.replace(
        "    sockets = bind(", '    raise OSError("this release is broken")\n    sockets = bind('
    ))  # fmt: skip
    with tarfile.open(to, "w:gz") as packed:
        for part in sorted(scratch.iterdir()):
            packed.add(part, part.name)
