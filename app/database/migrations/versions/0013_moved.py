"""Note what was moved in from a Harbor, and the name under which a moved secret logs in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "moved",
        sa.Column("kind", sa.String(), primary_key=True),
        sa.Column("harbor_id", sa.BigInteger(), primary_key=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("target", sa.BigInteger(), nullable=False),
    )
    op.add_column("access_key", sa.Column("login_name", sa.String(), nullable=True))
