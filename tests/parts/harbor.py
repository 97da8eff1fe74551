"""A Harbor's database and blobs: its tables as two of its releases have them, filled by what tests say, no process.

The tables are those of the field notes. A manifest is written as Harbor records it: a row for each in each repository,
the payload in the store.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import psycopg
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

# schema_migrations.version of 2.8 and 2.16.
OLD, NEW = 110, 190
KEY = "0123456789abcdef"

_TABLES = """
CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean);
CREATE TABLE properties (id serial PRIMARY KEY, k varchar(64) UNIQUE, v text);
CREATE TABLE harbor_user (user_id serial PRIMARY KEY, username varchar(255) UNIQUE, email varchar(255),
    password varchar(64), realname varchar(255), comment varchar(255), deleted boolean DEFAULT false,
    reset_uuid varchar(40), salt varchar(40), sysadmin_flag boolean DEFAULT false, creation_time timestamp,
    update_time timestamp, password_version varchar(16));
CREATE TABLE oidc_user (id serial PRIMARY KEY, user_id integer, secret varchar(255), subiss varchar(255), token text,
    creation_time timestamp, update_time timestamp);
CREATE TABLE user_group (id serial PRIMARY KEY, group_name varchar(255), group_type smallint,
    ldap_group_dn varchar(512), creation_time timestamp, update_time timestamp);
CREATE TABLE registry (id serial PRIMARY KEY, name varchar(256), url varchar(256), access_key varchar(255),
    access_secret varchar(4096), insecure boolean, creation_time timestamp, update_time timestamp,
    credential_type varchar(16), type varchar(32), description text, health varchar(16));
CREATE TABLE project (project_id serial PRIMARY KEY, owner_id integer, name varchar(255) UNIQUE,
    creation_time timestamp, update_time timestamp, deleted boolean DEFAULT false, registry_id integer);
CREATE TABLE project_metadata (id serial PRIMARY KEY, project_id integer, name varchar(255), value varchar(255),
    creation_time timestamp, update_time timestamp);
CREATE TABLE project_member (id serial PRIMARY KEY, project_id integer, entity_id integer, entity_type char(1),
    role integer, creation_time timestamp, update_time timestamp);
CREATE TABLE quota (id serial PRIMARY KEY, reference varchar(255), reference_id varchar(255), hard jsonb,
    creation_time timestamp, update_time timestamp, version bigint);
CREATE TABLE quota_usage (id serial PRIMARY KEY, reference varchar(255), reference_id varchar(255), used jsonb,
    creation_time timestamp, update_time timestamp, version bigint);
CREATE TABLE repository (repository_id serial PRIMARY KEY, name varchar(255) UNIQUE, project_id integer,
    description text, pull_count integer DEFAULT 0, star_count integer DEFAULT 0, creation_time timestamp,
    update_time timestamp);
CREATE TABLE artifact (id serial PRIMARY KEY, project_id integer, repository_name varchar(255), digest varchar(255),
    type varchar(255), pull_time timestamp, push_time timestamp, repository_id integer, media_type varchar(255),
    manifest_media_type varchar(255), size bigint, extra_attrs text, annotations jsonb, icon varchar(255)
    {artifact_type}, UNIQUE (repository_id, digest));
CREATE TABLE artifact_blob (id serial PRIMARY KEY, digest_af varchar(255), digest_blob varchar(255),
    creation_time timestamp);
CREATE TABLE artifact_reference (id serial PRIMARY KEY, parent_id integer, child_id integer, child_digest varchar(255),
    platform varchar(255), urls varchar(1024), annotations jsonb);
CREATE TABLE blob (id serial PRIMARY KEY, digest varchar(255) UNIQUE, content_type varchar(1024), size bigint,
    creation_time timestamp, update_time timestamp, status varchar(255), version bigint);
CREATE TABLE tag (id serial PRIMARY KEY, repository_id integer, artifact_id integer, name varchar(255),
    push_time timestamp, pull_time timestamp, UNIQUE (repository_id, name));
CREATE TABLE harbor_label (id serial PRIMARY KEY, name varchar(128), description text, color varchar(16),
    level char(1), scope char(1), project_id integer, creation_time timestamp, update_time timestamp,
    deleted boolean DEFAULT false);
CREATE TABLE label_reference (id serial PRIMARY KEY, label_id integer, artifact_id integer, creation_time timestamp,
    update_time timestamp);
CREATE TABLE robot (id {robot_id} PRIMARY KEY, name varchar(255), description varchar(1024), project_id integer,
    expiresat bigint, disabled boolean DEFAULT false, creation_time timestamp, update_time timestamp,
    visible boolean DEFAULT true, secret varchar(2048), salt varchar(64), duration integer {creator});
CREATE TABLE permission_policy (id serial PRIMARY KEY, scope varchar(255), resource varchar(255), action varchar(255),
    effect varchar(255), creation_time timestamp);
CREATE TABLE role_permission (id serial PRIMARY KEY, role_type varchar(255), role_id bigint,
    permission_policy_id bigint, creation_time timestamp);
CREATE TABLE retention_policy (id serial PRIMARY KEY, scope_level varchar(20), scope_reference integer,
    trigger_kind varchar(20), data text, create_time timestamp, update_time timestamp);
CREATE TABLE immutable_tag_rule (id serial PRIMARY KEY, project_id integer, tag_filter text, disabled boolean,
    creation_time timestamp);
CREATE TABLE notification_policy (id serial PRIMARY KEY, name varchar(256), project_id integer, enabled boolean,
    description text, targets text, event_types text, creator varchar(256), creation_time timestamp,
    update_time timestamp);
CREATE TABLE audit_log (id serial PRIMARY KEY, project_id integer, operation varchar(20), resource_type varchar(255),
    resource varchar(1024), username varchar(255), op_time timestamp);
"""
_LATER = """
CREATE TABLE audit_log_ext (id bigserial PRIMARY KEY, project_id bigint, operation varchar(50),
    resource_type varchar(50), resource varchar(255), username varchar(255), op_desc varchar(1024), op_result boolean,
    payload text, source_ip varchar(50), op_time timestamp);
"""


class Place(Protocol):
    """The store: a folder or a bucket."""

    def put(self, path: str, data: bytes) -> None: ...


class Folder:
    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, data: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


class Bucket:
    def __init__(self, client: Any, name: str, prefix: str = "") -> None:
        self._client, self._name, self._prefix = client, name, prefix

    def put(self, path: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._name, Key=self._prefix + path, Body=data)


def blob_path(digest: str) -> str:
    """Spell where distribution keeps a blob."""
    digits = digest.partition(":")[2]
    return f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"


def hashed(secret: str, salt: str, version: str = "sha256") -> str:
    """Hash a secret as Harbor does."""
    function, rounds = {"sha1": ("sha1", 4096), "sha256": ("sha256", 4096), "pbkdf2_sha256": ("sha256", 600_000)}[
        version
    ]
    return hashlib.pbkdf2_hmac(function, secret.encode(), salt.encode(), rounds, 16).hex()


def encrypted(text: str, key: str = KEY) -> str:
    """Encrypt a text as Harbor's core does."""
    vector = hashlib.sha256(text.encode()).digest()[:16]
    writer = Cipher(AES(key.encode()), CFB(vector)).encryptor()
    return "<enc-v1>" + base64.b64encode(vector + writer.update(text.encode()) + writer.finalize()).decode()


class Harbor:
    """A Harbor of one release; every method writes and commits."""

    def __init__(self, url: str, place: Place, *, version: int = NEW, auth_mode: str = "db_auth") -> None:
        self.url, self.place = url, place
        self._connection = psycopg.connect(url, autocommit=True)
        new = version >= NEW
        tables = _TABLES.format(
            artifact_type=", artifact_type varchar(255)" if new else "",
            robot_id="bigserial" if new else "serial",
            creator=", creator_ref bigint DEFAULT 0, creator_type varchar(255)" if new else "",
        )
        self._connection.execute((tables + _LATER * new).encode())
        self.log_table = "audit_log_ext" if new else "audit_log"
        self.insert("schema_migrations", version=version, dirty=False)
        self.insert("properties", k="auth_mode", v=auth_mode)
        self.add_user("admin", "Harbor12345", version="sha256", is_admin=True)

    def close(self) -> None:
        self._connection.close()

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, **values: object) -> int:
        """Insert a row and give its first column."""
        columns, places = ", ".join(values), ", ".join(["%s"] * len(values))
        kept = [json.dumps(value) if isinstance(value, dict | list) else value for value in values.values()]
        row = self.execute(f"INSERT INTO {table} ({columns}) VALUES ({places}) RETURNING *", *kept)
        return int(row[0][0]) if str(row[0][0]).isdigit() else 0

    def add_user(
        self,
        name: str,
        password: str = "",
        *,
        version: str = "pbkdf2_sha256",
        is_admin: bool = False,
        cli_secret: str | None = None,
        email: str = "",
    ) -> int:
        """Add a user with a password, or one who logs in by OIDC if there is none."""
        salt = f"salt-of-{name}"[:32]
        # 600,000 rounds take half a second, so a test asks for them by a password.
        kept = hashed(password, salt, version) if password else ""
        user = self.insert(
            "harbor_user", username=name, email=email or f"{name}@example.org", realname=name.title(), password=kept,
            salt=salt, password_version=version, sysadmin_flag=is_admin, creation_time=_when(0), update_time=_when(0),
        )  # fmt: skip
        if not password:
            secret = None if cli_secret is None else encrypted(cli_secret)
            self.insert("oidc_user", user_id=user, secret=secret, subiss=f"{name}https://idp.example.org")
        return user

    def add_group(self, name: str) -> int:
        return self.insert("user_group", group_name=name, group_type=3)

    def add_project(self, name: str, *, owner: int = 1, quota: int = -1, registry: int = 0, **metadata: str) -> int:
        project = self.insert(
            "project", owner_id=owner, name=name, creation_time=_when(1), update_time=_when(1), registry_id=registry
        )
        for key, value in {"public": "false", **metadata}.items():
            self.insert("project_metadata", project_id=project, name=key, value=value)
        self.insert("quota", reference="project", reference_id=str(project), hard={"storage": quota})
        self.insert("project_member", project_id=project, entity_id=owner, entity_type="u", role=1)
        return project

    def add_registry(self, url: str, *, account: tuple[str, str] | None = None) -> int:
        key, secret = account or ("", "")
        return self.insert(
            "registry", name=url, url=url, access_key=key, access_secret=encrypted(secret) if secret else "",
            insecure=False, type="docker-registry",
        )  # fmt: skip

    def add_member(self, project: int, entity: int, role: int, *, kind: str = "u") -> int:
        return self.insert("project_member", project_id=project, entity_id=entity, entity_type=kind, role=role)

    def add_robot(
        self, name: str, secret: str, rights: Sequence[tuple[str, str]], *, project: int = 0, expires_at: int = -1,
        disabled: bool = False,
    ) -> int:  # fmt: skip
        """Add a robot account; ``rights`` are (scope, "resource:action"). One of a project is named PROJECT+NAME."""
        salt = f"salt-{name}"[:32]
        robot = self.insert(
            "robot", name=name, description=f"robot {name}", project_id=project, expiresat=expires_at,
            disabled=disabled, creation_time=_when(2), visible=True, secret=hashed(secret, salt), salt=salt,
            duration=30,
        )  # fmt: skip
        for scope, right in rights:
            resource, _, action = right.partition(":")
            policy = self.insert("permission_policy", scope=scope, resource=resource, action=action, effect="")
            self.insert("role_permission", role_type="robotaccount", role_id=robot, permission_policy_id=policy)
        return robot

    def repository(self, project: int, name: str) -> int:
        """Give a repository by its full name, and make it if it is missing."""
        found = self.execute("SELECT repository_id FROM repository WHERE name = %s", name)
        if found:
            return int(found[0][0])
        return self.insert(
            "repository", name=name, project_id=project, description=f"about {name}", pull_count=3,
            creation_time=_when(2), update_time=_when(2),
        )  # fmt: skip

    def put(self, data: bytes) -> str:
        """Store a blob and give its digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.execute("SELECT 1 FROM blob WHERE digest = %s", digest):
            self.place.put(blob_path(digest), data)
        self.record_blob(digest, len(data))
        return digest

    def record_blob(self, digest: str, size: int) -> None:
        """Note a blob that is in the store."""
        self.execute(
            "INSERT INTO blob (digest, content_type, size, status, version) VALUES (%s, 'x', %s, 'none', 0)"
            " ON CONFLICT DO NOTHING", digest, size,
        )  # fmt: skip

    def record(
        self, project: int, repository: str, digest: str, media_type: str, *tags: str, blobs: Sequence[str] = ()
    ) -> int:
        """Note a manifest that is in the store, and give its artifact's id."""
        repository_id = self.repository(project, repository)
        found = self.execute("SELECT id FROM artifact WHERE repository_id = %s AND digest = %s", repository_id, digest)
        artifact = (
            int(found[0][0])
            if found
            else self.insert(
                "artifact", project_id=project, repository_name=repository, digest=digest, type="IMAGE",
                push_time=_when(3), pull_time=_when(4), repository_id=repository_id, media_type="x",
                manifest_media_type=media_type, size=1,
            )
        )  # fmt: skip
        for blob in [*blobs, digest]:
            self.insert("artifact_blob", digest_af=digest, digest_blob=blob)
        for tag in tags:
            self.execute(
                "INSERT INTO tag (repository_id, artifact_id, name, push_time) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (repository_id, name) DO UPDATE SET artifact_id = excluded.artifact_id",
                repository_id, artifact, tag, _when(5),
            )  # fmt: skip
        return artifact

    def push(self, project: int, repository: str, document: Mapping[str, Any], *tags: str) -> str:
        """Store and note a manifest, and give its digest."""
        payload = json.dumps(document).encode()
        digest = self.put(payload)
        parts = [document.get("config"), *document.get("layers", [])]
        self.record(
            project, repository, digest, document["mediaType"], *tags, blobs=[part["digest"] for part in parts if part]
        )
        return digest

    def image(self, project: int, repository: str, seed: str, *tags: str, shared: bytes = b"base layer") -> str:
        """Push an image of two layers, one of which it has in common with others, and give its digest."""
        parts = []
        for data, kind in (
            (json.dumps({"architecture": "amd64", "os": "linux", "of": seed}).encode(), "image.config.v1+json"),
            (shared, "image.layer.v1.tar"),
            (f"layer of {seed}".encode(), "image.layer.v1.tar"),
        ):
            digest = self.put(data)
            media_type = f"application/vnd.oci.{kind}"
            parts.append({"mediaType": media_type, "digest": digest, "size": len(data)})
        return self.push(project, repository, {**_IMAGE, "config": parts[0], "layers": parts[1:]}, *tags)

    def index(self, project: int, repository: str, children: Sequence[str], *tags: str) -> str:
        """Push an index of images, and give its digest."""
        entries = []
        for child, system in zip(children, ("amd64", "arm64", "riscv64", "s390x"), strict=False):
            size = self.execute("SELECT size FROM blob WHERE digest = %s", child)[0][0]
            entries.append(
                {"mediaType": _IMAGE["mediaType"], "digest": child, "size": size,
                 "platform": {"os": "linux", "architecture": system}}
            )  # fmt: skip
        return self.push(
            project, repository, {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}, *tags
        )

    def signature(self, project: int, repository: str, subject: str) -> str:
        """Push a signature of an image, and give its digest."""
        config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": self.put(b"{}"), "size": 2}
        size = self.execute("SELECT size FROM blob WHERE digest = %s", subject)[0][0]
        about = {"mediaType": _IMAGE["mediaType"], "digest": subject, "size": size}
        document = {**_IMAGE, "config": config, "layers": [], "artifactType": "application/x-sig", "subject": about}
        return self.push(project, repository, document)

    def chart(self, project: int, repository: str, *tags: str) -> str:
        """Push a Helm chart, and give its digest."""
        data, about = f"chart of {repository}".encode(), b'{"name": "chart"}'
        helm = "application/vnd.cncf.helm"
        config = {"mediaType": f"{helm}.config.v1+json", "digest": self.put(about), "size": len(about)}
        layer = {"mediaType": f"{helm}.chart.content.v1.tar+gzip", "digest": self.put(data), "size": len(data)}
        return self.push(project, repository, {**_IMAGE, "config": config, "layers": [layer]}, *tags)

    def immutable_rule(self, project: int, tags: str, *, disabled: bool = False, **more: Any) -> int:
        """Add a rule that makes tags immutable, and give its id."""
        rule = {
            "id": 0, "project_id": project, "priority": 0, "action": "immutable", "template": "immutable_template",
            "params": {}, "tag_selectors": [_selector("matches", tags)],
            "scope_selectors": {"repository": [_selector("repoMatches", "**")]},
        }  # fmt: skip
        return self.insert("immutable_tag_rule", project_id=project, tag_filter=rule | more, disabled=disabled)

    def retention_policy(self, project: int, *rules: Mapping[str, Any], cron: str = "") -> int:
        """Add the retention policy of a project, and give its id."""
        policy = {
            "algorithm": "or", "rules": list(rules), "scope": {"level": "project", "ref": project},
            "trigger": {"kind": "Schedule", "references": {}, "settings": {"cron": cron}},
        }  # fmt: skip
        policy_id = self.insert(
            "retention_policy", scope_level="project", scope_reference=project, trigger_kind="Schedule", data=policy
        )
        self.insert("project_metadata", project_id=project, name="retention_id", value=str(policy_id))
        return policy_id

    @staticmethod
    def keeping(template: str, count: int = 0, *, tags: str = "**", decoration: str = "matches", **more: Any) -> Any:
        """Spell a rule of a retention policy."""
        rule = {
            "priority": 0, "disabled": False, "action": "retain", "template": template,
            "params": {template: count} if count else {},
            "tag_selectors": [_selector(decoration, tags) | {"extras": '{"untagged":true}'}],
            "scope_selectors": {"repository": [_selector("repoMatches", "**")]},
        }  # fmt: skip
        return rule | more

    def hook(
        self, project: int, name: str, address: str, *events: str, header: str = "", enabled: bool = True, **more: Any
    ) -> int:
        """Add a webhook, and give its id; ``more`` are further fields of its target."""
        target = {"type": "http", "address": address, "auth_header": header, **more}
        return self.insert(
            "notification_policy", name=name, project_id=project, enabled=enabled, description="", creator="mari",
            targets=[target], event_types=list(events or ("PUSH_ARTIFACT",)),
        )  # fmt: skip

    def log(self, project: int, operation: str, resource: str, username: str, *, succeeded: bool | None = None) -> None:
        """Add an entry to the audit log; only later releases have ``succeeded``."""
        ended = {} if succeeded is None else {"op_result": succeeded}
        self.insert(
            self.log_table, project_id=project, operation=operation, resource_type="artifact", resource=resource,
            username=username, op_time=_when(6), **ended,
        )  # fmt: skip


INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_IMAGE: Mapping[str, Any] = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}


def _selector(decoration: str, pattern: str) -> dict[str, str]:
    return {"kind": "doublestar", "decoration": decoration, "pattern": pattern}


def _when(hours: float) -> str:
    """Spell a time of yesterday, in UTC, as Harbor's columns have it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - 86400 + 3600 * hours))
