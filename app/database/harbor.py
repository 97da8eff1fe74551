"""Read the database of a Harbor, 2.8 to 2.16, over a connection that cannot write.

Each list is read in batches along the ids of its table. A row is a value with Harbor's id and the columns that are
moved. Its `state` is what `moved` keeps of it, to know later whether Harbor has changed it. Times are Unix seconds, and
0 if Harbor has none.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import asyncpg

from app.oci.errors import Unavailable

# Harbor's numbers of its schema: 2.8 and 2.16.
_OLDEST, _NEWEST = 110, 190
# The number of the advisory lock that means "somebody moves this Harbor"; any constant would do.
_LOCK = 0x6D6F7665
_LOCK_ATTEMPTS = 40
_CONNECT_SECONDS = 10
_STATEMENT_SECONDS = 60
_SECRETS = frozenset({"password", "secret", "salt", "access_secret"})


@dataclass(frozen=True, slots=True)
class Row:
    """A row of Harbor's."""

    id: int

    def state(self) -> str:
        """Return the row as JSON. Secrets and what encrypts them are only marked, so that a change shows."""
        values = {name: value for name, value in asdict(self).items() if name not in _SECRETS}
        return json.dumps(values | {"mark": self.mark()}, sort_keys=True)

    def mark(self) -> str:
        """Return a text that changes with the row's secrets and tells nothing of them; "" if it has none."""
        secrets = [value for name, value in asdict(self).items() if name in _SECRETS]
        return hashlib.sha256(json.dumps(secrets).encode()).hexdigest() if secrets else ""


@dataclass(frozen=True, slots=True)
class Person(Row):
    """A user; ``is_oidc`` says whether they log in by OIDC, and ``cli_secret`` is that of their command line."""

    username: str
    email: str
    full_name: str
    password: str = field(repr=False)
    salt: str = field(repr=False)
    version: str
    deleted: bool
    is_admin: bool
    created_at: float
    is_oidc: bool
    secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Project(Row):
    """A project with its metadata and quota; ``registry`` is the upstream of a proxy cache."""

    name: str
    deleted: bool
    owner_id: int
    created_at: float
    metadata: Mapping[str, str]
    quota_bytes: int | None
    registry: str | None
    url: str | None
    access_key: str | None
    access_secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Repository(Row):
    """A repository by its full name."""

    project_id: int
    name: str
    description: str
    pull_count: int
    created_at: float


@dataclass(frozen=True, slots=True)
class Artifact(Row):
    """A manifest of a repository, also a child of an index; ``size`` is its own in bytes, 0 if Harbor does not say."""

    repository_id: int
    repository: str
    digest: str
    media_type: str
    size: int
    pushed_at: float
    pulled_at: float


@dataclass(frozen=True, slots=True)
class Tag(Row):
    """A tag and the digest that it names."""

    repository_id: int
    artifact_id: int
    repository: str
    name: str
    digest: str
    pushed_at: float


@dataclass(frozen=True, slots=True)
class Label(Row):
    """A label; ``project_id`` is 0 for one of the system."""

    project_id: int
    name: str
    description: str
    color: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Attached(Row):
    """A label on an artifact."""

    label_id: int
    repository_id: int
    digest: str


@dataclass(frozen=True, slots=True)
class Member(Row):
    """A person's or a group's role in a project; ``group`` is None for a person."""

    project_id: int
    person_id: int
    group: str | None
    role: int


@dataclass(frozen=True, slots=True)
class Robot(Row):
    """A robot account without the prefix of its name; ``rights`` are [scope, "resource:action"]."""

    name: str
    description: str
    project_id: int
    expires_at: int
    disabled: bool
    secret: str = field(repr=False)
    salt: str = field(repr=False)
    created_at: float
    rights: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Logged(Row):
    """An entry of the audit log; ``succeeded`` is false for something that somebody tried, such as a log-in."""

    project_id: int
    operation: str
    resource_type: str
    resource: str
    username: str
    address: str
    at: float
    succeeded: bool


@dataclass(frozen=True, slots=True)
class ImmutableRule(Row):
    """A rule that makes tags immutable, as Harbor's own JSON."""

    project_id: int
    rule: Mapping[str, Any]
    disabled: bool


@dataclass(frozen=True, slots=True)
class RetentionPolicy(Row):
    """The retention policy of a project, as Harbor's own JSON."""

    project_id: int
    policy: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hook(Row):
    """A webhook; ``secret`` has its targets, whose headers are secrets, as Harbor's own JSON."""

    project_id: int
    name: str
    description: str
    enabled: bool
    event_types: Sequence[str]
    creator: str
    secret: Sequence[Mapping[str, Any]] = field(repr=False)


R = TypeVar("R", bound=Row)


def _sql(text: str) -> str:
    """Write out ``seconds(COLUMN)``: Unix seconds of a time in UTC; one that Harbor never set is of the year 1."""
    first, *rest = text.split("seconds(")
    pieces = [piece.partition(")") for piece in rest]
    return first + "".join(
        f"greatest(coalesce(extract(epoch FROM {column}), 0), 0)::float8{after}" for column, _, after in pieces
    )


_PEOPLE = _sql("""
SELECT u.user_id, u.username, coalesce(u.email, ''), coalesce(u.realname, ''), coalesce(u.password, ''),
       coalesce(u.salt, ''), coalesce(u.password_version, 'sha1'), coalesce(u.deleted, false),
       coalesce(u.sysadmin_flag, false), seconds(u.creation_time), o.id IS NOT NULL, o.secret
FROM harbor_user u LEFT JOIN oidc_user o ON o.user_id = u.user_id
WHERE u.user_id > $1 ORDER BY u.user_id LIMIT $2""")
_PROJECTS = _sql("""
SELECT p.project_id, p.name, coalesce(p.deleted, false), p.owner_id, seconds(p.creation_time),
       (SELECT json_object_agg(m.name, m.value) FROM project_metadata m WHERE m.project_id = p.project_id)::text,
       (SELECT (q.hard->>'storage')::bigint FROM quota q
        WHERE q.reference = 'project' AND q.reference_id = p.project_id::text),
       r.name, r.url, r.access_key, r.access_secret
FROM project p LEFT JOIN registry r ON r.id = p.registry_id AND p.registry_id > 0
WHERE p.project_id > $1 ORDER BY p.project_id LIMIT $2""")
_REPOSITORIES = _sql("""
SELECT repository_id, project_id, name, coalesce(description, ''), coalesce(pull_count, 0),
       seconds(creation_time)
FROM repository WHERE repository_id > $1 ORDER BY repository_id LIMIT $2""")
_ARTIFACTS = _sql("""
SELECT a.id, a.repository_id, a.repository_name, a.digest, coalesce(a.manifest_media_type, ''), coalesce(b.size, 0),
       seconds(a.push_time), seconds(a.pull_time)
FROM artifact a LEFT JOIN blob b ON b.digest = a.digest WHERE a.id > $1 ORDER BY a.id LIMIT $2""")
_TAGS = _sql("""
SELECT t.id, t.repository_id, t.artifact_id, a.repository_name, t.name, a.digest, seconds(t.push_time)
FROM tag t JOIN artifact a ON a.id = t.artifact_id WHERE t.id > $1 ORDER BY t.id LIMIT $2""")
_LABELS = _sql("""
SELECT id, CASE WHEN scope = 'g' THEN 0 ELSE coalesce(project_id, 0) END, name, coalesce(description, ''),
       coalesce(color, ''), seconds(creation_time)
FROM harbor_label WHERE id > $1 AND NOT coalesce(deleted, false) AND level = 'u' ORDER BY id LIMIT $2""")
_ATTACHED = _sql("""
SELECT l.id, l.label_id, a.repository_id, a.digest
FROM label_reference l JOIN artifact a ON a.id = l.artifact_id WHERE l.id > $1 ORDER BY l.id LIMIT $2""")
_MEMBERS = _sql("""
SELECT m.id, m.project_id, m.entity_id, g.group_name, m.role
FROM project_member m LEFT JOIN user_group g ON g.id = m.entity_id AND m.entity_type = 'g'
WHERE m.id > $1 AND (m.entity_type = 'u' OR g.id IS NOT NULL) ORDER BY m.id LIMIT $2""")
_ROBOTS = _sql("""
SELECT r.id, r.name, coalesce(r.description, ''), coalesce(r.project_id, 0), coalesce(r.expiresat, -1),
       coalesce(r.disabled, false), coalesce(r.secret, ''), coalesce(r.salt, ''), seconds(r.creation_time),
       (SELECT json_agg(json_build_array(p.scope, p.resource || ':' || p.action)
                        ORDER BY p.scope, p.resource, p.action)
        FROM role_permission rp JOIN permission_policy p ON p.id = rp.permission_policy_id
        WHERE rp.role_type = 'robotaccount' AND rp.role_id = r.id
          AND coalesce(nullif(p.effect, ''), 'allow') = 'allow')::text
FROM robot r WHERE r.id > $1 AND coalesce(r.visible, true) ORDER BY r.id LIMIT $2""")
_LOG = _sql("""
SELECT id, coalesce(project_id, 0), coalesce(operation, ''), coalesce(resource_type, ''), coalesce(resource, ''),
       coalesce(username, ''), '', seconds(op_time), true
FROM audit_log WHERE id > $1 ORDER BY id LIMIT $2""")
# Since 2.13.
_LOG_EXT = _sql("""
SELECT id, coalesce(project_id, 0), coalesce(operation, ''), coalesce(resource_type, ''), coalesce(resource, ''),
       coalesce(username, ''), coalesce(source_ip, ''), seconds(op_time), coalesce(op_result, true)
FROM audit_log_ext WHERE id > $1 ORDER BY id LIMIT $2""")
_IMMUTABLE_RULES = """
SELECT r.id, r.project_id, coalesce(r.tag_filter, '{}'), coalesce(r.disabled, false)
FROM immutable_tag_rule r JOIN project p ON p.project_id = r.project_id AND NOT coalesce(p.deleted, false)
WHERE r.id > $1 ORDER BY r.id LIMIT $2"""
_RETENTION_POLICIES = """
SELECT r.id, r.scope_reference, coalesce(r.data, '{}')
FROM retention_policy r JOIN project p ON p.project_id = r.scope_reference AND NOT coalesce(p.deleted, false)
WHERE r.id > $1 AND r.scope_level = 'project' ORDER BY r.id LIMIT $2"""
_HOOKS = """
SELECT id, project_id, name, coalesce(description, ''), coalesce(enabled, false), coalesce(event_types, '[]'),
       coalesce(creator, ''), coalesce(targets, '[]')
FROM notification_policy WHERE id > $1 ORDER BY id LIMIT $2"""


class HarborDatabase:
    """One connection to Harbor's database. Every method raises Unavailable if it does not answer."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, url: str) -> HarborDatabase:
        """Connect; raises Unavailable, and ValueError for a database that is not that of a Harbor from 2.8 to 2.16."""
        settings = {"default_transaction_read_only": "on", "application_name": "registry move-in"}
        try:
            connection = await asyncpg.connect(
                url, server_settings=settings, command_timeout=_STATEMENT_SECONDS, timeout=_CONNECT_SECONDS
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise _down(error) from error
        found = cls(connection)
        try:
            await found._require_harbor()
        except BaseException:
            connection.terminate()
            raise
        return found

    async def close(self) -> None:
        """Close the connection, which also ends the lock."""
        self._connection.terminate()

    async def lock(self) -> None:
        """Exclude every other mover of this Harbor until this connection ends; raises ValueError."""
        for _ in range(_LOCK_ATTEMPTS):
            if (await self._fetch("SELECT pg_try_advisory_lock($1)", _LOCK))[0][0]:
                return
            await asyncio.sleep(0.25)
        raise ValueError("another move-in of this Harbor is running; wait until it has ended")

    async def properties(self) -> dict[str, str]:
        """Return Harbor's own configuration, as far as its database has it."""
        return {row[0]: row[1] or "" for row in await self._fetch("SELECT k, v FROM properties")}

    async def count(self, table: str) -> int:
        """Count the rows of one of Harbor's tables."""
        return int((await self._fetch(f"SELECT count(*) FROM {table}"))[0][0])  # noqa: S608  # a name from our code

    async def people(self, after: int, limit: int) -> list[Person]:
        """List users."""
        return [Person(*row) for row in await self._fetch(_PEOPLE, after, limit)]

    async def projects(self, after: int, limit: int) -> list[Project]:
        """List projects, the removed ones too."""
        rows = await self._fetch(_PROJECTS, after, limit)
        return [Project(*(*row[:5], json.loads(row[5] or "{}"), *row[6:])) for row in rows]

    async def members(self, after: int, limit: int) -> list[Member]:
        """List members of projects."""
        return [Member(*row) for row in await self._fetch(_MEMBERS, after, limit)]

    async def repositories(self, after: int, limit: int) -> list[Repository]:
        """List repositories."""
        return [Repository(*row) for row in await self._fetch(_REPOSITORIES, after, limit)]

    async def repository_counts(self) -> dict[int, int]:
        """Count the repositories of each project, by its id."""
        return dict(
            tuple(row) for row in await self._fetch("SELECT project_id, count(*) FROM repository GROUP BY project_id")
        )

    async def artifacts(self, after: int, limit: int) -> list[Artifact]:
        """List artifacts."""
        return [Artifact(*row) for row in await self._fetch(_ARTIFACTS, after, limit)]

    async def present(self, repository_id: int, digests: Sequence[str]) -> set[str]:
        """Return those of the digests that are artifacts of a repository."""
        statement = "SELECT digest FROM artifact WHERE repository_id = $1 AND digest = ANY($2)"
        return {row[0] for row in await self._fetch(statement, repository_id, list(digests))}

    async def tags(self, after: int, limit: int) -> list[Tag]:
        """List tags."""
        return [Tag(*row) for row in await self._fetch(_TAGS, after, limit)]

    async def labels(self, after: int, limit: int) -> list[Label]:
        """List the labels that people have made."""
        return [Label(*row) for row in await self._fetch(_LABELS, after, limit)]

    async def attached(self, after: int, limit: int) -> list[Attached]:
        """List labels on artifacts."""
        return [Attached(*row) for row in await self._fetch(_ATTACHED, after, limit)]

    async def robots(self, after: int, limit: int) -> list[Robot]:
        """List the robot accounts that people see."""
        rows = await self._fetch(_ROBOTS, after, limit)
        return [Robot(*(*row[:9], json.loads(row[9] or "[]"))) for row in rows]

    async def log(self, after: int, limit: int) -> list[Logged]:
        """List the audit log of releases before 2.13, which later ones keep."""
        return await self._log("audit_log", _LOG, after, limit)

    async def later_log(self, after: int, limit: int) -> list[Logged]:
        """List the audit log of 2.13 and later."""
        return await self._log("audit_log_ext", _LOG_EXT, after, limit)

    async def immutable_rules(self, after: int, limit: int) -> list[ImmutableRule]:
        """List the rules that make tags immutable."""
        rows = await self._fetch(_IMMUTABLE_RULES, after, limit)
        return [ImmutableRule(row[0], row[1], json.loads(row[2]), row[3]) for row in rows]

    async def retention_policies(self, after: int, limit: int) -> list[RetentionPolicy]:
        """List retention policies."""
        rows = await self._fetch(_RETENTION_POLICIES, after, limit)
        return [RetentionPolicy(row[0], row[1], json.loads(row[2])) for row in rows]

    async def hooks(self, after: int, limit: int) -> list[Hook]:
        """List webhooks."""
        rows = await self._fetch(_HOOKS, after, limit)
        return [Hook(*(*row[:5], json.loads(row[5]), row[6], json.loads(row[7]))) for row in rows]

    async def _log(self, table: str, statement: str, after: int, limit: int) -> list[Logged]:
        if (await self._fetch("SELECT to_regclass($1)::text", table))[0][0] is None:
            return []
        return [Logged(*row) for row in await self._fetch(statement, after, limit)]

    async def _require_harbor(self) -> None:
        version = None
        if (await self._fetch("SELECT to_regclass('schema_migrations')::text"))[0][0] is not None:
            version = (await self._fetch("SELECT max(version) FROM schema_migrations"))[0][0]
        if version is None or not _OLDEST <= version <= _NEWEST:
            raise ValueError(
                f"harbor.database_url: its schema is {version}; known are {_OLDEST} (Harbor 2.8) to {_NEWEST} (2.16)"
            )

    async def _fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        try:
            rows: list[asyncpg.Record] = await self._connection.fetch(statement, *values)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise _down(error) from error
        return rows


def _down(error: BaseException) -> Unavailable:
    return Unavailable("Harbor's database cannot be read: %(reason)s", reason=str(error) or type(error).__name__)
