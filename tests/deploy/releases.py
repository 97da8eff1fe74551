"""Releases that are made of another one."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path


def remake(release: Path, version: str, change: Callable[[Path], None], scratch: Path) -> None:
    """Make a release of 1.0.0, both in the folder ``release``; ``change`` has it unpacked."""
    shutil.unpack_archive(release / "registry-1.0.0.tar.gz", scratch)
    change(scratch)
    with tarfile.open(release / f"registry-{version}.tar.gz", "w:gz") as packed:
        for part in sorted(scratch.iterdir()):
            packed.add(part, part.name)


def end_at_once(folder: Path) -> None:
    """Change a release so that its service never becomes ready."""
    main = folder / "app/main.py"
    text = main.read_text()
    assert "    sockets = bind(" in text
    main.write_text(text.replace(
        "    sockets = bind(", '    raise OSError("this release is broken")\n    sockets = bind('
    ))  # fmt: skip
