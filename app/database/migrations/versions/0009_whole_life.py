"""Say when people were last seen and which project nobody manages; add identities, notices and letters.

Everybody from before counts as seen when their row is filled (`app.database.backfills`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

rowid = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("account", sa.Column("seen_at", sa.Double(), nullable=True))
    op.add_column("project", sa.Column("unattended_at", sa.Double(), nullable=True))
    op.create_table(
        "identity",
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("account_id", rowid, nullable=False),
        sa.PrimaryKeyConstraint("value", name="pk_identity"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_identity_account_id", ondelete="CASCADE"),
    )
    op.create_table(
        "notice",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("thing_id", sa.BigInteger(), nullable=False),
        sa.Column("days", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "thing_id", "days", "ends_at", name="pk_notice"),
    )
    op.create_table(
        "letter",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.Column("try_at", sa.Double(), nullable=False),
        sa.Column("sending", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_letter"),
    )
    op.execute("INSERT INTO setting (name, value) VALUES ('backfill account.seen_at', '')")
