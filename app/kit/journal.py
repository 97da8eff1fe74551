"""The priority of a line on standard error, as systemd's journal reads it (sd-daemon(3))."""

from __future__ import annotations

import logging
import os

# Those of syslog.
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def priority(level: int) -> str:
    """Return what comes before a line of a level of `logging`; "" if standard error leads to no journal."""
    try:
        there = os.fstat(2)
    except OSError:
        return ""
    journal = os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
    return f"<{PRIORITIES[level]}>" if journal else ""
