"""Add a generation to accounts: a session that began under another generation is refused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("account", sa.Column("generation", sa.BigInteger(), server_default="0", nullable=False))
