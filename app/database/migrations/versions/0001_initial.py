"""Make the first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")
rowid = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", rowid, nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.UniqueConstraint("username", name="uq_account_username"),
    )

    op.create_table(
        "blob",
        sa.Column("digest", bytewise, nullable=False),
        sa.Column("object_key", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_blob"),
    )

    op.create_table(
        "garbage",
        sa.Column("object_key", sa.String(), nullable=False),
        sa.Column("remove_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("object_key", name="pk_garbage"),
    )
    op.create_index("ix_garbage_remove_at", "garbage", ["remove_at"])

    op.create_table(
        "project",
        sa.Column("id", rowid, nullable=False),
        sa.Column("name", bytewise, nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("upstream", sa.String(), nullable=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_project"),
        sa.UniqueConstraint("name", name="uq_project_name"),
    )

    op.create_table(
        "signing_key",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("private_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_signing_key"),
    )

    op.create_table(
        "repository",
        sa.Column("id", rowid, nullable=False),
        sa.Column("project_id", rowid, nullable=False),
        sa.Column("name", bytewise, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_repository_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_repository"),
    )
    op.create_index("uq_repository_project_id_name", "repository", ["project_id", "name"], unique=True)

    op.create_table(
        "link",
        sa.Column("repository_id", rowid, nullable=False),
        sa.Column("digest", bytewise, nullable=False),
        sa.Column("project_id", rowid, nullable=False),
        sa.Column("pulled_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["blob.digest"], name="fk_link_digest"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_link_project_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["repository_id"], ["repository.id"], name="fk_link_repository_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("repository_id", "digest", name="pk_link"),
    )
    op.create_index("ix_link_digest", "link", ["digest"])
    op.create_index("ix_link_project_id_digest", "link", ["project_id", "digest"])
    op.create_index("ix_link_project_id_pulled_at", "link", ["project_id", "pulled_at"])

    op.create_table(
        "manifest",
        sa.Column("repository_id", rowid, nullable=False),
        sa.Column("digest", bytewise, nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("artifact_type", sa.String(), nullable=True),
        sa.Column("subject", bytewise, nullable=True),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("pulled_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name="fk_manifest_repository_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "digest", name="pk_manifest"),
    )
    op.create_index("ix_manifest_repository_id_subject_digest", "manifest", ["repository_id", "subject", "digest"])

    op.create_table(
        "review",
        sa.Column("repository_id", rowid, nullable=False),
        sa.Column("digest", bytewise, nullable=False),
        sa.Column("review_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name="fk_review_repository_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "digest", name="pk_review"),
    )
    op.create_index("ix_review_review_at", "review", ["review_at"])

    op.create_table(
        "upload",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("repository_id", rowid, nullable=False),
        sa.Column("object_key", sa.String(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=True),
        sa.Column("bytes_written", sa.BigInteger(), nullable=False),
        sa.Column("digest_so_far", sa.String(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name="fk_upload_repository_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
    )
    op.create_index("ix_upload_updated_at", "upload", ["updated_at"])

    op.create_table(
        "part",
        sa.Column("repository_id", rowid, nullable=False),
        sa.Column("manifest", bytewise, nullable=False),
        sa.Column("digest", bytewise, nullable=False),
        sa.Column("is_manifest", sa.Boolean(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id", "manifest"],
            ["manifest.repository_id", "manifest.digest"],
            name="fk_part_repository_id_manifest",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "manifest", "digest", "is_manifest", name="pk_part"),
    )
    op.create_index("ix_part_repository_id_digest_is_manifest", "part", ["repository_id", "digest", "is_manifest"])

    op.create_table(
        "tag",
        sa.Column("repository_id", rowid, nullable=False),
        sa.Column("name", bytewise, nullable=False),
        sa.Column("digest", bytewise, nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("checked_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id", "digest"],
            ["manifest.repository_id", "manifest.digest"],
            name="fk_tag_repository_id_digest",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "name", name="pk_tag"),
    )
    op.create_index("ix_tag_repository_id_digest", "tag", ["repository_id", "digest"])
