"""Say of each manifest, tag and label on a manifest how many bytes its project is charged, and who opened an upload.

Those from before are charged afterwards (`app.database.backfills`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for table in ("manifest", "tag", "manifest_label"):
        op.add_column(table, sa.Column("charged_bytes", sa.BigInteger(), nullable=True))
    op.add_column("upload", sa.Column("opened_in", sa.BigInteger(), nullable=True))
    op.add_column("upload", sa.Column("opened_by", sa.String(), nullable=True))
    op.execute("INSERT INTO setting (name, value) VALUES ('backfill charged_bytes', '')")
