"""Add when, by whom and under which name something in the bin was deleted, and the digests whose copies are dropped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    for table in ("project", "repository"):
        op.add_column(table, sa.Column("deleted_at", sa.Double(), nullable=True))
        op.add_column(table, sa.Column("deleted_by", sa.String(), nullable=True))
        op.add_column(table, sa.Column("old_name", bytewise, nullable=True))
    op.add_column("project", sa.Column("was_public", sa.Boolean(), nullable=True))
    op.create_table(
        "purged",
        sa.Column("digest", bytewise, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_purged"),
    )
