"""Say which repositories have had no manifest yet, and who pushed the blobs that no manifest names yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("repository", sa.Column("pending", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("review", sa.Column("project_id", sa.BigInteger(), nullable=True))
    op.add_column("review", sa.Column("pushed_by", sa.String(), nullable=True))
