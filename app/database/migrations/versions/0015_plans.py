"""Add the plans of images that are to be in a mirror before a date, and until when content is kept for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

rowid = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "plan",
        sa.Column("id", rowid, nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("platforms", sa.JSON(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("weekly", sa.Boolean(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("waiting", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_plan"),
    )
    op.create_table(
        "plan_image",
        sa.Column("plan_id", rowid, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("project_id", rowid, nullable=False),
        sa.Column("repository", bytewise, nullable=False),
        sa.Column("reference", bytewise, nullable=False),
        sa.Column("digest", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("gets", sa.BigInteger(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("missing_bytes", sa.BigInteger(), nullable=True),
        sa.Column("checked_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("ready_at", sa.Double(), nullable=True),
        sa.Column("expected_at", sa.Double(), nullable=True),
        sa.Column("late", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("problem", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("pulls_before", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("plan_id", "number", name="pk_plan_image"),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name="fk_plan_image_plan_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_plan_image_project_id", ondelete="CASCADE"),
    )
    op.create_table(
        "plan_spent",
        sa.Column("upstream", sa.String(), nullable=False),
        sa.Column("credential", sa.String(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("gets", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("upstream", "credential", "hour", name="pk_plan_spent"),
    )
    op.add_column("link", sa.Column("kept_until", sa.Double(), server_default="0", nullable=False))
    op.add_column("manifest", sa.Column("kept_until", sa.Double(), server_default="0", nullable=False))
