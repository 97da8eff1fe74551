# ruff: noqa: ISC004 - the statements are written over several lines
"""A registry of a given size, made by a few statements: nearly everything is there ``size`` times.

mirror      a cache of docker.io: ``size`` repositories with a manifest, a tag and a blob each
deep/app    one repository: ``size`` manifests (indexes, their children, images), ``size`` tags of one image, and
            as many of all others; half of the audit log is about it
            the bin of its project has ``size`` images more
p-0000001 …  ``size`` projects, every tenth public, with a member, a robot account, a label and audit entries each
requests    ``size`` that were kept for operators, all of one repository and one address
user-0000001 …  ``size`` people; `MARI` is a member of a few projects, and one of her groups is of others
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from argon2 import PasswordHasher

MARI, PASSWORD, GROUP = "user-0000007", "tests-persons-password", "astronomers"
# The ids of the two large projects and of their first repositories come after all others.
_IMAGE = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
# More than a page of a list has, of everything that a project may have.
FEW = 30
# The service removes what is old: everything happened lately, and a second after the row before.
_NOW = float(int(time.time()) - 2_000_000)


@dataclass(frozen=True)
class Built:
    """What requests name: ids, and digests of an index, an image, and the image with many tags."""

    size: int
    mirror: int
    deep: int
    index: str
    image: str
    tagged: str
    began: float


class _Dialect(Protocol):
    def series(self, last: str) -> str: ...
    def padded(self, number: str) -> str: ...
    def digest(self, number: str) -> str: ...
    def bytes(self, text: str) -> str: ...


class _PostgreSQL:
    def series(self, last: str) -> str:
        return f"generate_series(1, {last}) AS series(i)"

    def padded(self, number: str) -> str:
        return f"lpad(({number})::text, 7, '0')"

    def digest(self, number: str) -> str:
        return f"'sha256:' || lpad(to_hex(({number})::bigint), 64, '0')"

    def bytes(self, text: str) -> str:
        return f"convert_to({text}, 'UTF8')"


class _SQLite:
    def series(self, last: str) -> str:
        counted = f"WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c WHERE i < {last}) SELECT i FROM c"
        return f"({counted}) AS series"

    def padded(self, number: str) -> str:
        return f"printf('%07d', {number})"

    def digest(self, number: str) -> str:
        return f"printf('sha256:%064x', {number})"

    def bytes(self, text: str) -> str:
        return f"CAST({text} AS BLOB)"


def build(url: str, size: int) -> Built:
    """Fill the migrated and empty database at ``url``."""
    dialect: _Dialect = _SQLite() if url.startswith("sqlite") else _PostgreSQL()
    lines = _statements(dialect, size)
    if isinstance(dialect, _SQLite):
        sqlite = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        _run(sqlite, ["PRAGMA synchronous = OFF", "BEGIN", *lines, "COMMIT", "PRAGMA wal_checkpoint(TRUNCATE)"])
        sqlite.close()
    else:
        sequences = [
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
            for table in ("project", "repository", "account", "label", "plan", "retention", "retention_execution")
        ]
        with psycopg.connect(url, autocommit=True) as server:
            # Foreign keys are not looked after row by row, which takes longer than all the rest.
            _run(server, ["SET session_replication_role = replica", *lines, *sequences, "VACUUM ANALYZE"])
    return Built(size, size + 1, size + 2, _digest(4), _digest(7), _digest(3), _NOW)


def _run(connection: Any, lines: list[str]) -> None:
    for line in lines:
        connection.execute(line)


def _digest(number: int) -> str:
    return f"sha256:{number:064x}"


def _statements(d: _Dialect, size: int) -> list[str]:
    made = (part(d, size) for part in (_projects, _people, _mirror, _deep, _bin, _plans, _webhooks, _log))
    return [line for lines in made for line in lines]


def _projects(d: _Dialect, size: int) -> list[str]:
    columns = "project (id, name, public, upstream, settings, used_bytes, created_at, owner_id, quota_bytes)"
    one = f"SELECT i, 'p-' || {d.padded('i')}, i % 10 = 0, NULL, '{{}}', i, {_NOW} + i, i, 1000000"
    mirror = f"SELECT {size + 1}, 'mirror', true, 'docker.io', '{{}}', 5, {_NOW}, NULL, NULL"
    deep = f"SELECT {size + 2}, 'deep', true, NULL, '{{}}', 5, {_NOW}, 7, 1000000"
    if isinstance(d, _PostgreSQL):
        one, mirror, deep = (each.replace("'{}'", "'{}'::json") for each in (one, mirror, deep))
    first, many = 2 * size, d.series(str(size))
    return [
        f"INSERT INTO {columns} {one} FROM {many}",
        f"INSERT INTO repository (id, project_id, name, created_at) SELECT i + {first}, i, 'app', {_NOW} FROM {many}",
        _manifests(d, f"i + {first}", d.digest("i"), many),
        f"INSERT INTO {columns} {mirror}",
        f"INSERT INTO {columns} {deep}",
    ]


def _people(d: _Dialect, size: int) -> list[str]:
    """Make people, and what they and the projects have: members, robots, labels."""
    hashed = PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
    deep, few, many = size + 2, d.series(str(FEW)), d.series(str(size))
    robot = "robot (project_id, name, description, secret_hash, permissions, disabled, created_at, created_by)"
    empty = "'{}'::json" if isinstance(d, _PostgreSQL) else "'{}'"
    groups = f"'[\"{GROUP}\"]'"
    return [
        # Seen now: else the back-fill of a worker writes every row again while costs are measured.
        "INSERT INTO account (id, username, password_hash, is_admin, disabled, created_at, seen_at, full_name, email)"
        f" SELECT i, 'user-' || {d.padded('i')}, NULL, false, false, {_NOW}, {int(time.time())}, 'Person ' || i,"
        f" 'user' || i || '@example.org' FROM {many}",
        f"UPDATE account SET password_hash = '{hashed}', groups = {groups} WHERE username = '{MARI}'",
        "INSERT INTO member (project_id, account_id, role, created_at)"
        f" SELECT i, i, 'project admin', {_NOW} FROM {many}",
        f"INSERT INTO member (project_id, account_id, role, created_at)"
        f" SELECT {deep}, i, 'developer', {_NOW} FROM {few}",
        "INSERT INTO member (project_id, account_id, role, created_at)"
        f" SELECT i + 7, 7, 'developer', {_NOW} FROM {few}",
        "INSERT INTO member (project_id, group_name, role, created_at)"
        f" SELECT i, '{GROUP}', 'guest', {_NOW} FROM {few}",
        f"INSERT INTO {robot} SELECT i, 'robot$p-' || {d.padded('i')} || '+ci', '', 'hash-' || i, {empty}, false,"
        f" {_NOW}, 'x' FROM {many}",
        f"INSERT INTO {robot} SELECT {deep}, 'robot$deep+ci-' || {d.padded('i')}, '', 'deep-' || i, {empty}, false,"
        f" {_NOW}, 'x' FROM {few}",
        f"INSERT INTO {robot} SELECT NULL, 'robot$ci-' || {d.padded('i')}, '', 'system-' || i, {empty}, false,"
        f" {_NOW}, 'x' FROM {few}",
        "INSERT INTO label (project_id, name, description, color, created_at)"
        f" SELECT i, 'tested', '', '#112233', {_NOW} FROM {many}",
        "INSERT INTO label (project_id, name, description, color, created_at)"
        f" SELECT {deep}, 'label-' || {d.padded('i')}, '', '#112233', {_NOW} FROM {few}",
        "INSERT INTO label (project_id, name, description, color, created_at)"
        f" SELECT NULL, 'label-' || {d.padded('i')}, '', '#112233', {_NOW} FROM {few}",
    ]


def _webhooks(d: _Dialect, size: int) -> list[str]:
    """Make a webhook of each project, and deliveries of one of them, which have ended."""
    deep, many = size + 2, d.series(str(size))
    columns = (
        "webhook (project_id, name, description, enabled, url, payload_format, event_types, created_by, created_at,"
        " updated_at)"
    )
    values = f"'hook', '', true, 'http://hooks.test/', 'Default', 'PUSH_ARTIFACT', 'x', {_NOW}, {_NOW}"
    empty = "'{}'::json" if isinstance(d, _PostgreSQL) else "'{}'"
    return [
        f"INSERT INTO {columns} SELECT i, {values} FROM {many}",
        f"INSERT INTO {columns} SELECT {deep}, {values}",
        "INSERT INTO delivery (webhook_id, event_type, event, created_at, status, attempts, next_at, ended_at, answer)"
        f" SELECT {size + 1}, 'PUSH_ARTIFACT', {empty}, {_NOW} + i, 'Success', 1, NULL, 4e9, '200 OK' FROM {many}",
    ]


def _mirror(d: _Dialect, size: int) -> list[str]:
    many, project = d.series(str(size)), size + 1
    blob = d.digest("i + 9000000")
    return [
        "INSERT INTO repository (id, project_id, name, created_at, pull_count)"
        f" SELECT i, {project}, 'library/image-' || {d.padded('i')}, {_NOW} + i, (i % 100000) * 7919 % 1000003"
        f" FROM {many}",
        f"INSERT INTO blob (digest, object_key, size, created_at) SELECT {blob}, 'key' || i, 1000, {_NOW} FROM {many}",
        "INSERT INTO link (repository_id, digest, project_id, pulled_at)"
        f" SELECT i, {blob}, {project}, {_NOW} + i FROM {many}",
        _manifests(d, "i", d.digest("i"), many),
        "INSERT INTO tag (repository_id, name, digest, updated_at, checked_at, charged_bytes)"
        f" SELECT i, 'latest', {d.digest('i')}, {_NOW}, {_NOW}, 512 FROM {many}",
        f"INSERT INTO pull_hour (repository_id, hour, pulls) SELECT i, {int(_NOW // 3600)}, 1 FROM {many}",
        "INSERT INTO traffic (project_id, hour, hits, misses, served_bytes, fetched_bytes)"
        f" SELECT {project}, {int(_NOW // 3600)} - i, 1, 1, 1, 1 FROM {d.series('700')}",
    ]


def _deep(d: _Dialect, size: int) -> list[str]:
    """Fill one repository: of four manifests, the first is an index of the next two, and the last an image.

    The project has the first of the retention policies, with a run that did something in many repositories.
    """
    many, few, app, other = d.series(str(size)), d.series(str(FEW)), size + 1, size + 2
    part = "part (repository_id, manifest, digest, is_manifest, size)"
    tag = "tag (repository_id, name, digest, updated_at, checked_at, charged_bytes)"
    here, cast = d.digest("i"), "::json" if isinstance(d, _PostgreSQL) else ""
    rule = {"template": "latestPushedK", "count": 9, "tags": ["**", False], "repositories": ["**", False]}
    rules, none = f"'{json.dumps([rule | {'untagged': False, 'disabled': False}])}'{cast}", f"'[]'{cast}"
    of_index = f"FROM {many} WHERE i % 4 = 0"
    return [
        f"INSERT INTO repository (id, project_id, name, created_at) SELECT {app}, {size + 2}, 'app', {_NOW}",
        "INSERT INTO repository (id, project_id, name, created_at)"
        f" SELECT {app} + i, {size + 2}, 'other-' || {d.padded('i')}, {_NOW} FROM {few}",
        # All hours of which a page draws the pulls.
        f"INSERT INTO pull_hour (repository_id, hour, pulls) SELECT {app}, {int(time.time() // 3600)} - i, 1"
        f" FROM {d.series('800')}",
        _manifests(d, str(app), here, many),
        _manifests(d, f"{other}", here, few),
        f"INSERT INTO retention (id, project_id, rules, cron, evaluated_at, changed_at)"
        f" SELECT 1, {size + 2}, {rules}, '', {_NOW + 2_000_000}, {_NOW}",
        "INSERT INTO retention (id, project_id, rules, cron, changed_at)"
        f" SELECT i + 1, i, {rules}, '', {_NOW} FROM {many}",
        "INSERT INTO retention_execution (id, retention_id, trigger, dry_run, status, started_at, ended_at)"
        f" SELECT i, i, 'Manual', false, 'Success', {_NOW}, {_NOW} FROM {many}",
        "INSERT INTO retention_task (id, execution_id, repository_id, repository, status, started_at, total, retained,"
        f" freed_bytes, removed) SELECT i, 1, {app}, 'app', 'Success', {_NOW}, 1, 1, 0, {none} FROM {many}",
        # Pushed lately, so that nothing is due yet.
        "INSERT INTO review (repository_id, digest, review_at, project_id, pushed_by)"
        f" SELECT {app}, {d.digest('i + 5000000')}, {_NOW + 2_080_000} + i / 1000.0, {size + 2}, 'person:{MARI}'"
        f" FROM {many}",
        f"INSERT INTO {part} SELECT {app}, {here}, {d.digest('i + 1')}, true, 500 {of_index}",
        f"INSERT INTO {part} SELECT {app}, {here}, {d.digest('i + 2')}, true, 500 {of_index}",
        f"INSERT INTO {part} SELECT {app}, {here}, {d.digest('i + 5000000')}, false, 500 FROM {many} WHERE i % 4 > 0",
        f"INSERT INTO {tag} SELECT {app}, 'v' || {d.padded('i')}, {here}, {_NOW} + i, {_NOW}, 512 FROM {many}"
        " WHERE i % 4 = 0 OR i % 4 = 3",
        f"INSERT INTO {tag} SELECT {app}, 'build-' || {d.padded('i')}, {d.digest('3')}, {_NOW} + i, {_NOW}, 512"
        f" FROM {many}",
    ]


def _bin(d: _Dialect, size: int) -> list[str]:
    """Put images of one project into its bin, each in a repository of its own, and a few projects into theirs."""
    many, few, first = d.series(str(size)), d.series(str(FEW)), 4 * size
    # Deleted within the last days.
    lately, digest = f"{_NOW + 1_900_000} + i / 1000.0", d.digest("i")
    columns = (
        "id, name, public, settings, used_bytes, created_at, owner_id, deleted_at, deleted_by, old_name, was_public"
    )
    settings = "'{}'::json" if isinstance(d, _PostgreSQL) else "'{}'"
    return [
        "INSERT INTO repository (id, project_id, name, created_at, pending, deleted_at, deleted_by, old_name)"
        f" SELECT i + {first}, {size + 2}, '~' || i, {_NOW}, true, {lately}, 'person:{MARI}', 'app@' || {digest}"
        f" FROM {many}",
        _manifests(d, f"i + {first}", digest, many),
        "INSERT INTO link (repository_id, digest, project_id, pulled_at)"
        f" SELECT i + {first}, {d.digest('i + 9000000')}, {size + 2}, {_NOW} FROM {many}",
        "INSERT INTO tag (repository_id, name, digest, updated_at, checked_at, charged_bytes)"
        f" SELECT i + {first}, 'old', {digest}, {_NOW}, {_NOW}, 512 FROM {many}",
        f"INSERT INTO project ({columns}) SELECT i + {size + 2}, '~p' || i, false, {settings}, 5, {_NOW}, 7, {lately},"
        f" 'person:{MARI}', 'gone-' || i, false FROM {few}",
    ]


def _manifests(d: _Dialect, repository: str, digest: str, rows: str) -> str:
    """Spell manifests: their payloads can be read, and name a config that is not here."""
    config = f'{{"mediaType": "{_CONFIG}", "size": 2, "digest": "{_digest(1)}"}}'
    image = f'{{"schemaVersion": 2, "mediaType": "{_IMAGE}", "config": {config}, "layers": []}}'
    index = f'{{"schemaVersion": 2, "mediaType": "{_INDEX}", "manifests": []}}'
    empty = "'{}'::json" if isinstance(d, _PostgreSQL) else "'{}'"
    return (
        "INSERT INTO manifest (repository_id, digest, media_type, artifact_type, subject, annotations, payload, size,"
        f" created_at, pulled_at, charged_bytes) SELECT {repository}, {digest},"
        f" CASE WHEN i % 4 = 0 THEN '{_INDEX}' ELSE '{_IMAGE}' END,"
        f" CASE WHEN i % 4 = 0 THEN NULL ELSE '{_CONFIG}' END, NULL, {empty},"
        f" {d.bytes(f'''CASE WHEN i % 4 = 0 THEN '{index}' ELSE '{image}' END''')}, 300, {_NOW} + i, {_NOW} + i,"
        f" 1500 FROM {rows}"
    )


def _plans(d: _Dialect, size: int) -> list[str]:
    """Make plans whose date is over, of an image each."""
    many = d.series(str(size))
    return [
        "INSERT INTO plan (id, title, owner_id, owner, platforms, due_at, weekly, ends_at, created_at)"
        f" SELECT i, 'a class', i, 'somebody', '[\"linux/amd64\"]', {_NOW}, i < 0, {_NOW}, {_NOW} FROM {many}",
        "INSERT INTO plan_image (plan_id, number, project_id, repository, reference)"
        f" SELECT i, 0, {size + 1}, 'library/redis', 'v1' FROM {many}",
    ]


def _log(d: _Dialect, size: int) -> list[str]:
    return [
        "INSERT INTO audit (at, actor, address, operation, resource_type, resource, project_id, project_name)"
        f" SELECT {_NOW} + i, 'person:user-' || {d.padded('i')}, '192.0.2.1', 'push', 'artifact', 'deep/app:' || i,"
        f" CASE WHEN i % 2 = 0 THEN {size + 2} ELSE i END,"
        f" CASE WHEN i % 2 = 0 THEN 'deep' ELSE 'p-' || {d.padded('i')} END FROM {d.series(str(size))}",
        "INSERT INTO request (at, request_id, host, method, path, route, status, outcome, code, cause, why, who,"
        " client, repository, reference, digest, pulls, bytes, seconds, phases, times)"
        # Of the last day, because those that are older than some days are removed.
        f" SELECT {_NOW} + 1900000 + i, 'request-' || {d.padded('i')}, 'here', 'GET', '/v2/deep/app/manifests/v1',"
        " 'manifests', 503, CASE WHEN i % 3 = 0 THEN 'failed' ELSE 'filled' END, '', '', '', 'anonymous', '192.0.2.1',"
        f" 'deep/app', 'v1', '', 0, 0, 0.1, '{{}}', 1 FROM {d.series(str(size))}",
    ]
