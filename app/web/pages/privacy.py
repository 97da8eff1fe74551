"""The page on personal data, written from this installation's configuration."""

from __future__ import annotations

from app.projects.requests import KEPT_DAYS

from .base import PageHandler

_HOUR = 3600


class PrivacyPage(PageHandler):
    needs = "nothing"

    async def get(self) -> None:
        access, policy = self.services.access, self.services.policy
        self.show(
            "privacy.html",
            names_days=policy.audit_days,
            audit_days=policy.audit_kept_days,
            request_days=KEPT_DAYS,
            absent_days=access.absent_days,
            idle_hours=_hours(access.session_idle),
            life_hours=_hours(access.session_life),
        )


def _hours(seconds: int) -> str:
    return f"{seconds / _HOUR:.3g}"
