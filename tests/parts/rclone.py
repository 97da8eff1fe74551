"""rclone, which the role `backup` copies with; whether it is here."""

from __future__ import annotations

import shutil


def missing() -> str | None:
    return None if shutil.which("rclone") else "no rclone on the PATH (apt: rclone)"
