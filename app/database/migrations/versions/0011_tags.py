"""Add the rules that make tags immutable, and the history of tags."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

rowid = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("project", sa.Column("immutable", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("tag", sa.Column("pointed_at", sa.Double(), nullable=True))
    op.add_column("tag", sa.Column("pointed_by", sa.String(), nullable=True))
    op.create_table(
        "immutable_rule",
        sa.Column("id", rowid, nullable=False),
        sa.Column("project_id", rowid, nullable=False),
        sa.Column("repositories", sa.String(), nullable=False),
        sa.Column("excludes_repositories", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.String(), nullable=False),
        sa.Column("excludes_tags", sa.Boolean(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name="fk_immutable_rule_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_immutable_rule"),
    )
    op.create_table(
        "tag_history",
        sa.Column("repository_id", rowid, nullable=False),
        sa.Column("name", bytewise, nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("digest", bytewise, nullable=False),
        sa.Column("pointed_by", sa.String(), nullable=True),
        sa.Column("charged_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name="fk_tag_history_repository_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "name", "since", name="pk_tag_history"),
    )
