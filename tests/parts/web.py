"""Asking a part over HTTP whether it is there."""

from __future__ import annotations

import urllib.error
import urllib.request

from .process import Process


def answers(process: Process, url: str) -> bool:
    """Say whether ``url`` answers 200; raises RuntimeError, with what it printed, where the process has ended."""
    if not process.running:
        raise RuntimeError(f"process {process.pid} ended:\n{process.output()[-4000:]}")
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError:
        return False
