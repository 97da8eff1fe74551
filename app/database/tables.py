"""The tables of the database, which hold everything of record.

    project ─┬─ repository ─┬─ tag ────────────┐ names a manifest
             │              ├─ manifest ◄──────┘ payload, byte for byte
             │              │    └─ part         a blob or manifest that the payload refers to, keyed by digest
             │              ├─ pull_hour    how often it was pulled, by the hour
             │              ├─ link ── blob      a repository may serve a blob; a blob names its object
             │              └─ upload            an upload session and where its bytes are
             │              └─ manifest_label ── label   of a project, or of the system if it has no project
             ├─ member      a person's or a group's role in the project
             ├─ immutable_rule   tags that are neither moved nor deleted
             ├─ retention ── retention_execution ── retention_task   artifacts that are kept; the rest is removed
             ├─ webhook ── delivery   an event that is to be sent, or was
             ├─ robot       of the project, or of the system if it has no project
             └─ traffic     requests and bytes of a mirror, served and fetched, by the hour
    garbage   objects to remove, and when: written before the object is
    review    manifests and blobs that may have lost their last reference, and when to check
    account ─┬─ access_key  people, and their keys for the command line
             └─ identity    what the university calls a person whatever their name is
    notice    of which end somebody was told, and how early; letter: mail that waits for the mail server
    audit     who did what; has no foreign key, because an entry outlives the rows that it names
    request   what was refused, failed, was slow or filled the cache, and why; the newest of some days
    purged    digests that were deleted for good, so that every worker drops its copies
    plan ── plan_image   images that are to be in a mirror before a date, and how far they are
    plan_spent      counted GETs that plans have cost, by the hour
    budget_sample   the rest of an upstream's rate limit, by the minute
    signing_key     the keys that sign tokens
    setting         single values by name
    moved           rows of a Harbor that was moved in, as they were when they were written here

Times are Unix seconds (double precision), sizes are bytes. Names and tags compare by byte (collation "C"). So a list in
ASCII order is a walk along the primary key on both databases.
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
    false,
    text,
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
_EMPTY = text("''")
_IS_MIRROR = text("upstream IS NOT NULL")
_UNCHARGED = text("charged_bytes IS NULL")
# The resource of such an audit entry is a person's name, or a group's.
OF_PEOPLE = text("resource_type IN ('user', 'account', 'member')")
_UNATTENDED = text("unattended_at IS NOT NULL")
_OPEN = text("ended_at IS NULL")
_CAPITALS = text("username != lower(username)")
# For PostgreSQL and SQLite, each as SQLAlchemy spells the condition of a query.
_SHOWN = text("NOT pending"), text("pending = 0")
_EMPTY_SO_FAR = text("pending AND deleted_at IS NULL"), text("pending = 1 AND deleted_at IS NULL")
_BINNED = text("deleted_at IS NOT NULL")
_BEING_REMOVED = text("name >= '~' AND deleted_at IS NULL")
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
    # No foreign key, because SQLite cannot add one to an existing table. The removal of an account clears it.
    Column("owner_id", BigInteger, nullable=True),
    Column("description", Text, nullable=False, server_default=_EMPTY),
    Column("quota_bytes", BigInteger, nullable=True),
    # User name and password for the upstream, encrypted (app.access.secrets).
    Column("upstream_credential", Text, nullable=True),
    # Whether it may see with the upstream's configured accounts while it is private: operators made it.
    Column("uses_configured_account", Boolean, nullable=False, server_default=false()),
    # Since when no project admin is present (app.access.absence); NULL if there is one, or never was any.
    Column("unattended_at", Double, nullable=True),
    # Whether an immutability rule is enabled: a push reads it with the lock that it takes anyway.
    Column("immutable", Boolean, nullable=False, server_default=false()),
    # Of its retention policy, as Harbor's clients read it; and until when each pull is written before its answer,
    # because a run of the policy is removing artifacts (Unix seconds).
    Column("retention_id", BigInteger, nullable=True),
    Column("pulls_noted_until", Double, nullable=True),
    # In the bin: since when, which principal's subject put it there, its name, and whether it was public. All are NULL
    # in a project that people see, and in one that is being removed.
    Column("deleted_at", Double, nullable=True),
    Column("deleted_by", String, nullable=True),
    Column("old_name", _bytewise, nullable=True),
    Column("was_public", Boolean, nullable=True),
    Index("ix_project_binned", "deleted_at", "id", postgresql_where=_BINNED, sqlite_where=_BINNED),
    Index("ix_project_owner_id", "owner_id"),
    Index("ix_project_unattended", "id", postgresql_where=_UNATTENDED, sqlite_where=_UNATTENDED),
    Index("ix_project_created_at_id", "created_at", "id"),
    Index("ix_project_used_bytes_id", "used_bytes", "id"),
    # Lists of public projects and of mirrors do not visit all the others.
    Index("ix_project_public", "name", postgresql_where=text("public"), sqlite_where=text("public = 1")),
    Index("ix_project_mirrors", "name", postgresql_where=_IS_MIRROR, sqlite_where=_IS_MIRROR),
)

repository = Table(
    "repository",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    Column("name", _bytewise, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("description", Text, nullable=False, server_default=_EMPTY),
    Column("pull_count", BigInteger, nullable=False, server_default="0"),
    # Whether it has had no manifest yet, or is in the bin. People see a repository from its first manifest on.
    Column("pending", Boolean, nullable=False, server_default=false()),
    # As of a project. The entry of an artifact in the bin is a repository of its own, with the artifact's old address
    # as its name: REPOSITORY@DIGEST.
    Column("deleted_at", Double, nullable=True),
    Column("deleted_by", String, nullable=True),
    Column("old_name", _bytewise, nullable=True),
    Index("uq_repository_project_id_name", "project_id", "name", unique=True),
    Index("ix_repository_shown", "project_id", "name", postgresql_where=_SHOWN[0], sqlite_where=_SHOWN[1]),
    # Lists, pushes and collections pass by what is in the bin.
    Index("ix_repository_empty", "created_at", postgresql_where=_EMPTY_SO_FAR[0], sqlite_where=_EMPTY_SO_FAR[1]),
    Index(
        "ix_repository_shown_created_at",
        *("project_id", "created_at", "id"),
        postgresql_where=_SHOWN[0],
        sqlite_where=_SHOWN[1],
    ),
    Index(
        "ix_repository_shown_pull_count",
        *("project_id", "pull_count", "id"),
        postgresql_where=_SHOWN[0],
        sqlite_where=_SHOWN[1],
    ),
    Index("ix_repository_binned", "project_id", "deleted_at", "id", postgresql_where=_BINNED, sqlite_where=_BINNED),
    Index("ix_repository_binned_at", "deleted_at", "id", postgresql_where=_BINNED, sqlite_where=_BINNED),
    Index("ix_repository_being_removed", "id", postgresql_where=_BEING_REMOVED, sqlite_where=_BEING_REMOVED),
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
    # Until then a plan keeps it from eviction.
    Column("kept_until", Double, nullable=False, server_default="0"),
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
    # The bytes charged to the project for the manifest and its parts; NULL until a row of an older release is charged.
    Column("charged_bytes", BigInteger, nullable=True),
    # As of a link.
    Column("kept_until", Double, nullable=False, server_default="0"),
    Index("ix_manifest_uncharged", "repository_id", "digest", postgresql_where=_UNCHARGED, sqlite_where=_UNCHARGED),
    Index("ix_manifest_repository_id_subject_digest", "repository_id", "subject", "digest"),
    Index("ix_manifest_repository_id_created_at_digest", "repository_id", "created_at", "digest"),
    Index("ix_manifest_repository_id_pulled_at_digest", "repository_id", "pulled_at", "digest"),
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
    # With is_manifest at its end the index covers its queries; without it SQLite would choose the primary key.
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
    # As of a manifest.
    Column("charged_bytes", BigInteger, nullable=True),
    # Since when it names this digest, and the principal's subject who pointed it there; NULL in rows of an older
    # release, and of a mirror.
    Column("pointed_at", Double, nullable=True),
    Column("pointed_by", String, nullable=True),
    # The upstream's digest, if a rule keeps the tag of a mirror at another one.
    Column("newer", String, nullable=True),
    Index("ix_tag_uncharged", "repository_id", "name", postgresql_where=_UNCHARGED, sqlite_where=_UNCHARGED),
    ForeignKeyConstraint(["repository_id", "digest"], _manifest_key, ondelete="CASCADE"),
    Index("ix_tag_repository_id_digest", "repository_id", "digest"),
    Index("ix_tag_repository_id_updated_at_name", "repository_id", "updated_at", "name"),
    Index("ix_tag_repository_id_digest_name", "repository_id", "digest", "name"),
    Index("ix_tag_repository_id_digest_updated_at_name", "repository_id", "digest", "updated_at", "name"),
)

# The digests that a tag named before; the newest entries of each tag.
tag_history = Table(
    "tag_history",
    metadata,
    Column("repository_id", _of_repository(), primary_key=True),
    Column("name", _bytewise, primary_key=True),
    Column("since", Double, primary_key=True),
    Column("until", Double, nullable=False),
    Column("digest", _bytewise, nullable=False),
    Column("pointed_by", String, nullable=True),
    Column("charged_bytes", BigInteger, nullable=False),
    Index("ix_tag_history_repository_id_until", "repository_id", "until"),
    Index("ix_tag_history_until", "until"),
)

# A tag that one of these takes is neither moved nor deleted.
immutable_rule = Table(
    "immutable_rule",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    # Globs; the rule takes the names that match, or with "excludes" those that do not.
    Column("repositories", String, nullable=False),
    Column("excludes_repositories", Boolean, nullable=False),
    Column("tags", String, nullable=False),
    Column("excludes_tags", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("ends_at", Double, nullable=True),
    Column("created_at", Double, nullable=False),
    Index("ix_immutable_rule_project_id_id", "project_id", "id"),
    # The principal's subject who made it; NULL in rows of an older release, or of a Harbor.
    Column("created_by", String, nullable=True),
)

retention = Table(
    "retention",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=False, unique=True),
    # A list of `app.oci.retention.Rule`.
    Column("rules", JSON, nullable=False),
    # Six fields (`app.kit.cron`), "" for none; when it is due next.
    Column("cron", String, nullable=False),
    Column("next_at", Double, nullable=True),
    # Changes up to here are evaluated; NULL if everything has to be.
    Column("evaluated_at", Double, nullable=True),
    Column("changed_at", Double, nullable=False),
    Index("ix_retention_next_at", "next_at"),
)

# The artifacts that are the latest by a rule, as of the last run, by the rule's place; -1 has those to look at again.
retention_kept = Table(
    "retention_kept",
    metadata,
    Column("repository_id", _of_repository(), primary_key=True),
    Column("rule", BigInteger, primary_key=True),
    Column("digest", _bytewise, primary_key=True),
)

retention_execution = Table(
    "retention_execution",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("retention_id", ForeignKey("retention.id", ondelete="CASCADE"), nullable=False),
    Column("trigger", String, nullable=False),
    Column("dry_run", Boolean, nullable=False),
    # A word of `app.database.retention.Status`.
    Column("status", String, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double, nullable=True),
    # A worker that runs it renews this; past it, another one takes it over.
    Column("leased_until", Double, nullable=True),
    Index("ix_retention_execution_retention_id_id", "retention_id", "id"),
    Index("ix_retention_execution_open", "id", postgresql_where=_OPEN, sqlite_where=_OPEN),
)

# The part of a run in one repository.
retention_task = Table(
    "retention_task",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("execution_id", ForeignKey("retention_execution.id", ondelete="CASCADE"), nullable=False),
    Column("repository_id", BigInteger, nullable=False),
    Column("repository", String, nullable=False),
    Column("status", String, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double, nullable=True),
    # The artifacts that were looked at, and those of them that stay.
    Column("total", BigInteger, nullable=False),
    Column("retained", BigInteger, nullable=False),
    Column("freed_bytes", BigInteger, nullable=False),
    # The first of the removed artifacts, with their tags.
    Column("removed", JSON, nullable=False),
    Index("ix_retention_task_execution_id_id", "execution_id", "id"),
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
    # The bytes reserved for this session from the project's quota; 0 if the project has none.
    Column("charged_bytes", BigInteger, nullable=False, server_default="0"),
    # The project's id, and a principal's subject as in the audit log. Sessions of an older release have neither.
    Column("opened_in", BigInteger, nullable=True),
    Column("opened_by", String, nullable=True),
    Index("ix_upload_updated_at", "updated_at"),
    Index("ix_upload_repository_id", "repository_id"),
    Index("ix_upload_opened_in_opened_by", "opened_in", "opened_by"),
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
    # Of a blob that was pushed: the project's id, and the principal's subject. A blob that no manifest names yet
    # belongs to their unfinished push.
    Column("project_id", BigInteger, nullable=True),
    Column("pushed_by", String, nullable=True),
    Index("ix_review_review_at", "review_at"),
    Index("ix_review_project_id_review_at", "project_id", "review_at"),
)

purged = Table(
    "purged",
    metadata,
    Column("digest", _bytewise, primary_key=True),
    Column("at", Double, nullable=False),
    Index("ix_purged_at", "at"),
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
    # "local" for a password stored here, "saml" for the university's log-in.
    Column("source", String, nullable=False, server_default="local"),
    Column("full_name", String, nullable=False, server_default=_EMPTY),
    Column("email", String, nullable=False, server_default=_EMPTY),
    # As the identity provider reported them at the last log-in.
    Column("groups", JSON, nullable=True),
    Column("last_login_at", Double, nullable=True),
    # The last log-in to a day, or when the account was made. NULL until a row of an older release is filled.
    Column("seen_at", Double, nullable=True),
    # Each session keeps the generation it began with. A higher number here ends the person's browser sessions.
    Column("generation", BigInteger, nullable=False, server_default="0"),
    # The names of an older release that have capitals; a handful. Nobody else gets one that differs by case alone.
    Index("ix_account_capitals", "username", postgresql_where=_CAPITALS, sqlite_where=_CAPITALS),
    # Few among many, and counted under a lock whenever one of them stops being one.
    Index("ix_account_is_admin", "id", postgresql_where=text("is_admin"), sqlite_where=text("is_admin = 1")),
)

identity = Table(
    "identity",
    metadata,
    # An attribute's name, a space, and its value, which the university never gives to anybody else.
    Column("value", String, primary_key=True),
    Column("account_id", ForeignKey("account.id", ondelete="CASCADE"), nullable=False),
    Index("ix_identity_account_id", "account_id"),
)

access_key = Table(
    "access_key",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("account_id", ForeignKey("account.id", ondelete="CASCADE"), nullable=False),
    Column("name", String, nullable=False),
    Column("secret_hash", String, nullable=False, unique=True),
    # Rights by project id, or "*" for every project; the person's own rights limit them.
    Column("permissions", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=True),
    Column("last_used_at", Double, nullable=True),
    Column("last_used_from", String, nullable=True),
    # The name by which a secret from a Harbor logs in, beside the person's.
    Column("login_name", String, nullable=True),
    Index("ix_access_key_login_name", "login_name"),
    Index("uq_access_key_account_id_name", "account_id", "name", unique=True),
)

member = Table(
    "member",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    # Exactly one of the next two is set.
    Column("account_id", ForeignKey("account.id", ondelete="CASCADE"), nullable=True),
    Column("group_name", _bytewise, nullable=True),
    Column("role", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("uq_member_project_id_account_id", "project_id", "account_id", unique=True),
    Index("uq_member_project_id_group_name", "project_id", "group_name", unique=True),
    Index("ix_member_account_id", "account_id"),
    Index("ix_member_group_name", "group_name"),
)

robot = Table(
    "robot",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=True),
    # The full user name, with prefix and project.
    Column("name", _bytewise, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("secret_hash", String, nullable=False),
    # Rights by project id, or "*" for every project.
    Column("permissions", JSON, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", String, nullable=False),
    Column("expires_at", Double, nullable=True),
    Column("last_used_at", Double, nullable=True),
    Column("last_used_from", String, nullable=True),
    Index("ix_robot_project_id_name", "project_id", "name"),
    Index("ix_robot_project_id_expires_at", "project_id", "expires_at"),
    Index("ix_robot_created_by", "created_by"),
)

notice = Table(
    "notice",
    metadata,
    # A thing that ends then, and the days before its end for which notice was given; once, whoever looks again.
    Column("kind", String, primary_key=True),
    Column("thing_id", BigInteger, primary_key=True, autoincrement=False),
    Column("days", BigInteger, primary_key=True, autoincrement=False),
    Column("ends_at", Double, primary_key=True),
)

letter = Table(
    "letter",
    metadata,
    Column("id", String, primary_key=True),
    Column("address", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("try_at", Double, nullable=False),
    # Set while the mail server may have taken it; such a letter is never sent again.
    Column("sending", Boolean, nullable=False, server_default=false()),
    Index("ix_letter_try_at", "try_at"),
)

label = Table(
    "label",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=True),
    Column("name", _bytewise, nullable=False),
    Column("description", Text, nullable=False),
    Column("color", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("uq_label_project_id_name", "project_id", "name", unique=True),
)

manifest_label = Table(
    "manifest_label",
    metadata,
    Column("repository_id", _rowid, primary_key=True),
    Column("digest", _bytewise, primary_key=True),
    Column("label_id", ForeignKey("label.id", ondelete="CASCADE"), primary_key=True),
    # As of a manifest.
    Column("charged_bytes", BigInteger, nullable=True),
    Index(
        "ix_manifest_label_uncharged",
        *("repository_id", "digest", "label_id"),
        postgresql_where=_UNCHARGED,
        sqlite_where=_UNCHARGED,
    ),
    ForeignKeyConstraint(["repository_id", "digest"], _manifest_key, ondelete="CASCADE"),
    Index("ix_manifest_label_label_id", "label_id"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("at", Double, nullable=False),
    # A principal's subject: "person:NAME", "robot:NAME", "anonymous".
    Column("actor", String, nullable=False),
    Column("address", String, nullable=False),
    Column("operation", String, nullable=False),
    Column("resource_type", String, nullable=False),
    Column("resource", Text, nullable=False),
    Column("project_id", BigInteger, nullable=True),
    # The project's name at that time: the project may be gone, and another one may have its name.
    Column("project_name", String, nullable=False, server_default=_EMPTY),
    # Frequent events of one kind share an entry with their number.
    Column("times", BigInteger, nullable=False, server_default="1"),
    Index("ix_audit_project_id_id", "project_id", "id"),
    Index("ix_audit_project_name_id", "project_name", "id"),
    Index("ix_audit_at", "at"),
    Index("ix_audit_operation_id", "operation", "id"),
    Index("ix_audit_actor_id", "actor", "id"),
    Index("ix_audit_people", "resource", "id", postgresql_where=OF_PEOPLE, sqlite_where=OF_PEOPLE),
)

request = Table(
    "request",
    metadata,
    Column("id", _rowid, primary_key=True),
    # When it ended.
    Column("at", Double, nullable=False),
    # A client may choose it, so it is not unique.
    Column("request_id", String, nullable=False),
    Column("host", String, nullable=False),
    Column("method", String, nullable=False),
    Column("path", String, nullable=False),
    Column("route", String, nullable=False),
    Column("status", BigInteger, nullable=False),
    # A word of app.web.events; the error's code and cause, and the reason in words.
    Column("outcome", String, nullable=False),
    Column("code", String, nullable=False),
    Column("cause", String, nullable=False),
    Column("why", Text, nullable=False),
    # A principal's subject, "" if nobody was admitted; the client's address.
    Column("who", String, nullable=False),
    Column("client", String, nullable=False),
    # As the client spelled them; what was found.
    Column("repository", String, nullable=False),
    Column("reference", String, nullable=False),
    Column("digest", String, nullable=False),
    # Requests that the upstream counted.
    Column("pulls", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    # Seconds by phase (app.kit.facts).
    Column("phases", JSON, nullable=False),
    # Repeats by one client share a row; the other columns are those of the latest.
    Column("times", BigInteger, nullable=False),
    Index("ix_request_at", "at"),
    Index("ix_request_request_id_id", "request_id", "id"),
    Index("ix_request_repository_id", "repository", "id"),
    Index("ix_request_client_id", "client", "id"),
    Index("ix_request_who_id", "who", "id"),
)

traffic = Table(
    "traffic",
    metadata,
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), primary_key=True),
    # Hours since 1970.
    Column("hour", BigInteger, primary_key=True),
    Column("hits", BigInteger, nullable=False),
    Column("misses", BigInteger, nullable=False),
    Column("served_bytes", BigInteger, nullable=False),
    Column("fetched_bytes", BigInteger, nullable=False),
)

pull_hour = Table(
    "pull_hour",
    metadata,
    Column("repository_id", _of_repository(), primary_key=True),
    # Hours since 1970.
    Column("hour", BigInteger, primary_key=True),
    Column("pulls", BigInteger, nullable=False),
    # To find what is old.
    Index("ix_pull_hour_hour", "hour"),
)

plan = Table(
    "plan",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("title", String, nullable=False),
    # The account that made it, which may be gone, and its name.
    Column("owner_id", BigInteger, nullable=True),
    Column("owner", String, nullable=False),
    # Such as "linux/arm64". Of an index only the images for these are fetched.
    Column("platforms", JSON, nullable=False),
    # The next date, and the last one. Both are the same unless the plan is weekly.
    Column("due_at", Double, nullable=False),
    Column("weekly", Boolean, nullable=False),
    Column("ends_at", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    # A pull that found nothing left, and waits. Its owner is the client, its date is when the image was promised.
    Column("waiting", Boolean, nullable=False, server_default=false()),
    # The IANA time zone in which the dates of a weekly plan are at one hour; NULL: UTC.
    Column("zone", String, nullable=True),
    Index("ix_plan_owner_id_id", "owner_id", "id"),
    Index("ix_plan_ends_at", "ends_at"),
    Index("ix_plan_waiting", "ends_at", postgresql_where=text("waiting"), sqlite_where=text("waiting = 1")),
)

plan_image = Table(
    "plan_image",
    metadata,
    Column("plan_id", ForeignKey("plan.id", ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    Column("repository", _bytewise, nullable=False),
    # A tag or a digest.
    Column("reference", _bytewise, nullable=False),
    # The upstream's manifest when it was last asked, at `checked_at`; "" before that.
    Column("digest", String, nullable=False, server_default=_EMPTY),
    # The counted GETs, and the bytes of blobs, that are still to be fetched; NULL if unknown.
    Column("gets", BigInteger, nullable=True),
    Column("bytes", BigInteger, nullable=True),
    Column("missing_bytes", BigInteger, nullable=True),
    Column("checked_at", Double, nullable=False, server_default="0"),
    # Since when all of it is here; when it will be; whether that is after the date.
    Column("ready_at", Double, nullable=True),
    Column("expected_at", Double, nullable=True),
    Column("late", Boolean, nullable=False, server_default=false()),
    # Why it cannot be fetched, in English words.
    Column("problem", Text, nullable=False, server_default=_EMPTY),
    # The repository's pulls when the image had come.
    Column("pulls_before", BigInteger, nullable=True),
    Index("ix_plan_image_project_id", "project_id"),
)

plan_spent = Table(
    "plan_spent",
    metadata,
    Column("upstream", String, primary_key=True),
    # As of a sample.
    Column("credential", String, primary_key=True),
    # Hours since 1970.
    Column("hour", BigInteger, primary_key=True),
    Column("gets", BigInteger, nullable=False),
)

budget_sample = Table(
    "budget_sample",
    metadata,
    Column("upstream", String, primary_key=True),
    # A credential's user name, "" for none.
    Column("credential", String, primary_key=True),
    # Minutes since 1970.
    Column("minute", BigInteger, primary_key=True),
    Column("limit", BigInteger, nullable=False),
    Column("remaining", BigInteger, nullable=False),
)

setting = Table(
    "setting",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)

signing_key = Table(
    "signing_key",
    metadata,
    Column("id", String, primary_key=True),
    # Encrypted (app.access.secrets).
    Column("private_key", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

moved = Table(
    "moved",
    metadata,
    # A step of `app.move_in`, and the id of Harbor's row.
    Column("kind", String, primary_key=True),
    Column("harbor_id", BigInteger, primary_key=True),
    # Harbor's row when it was written here, as JSON.
    Column("state", Text, nullable=False),
    # The id of our row, 0 if it has none.
    Column("target", BigInteger, nullable=False),
)

webhook = Table(
    "webhook",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("project_id", ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    Column("name", String, nullable=False),
    Column("description", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("url", Text, nullable=False),
    # Encrypted (app.access.secrets).
    Column("auth_header", Text, nullable=True),
    Column("payload_format", String, nullable=False),
    # Separated by commas.
    Column("event_types", String, nullable=False),
    # A principal's name.
    Column("created_by", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("uq_webhook_project_id_name", "project_id", "name", unique=True),
)

_TO_SEND = text("next_at IS NOT NULL")
_ENDED = text("ended_at IS NOT NULL")

delivery = Table(
    "delivery",
    metadata,
    Column("id", _rowid, primary_key=True),
    Column("webhook_id", ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False),
    Column("event_type", String, nullable=False),
    Column("event", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    # A word of app.database.webhooks.
    Column("status", String, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    # The next attempt, NULL if there is none any more.
    Column("next_at", Double, nullable=True),
    Column("ended_at", Double, nullable=True),
    # Of the last attempt, for people.
    Column("answer", Text, nullable=False),
    Index("ix_delivery_next_at", "next_at", postgresql_where=_TO_SEND, sqlite_where=_TO_SEND),
    Index("ix_delivery_ended_at", "ended_at", postgresql_where=_ENDED, sqlite_where=_ENDED),
    Index("ix_delivery_webhook_id_id", "webhook_id", "id"),
)
