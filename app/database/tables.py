"""The tables: everything of record.

    project ─┬─ repository ─┬─ tag ────────────┐ names a manifest
             │              ├─ manifest ◄──────┘ payload, byte for byte
             │              │    └─ part         what the payload refers to, keyed by digest
             │              ├─ link ── blob      a repository may serve a blob; a blob names its object
             │              └─ upload            an upload session and where its bytes are
    garbage   objects to remove, and when: written before the object is
    review    what may have lost its last reference, and when to look
    account   people who log in with a password kept here; signing_key: what tokens are signed with

Times are Unix seconds (double precision), sizes bytes. Names and tags compare by byte ("C"), so that listing
in ASCII order is a walk along the primary key on both databases.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_bytewise = String().with_variant(String(collation="C"), "postgresql")
_rowid = BigInteger().with_variant(Integer, "sqlite")


def _of_repository() -> ForeignKey:
    return ForeignKey("repository.id", ondelete="CASCADE")


project = Table(
    "project",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("name", _bytewise, nullable=False, unique=True),
    Column("public", Boolean, nullable=False),
    Column("upstream", String, nullable=True),
    Column("settings", JSON, nullable=False),
    Column("used_bytes", BigInteger, nullable=False, server_default="0"),
    Column("created_at", Double, nullable=False),
)

repository = Table(
    "repository",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    Column("name", _bytewise, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("uq_repository_project_id_name", "project_id", "name", unique=True),
)

blob = Table(
    "blob",
    metadata,
    Column("digest", _bytewise, primary_key=True),
    Column("object_key", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
)

link = Table(
    "link",
    metadata,
    Column("repository_id", _of_repository(), primary_key=True),
    Column("digest", ForeignKey("blob.digest"), primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    Column("pulled_at", Double, nullable=False),
    Index("ix_link_digest", "digest"),
    Index("ix_link_project_id_digest", "project_id", "digest"),
    Index("ix_link_project_id_pulled_at", "project_id", "pulled_at"),
)

manifest = Table(
    "manifest",
    metadata,
    Column("repository_id", _of_repository(), primary_key=True),
    Column("digest", _bytewise, primary_key=True),
    Column("media_type", String, nullable=False),
    Column("artifact_type", String, nullable=True),
    Column("subject", _bytewise, nullable=True),
    Column("annotations", JSON, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("pulled_at", Double, nullable=False),
    Index("ix_manifest_repository_id_subject_digest", "repository_id", "subject", "digest"),
)

_manifest_key = ["manifest.repository_id", "manifest.digest"]

part = Table(
    "part",
    metadata,
    Column("repository_id", _rowid, primary_key=True),
    Column("manifest", _bytewise, primary_key=True),
    Column("digest", _bytewise, primary_key=True),
    Column("is_manifest", Boolean, primary_key=True),
    Column("size", BigInteger, nullable=False),
    ForeignKeyConstraint(["repository_id", "manifest"], _manifest_key, ondelete="CASCADE"),
    # With the kind at its end it covers the questions asked of it; SQLite would take the primary key otherwise.
    Index("ix_part_repository_id_digest_is_manifest", "repository_id", "digest", "is_manifest"),
)

tag = Table(
    "tag",
    metadata,
    Column("repository_id", _rowid, primary_key=True),
    Column("name", _bytewise, primary_key=True),
    Column("digest", _bytewise, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("checked_at", Double, nullable=False),
    ForeignKeyConstraint(["repository_id", "digest"], _manifest_key, ondelete="CASCADE"),
    Index("ix_tag_repository_id_digest", "repository_id", "digest"),
)

upload = Table(
    "upload",
    metadata,
    Column("id", String, primary_key=True),
    Column("repository_id", _of_repository(), nullable=False),
    Column("object_key", String, nullable=False),
    Column("state", JSON, nullable=True),
    Column("bytes_written", BigInteger, nullable=False),
    Column("digest_so_far", String, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("ix_upload_updated_at", "updated_at"),
)

garbage = Table(
    "garbage",
    metadata,
    Column("object_key", String, primary_key=True),
    Column("remove_at", Double, nullable=False),
    Index("ix_garbage_remove_at", "remove_at"),
)

review = Table(
    "review",
    metadata,
    Column("repository_id", _of_repository(), primary_key=True),
    Column("digest", _bytewise, primary_key=True),
    Column("review_at", Double, nullable=False),
    Index("ix_review_review_at", "review_at"),
)

account = Table(
    "account",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("username", String, nullable=False, unique=True),
    Column("password_hash", Text, nullable=True),
    Column("is_admin", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
)

signing_key = Table(
    "signing_key",
    metadata,
    Column("id", String, primary_key=True),
    Column("private_key", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)
