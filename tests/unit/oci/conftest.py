"""Hypothesis tries the same examples every time, and is in no hurry on a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("reproducible", deadline=None, derandomize=True, database=None)
settings.load_profile("reproducible")
