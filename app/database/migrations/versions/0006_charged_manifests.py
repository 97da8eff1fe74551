"""Say of each manifest and tag how many bytes its project is charged.

Those from before are charged afterwards (`app.database.backfills`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for table in ("manifest", "tag"):
        op.add_column(table, sa.Column("charged_bytes", sa.BigInteger(), nullable=True))
    op.execute("INSERT INTO setting (name, value) VALUES ('backfill charged_bytes', '')")
