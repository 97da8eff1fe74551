"""Add the retention policies of projects, with their runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

rowid = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def _to(table: str, column: str, of: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{of}.id"], name=f"fk_{table}_{column}", ondelete="CASCADE")


def upgrade() -> None:
    op.add_column("project", sa.Column("retention_id", sa.BigInteger(), nullable=True))
    op.add_column("project", sa.Column("pulls_noted_until", sa.Double(), nullable=True))
    op.create_table(
        "retention",
        sa.Column("id", rowid, nullable=False),
        sa.Column("project_id", rowid, nullable=False),
        sa.Column("rules", sa.JSON(), nullable=False),
        sa.Column("cron", sa.String(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("evaluated_at", sa.Double(), nullable=True),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retention"),
        sa.UniqueConstraint("project_id", name="uq_retention_project_id"),
        _to("retention", "project_id", "project"),
    )
    op.create_table(
        "retention_kept",
        sa.Column("repository_id", rowid, nullable=False),
        sa.Column("rule", sa.BigInteger(), nullable=False),
        sa.Column("digest", bytewise, nullable=False),
        _to("retention_kept", "repository_id", "repository"),
        sa.PrimaryKeyConstraint("repository_id", "rule", "digest", name="pk_retention_kept"),
    )
    op.create_table(
        "retention_execution",
        sa.Column("id", rowid, nullable=False),
        sa.Column("retention_id", rowid, nullable=False),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("leased_until", sa.Double(), nullable=True),
        _to("retention_execution", "retention_id", "retention"),
        sa.PrimaryKeyConstraint("id", name="pk_retention_execution"),
    )
    op.create_table(
        "retention_task",
        sa.Column("id", rowid, nullable=False),
        sa.Column("execution_id", rowid, nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("repository", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("retained", sa.BigInteger(), nullable=False),
        sa.Column("freed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.JSON(), nullable=False),
        _to("retention_task", "execution_id", "retention_execution"),
        sa.PrimaryKeyConstraint("id", name="pk_retention_task"),
    )
