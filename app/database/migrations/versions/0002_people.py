"""Add access keys, members, robots, labels, the audit log, and the traffic and budget of mirrors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")
rowid = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", rowid, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("operation", sa.String(), nullable=False),
        sa.Column("resource_type", sa.String(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)
    op.create_index("ix_audit_project_id_id", "audit", ["project_id", "id"], unique=False)
    op.create_table(
        "budget_sample",
        sa.Column("upstream", sa.String(), nullable=False),
        sa.Column("credential", sa.String(), nullable=False),
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.Column("remaining", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("upstream", "credential", "minute", name="pk_budget_sample"),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_setting"),
    )
    op.create_table(
        "access_key",
        sa.Column("id", rowid, nullable=False),
        sa.Column("account_id", rowid, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("last_used_from", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_access_key_account_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_access_key"),
        sa.UniqueConstraint("secret_hash", name="uq_access_key_secret_hash"),
    )
    op.create_index("uq_access_key_account_id_name", "access_key", ["account_id", "name"], unique=True)
    op.create_table(
        "label",
        sa.Column("id", rowid, nullable=False),
        sa.Column("project_id", rowid, nullable=True),
        sa.Column("name", bytewise, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("color", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_label_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_label"),
    )
    op.create_index("uq_label_project_id_name", "label", ["project_id", "name"], unique=True)
    op.create_table(
        "member",
        sa.Column("id", rowid, nullable=False),
        sa.Column("project_id", rowid, nullable=False),
        sa.Column("account_id", rowid, nullable=True),
        sa.Column("group_name", bytewise, nullable=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_member_account_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_member_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_member"),
    )
    op.create_index("ix_member_account_id", "member", ["account_id"], unique=False)
    op.create_index("ix_member_group_name", "member", ["group_name"], unique=False)
    op.create_index("uq_member_project_id_account_id", "member", ["project_id", "account_id"], unique=True)
    op.create_index("uq_member_project_id_group_name", "member", ["project_id", "group_name"], unique=True)
    op.create_table(
        "robot",
        sa.Column("id", rowid, nullable=False),
        sa.Column("project_id", rowid, nullable=True),
        sa.Column("name", bytewise, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("last_used_from", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_robot_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_robot"),
        sa.UniqueConstraint("name", name="uq_robot_name"),
    )
    op.create_index("ix_robot_project_id_name", "robot", ["project_id", "name"], unique=False)
    op.create_table(
        "traffic",
        sa.Column("project_id", rowid, nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.Column("misses", sa.BigInteger(), nullable=False),
        sa.Column("served_bytes", sa.BigInteger(), nullable=False),
        sa.Column("fetched_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_traffic_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "hour", name="pk_traffic"),
    )
    op.create_table(
        "manifest_label",
        sa.Column("repository_id", rowid, nullable=False),
        sa.Column("digest", bytewise, nullable=False),
        sa.Column("label_id", rowid, nullable=False),
        sa.ForeignKeyConstraint(["label_id"], ["label.id"], name="fk_manifest_label_label_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["repository_id", "digest"],
            ["manifest.repository_id", "manifest.digest"],
            name="fk_manifest_label_repository_id_digest",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "digest", "label_id", name="pk_manifest_label"),
    )
    op.create_index("ix_manifest_label_label_id", "manifest_label", ["label_id"], unique=False)
    op.add_column("account", sa.Column("source", sa.String(), server_default="local", nullable=False))
    op.add_column("account", sa.Column("full_name", sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column("account", sa.Column("email", sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column("account", sa.Column("groups", sa.JSON(), nullable=True))
    op.add_column("account", sa.Column("last_login_at", sa.Double(), nullable=True))
    op.create_index(
        "ix_manifest_repository_id_created_at_digest",
        "manifest",
        ["repository_id", "created_at", "digest"],
        unique=False,
    )
    op.add_column("project", sa.Column("owner_id", sa.BigInteger(), nullable=True))
    op.add_column("project", sa.Column("description", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("project", sa.Column("quota_bytes", sa.BigInteger(), nullable=True))
    op.add_column("project", sa.Column("upstream_credential", sa.Text(), nullable=True))
    op.create_index("ix_project_owner_id", "project", ["owner_id"], unique=False)
    op.add_column("repository", sa.Column("description", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("repository", sa.Column("pull_count", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("upload", sa.Column("charged_bytes", sa.BigInteger(), server_default="0", nullable=False))
