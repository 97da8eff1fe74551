"""What processes have cost so far: CPU time of whole trees, and the peak memory of each process in it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.parts.service import descendants

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(*pids: int) -> float:
    """Add up the CPU time, user and system, of processes and of all that they have started, also if it has ended."""
    return sum(_ticks(one) for pid in pids for one in (pid, *descendants(pid))) / _TICKS


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
    # Its own time, and that of its children that have ended and were waited for.
    return sum(map(int, fields[11:15]))


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:  # it has ended meanwhile
        return ""
