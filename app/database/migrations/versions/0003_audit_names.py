"""Add to each audit entry its project's name and the number of times.

Older entries get their project's name afterwards (`app.database.backfills`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("audit", sa.Column("project_name", sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column("audit", sa.Column("times", sa.BigInteger(), server_default="1", nullable=False))
    op.execute("INSERT INTO setting (name, value) VALUES ('backfill audit.project_name', '')")
