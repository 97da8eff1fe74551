"""What processes have cost so far: CPU time of a whole tree, and the peak memory of each process in it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.parts.service import descendants

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Add up the CPU time, user and system, of a process and everything beneath it that is still there."""
    return sum(map(_ticks, [pid, *descendants(pid)])) / _TICKS


def peak_memory(pid: int) -> dict[str, int]:
    """Say how much memory each process of a tree has had at most, in bytes, by "command pid"."""
    peaks: dict[str, int] = {}
    for one in (pid, *descendants(pid)):
        fields = dict(line.split(":", 1) for line in _read(one, "status").splitlines())
        if "VmHWM" in fields:
            peaks[f"{fields['Name'].strip()} {one}"] = int(fields["VmHWM"].split()[0]) * 1024
    return peaks


def _ticks(pid: int) -> int:
    # The command's name may hold spaces and brackets; the numbers come after the last bracket.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]) if fields else 0


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:  # it has ended meanwhile
        return ""
