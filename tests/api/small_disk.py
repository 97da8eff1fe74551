"""A disk that fills up, a file system of a few megabytes in memory, and one that stops to answer."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def missing() -> str | None:
    if os.geteuid() != 0:
        return "a disk of its own can only be mounted as root"
    if shutil.which("mount") is None:
        return "no mount here (apt: mount)"
    return None


class SmallDisk:
    """A mounted file system; `fill` leaves no byte free, `clear` gives the room back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filling = folder / "filling"

    def fill(self, *, leave: int = 0) -> None:
        """Take all the room but ``leave`` bytes."""
        with self._filling.open("ab") as file:
            while (free := self.free() - leave) > 0:
                try:
                    file.write(b"x" * min(free, 1 << 20))
                    file.flush()
                except OSError:
                    return

    def clear(self) -> None:
        self._filling.unlink(missing_ok=True)

    def free(self) -> int:
        """Say how many bytes are free."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class FrozenDisk:
    """A mounted file system on which writers can be made to wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Make all who write wait until the end of the block."""
        subprocess.run(["fsfreeze", "--freeze", str(self.folder)], check=True)
        try:
            yield
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", str(self.folder)], check=True)


@contextmanager
def frozen_disk(folder: Path, megabytes: int) -> Iterator[FrozenDisk]:
    """Mount a file of its own; a file system in memory cannot be frozen."""
    folder.mkdir(parents=True, exist_ok=True)
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield FrozenDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
