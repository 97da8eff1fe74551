"""Grants for tests that call services without the authorizer in front of them."""

from __future__ import annotations

import time

from app.access.principal import ANONYMOUS
from app.access.scopes import ALL_ACTIONS, NO_PROJECT, Access
from app.access.tokens import LIFETIME, Grant
from app.database import Database, projects
from app.oci.reference import Name


async def everything(database: Database, name: Name) -> Grant:
    """Grant everything in one repository of the project that has its name now."""
    head = await projects.head(database, name.project)
    access = Access(ALL_ACTIONS, head[0] if head else NO_PROJECT)
    return Grant(ANONYMOUS, {name: access}, catalogue=False, expires_at=time.time() + LIFETIME)
