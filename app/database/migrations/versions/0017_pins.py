"""Add who made a rule, what the upstream has in place of a pinned tag, and the time zone of a weekly plan."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("immutable_rule", sa.Column("created_by", sa.String(), nullable=True))
    op.add_column("tag", sa.Column("newer", sa.String(), nullable=True))
    op.add_column("plan", sa.Column("zone", sa.String(), nullable=True))
