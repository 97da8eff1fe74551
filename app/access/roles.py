"""Rights, in Harbor's words, and the roles that have them.

A right is ``resource:action``. Roles are cumulative: each has the rights of the one before it. `Permissions` decides
who has which rights in which project; no other code asks for a role.

Source: Harbor, "User Permissions By Role" and its RBAC policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

PULL = "repository:pull"
PUSH = "repository:push"
LIST_REPOSITORIES = "repository:list"
UPDATE_REPOSITORY = "repository:update"
DELETE_REPOSITORY = "repository:delete"
READ_ARTIFACT = "artifact:read"
DELETE_ARTIFACT = "artifact:delete"
LIST_TAGS = "tag:list"
CREATE_TAG = "tag:create"
DELETE_TAG = "tag:delete"
READ_PROJECT = "project:read"
UPDATE_PROJECT = "project:update"
DELETE_PROJECT = "project:delete"
READ_QUOTA = "quota:read"
LIST_MEMBERS = "member:list"
CREATE_MEMBER = "member:create"
UPDATE_MEMBER = "member:update"
DELETE_MEMBER = "member:delete"
LIST_LABELS = "label:list"
CREATE_LABEL = "label:create"
UPDATE_LABEL = "label:update"
DELETE_LABEL = "label:delete"
ATTACH_LABEL = "artifact-label:create"
DETACH_LABEL = "artifact-label:delete"
LIST_ROBOTS = "robot:list"
CREATE_ROBOT = "robot:create"
UPDATE_ROBOT = "robot:update"
DELETE_ROBOT = "robot:delete"
READ_LOG = "log:list"
LIST_IMMUTABILITY = "immutable-tag:list"
CREATE_IMMUTABILITY = "immutable-tag:create"
UPDATE_IMMUTABILITY = "immutable-tag:update"
DELETE_IMMUTABILITY = "immutable-tag:delete"
READ_RETENTION = "tag-retention:read"
CREATE_RETENTION = "tag-retention:create"
UPDATE_RETENTION = "tag-retention:update"
DELETE_RETENTION = "tag-retention:delete"
LIST_WEBHOOKS = "notification-policy:list"
READ_WEBHOOK = "notification-policy:read"
CREATE_WEBHOOK = "notification-policy:create"
UPDATE_WEBHOOK = "notification-policy:update"
DELETE_WEBHOOK = "notification-policy:delete"

# Harbor has no bin.
RESTORE_DELETED = "bin:restore"
DELETE_FOR_GOOD = "bin:delete"

NO_RIGHTS: frozenset[str] = frozenset()


class Role(StrEnum):
    """The role of a member in a project, the least first."""

    LIMITED_GUEST = "limited guest"
    GUEST = "guest"
    DEVELOPER = "developer"
    MAINTAINER = "maintainer"
    PROJECT_ADMIN = "project admin"


# The rights that everybody has in a public project.
PUBLIC_RIGHTS = frozenset({PULL, LIST_REPOSITORIES, READ_ARTIFACT, LIST_TAGS, LIST_LABELS, READ_PROJECT})

_ADDED: Mapping[Role, frozenset[str]] = {
    Role.LIMITED_GUEST: (PUBLIC_RIGHTS - {LIST_LABELS}) | {READ_QUOTA},
    Role.GUEST: frozenset({LIST_MEMBERS, LIST_LABELS, LIST_ROBOTS}),
    Role.DEVELOPER: frozenset(
        {PUSH, CREATE_TAG, UPDATE_REPOSITORY, ATTACH_LABEL, DETACH_LABEL}
        | {READ_RETENTION, CREATE_RETENTION, UPDATE_RETENTION, DELETE_RETENTION}
    ),
    Role.MAINTAINER: frozenset(
        {DELETE_REPOSITORY, DELETE_ARTIFACT, DELETE_TAG, CREATE_LABEL, UPDATE_LABEL, DELETE_LABEL}
        | {LIST_IMMUTABILITY, CREATE_IMMUTABILITY, UPDATE_IMMUTABILITY, DELETE_IMMUTABILITY}
        | {LIST_WEBHOOKS, READ_WEBHOOK, RESTORE_DELETED, DELETE_FOR_GOOD}
    ),
    Role.PROJECT_ADMIN: frozenset(
        {CREATE_MEMBER, UPDATE_MEMBER, DELETE_MEMBER, CREATE_ROBOT, UPDATE_ROBOT, DELETE_ROBOT}
        | {UPDATE_PROJECT, DELETE_PROJECT, READ_LOG, CREATE_WEBHOOK, UPDATE_WEBHOOK, DELETE_WEBHOOK}
    ),
}


def rights_of(role: Role) -> frozenset[str]:
    """Return the rights of a role in its project."""
    return _RIGHTS[role]


def _cumulated() -> dict[Role, frozenset[str]]:
    rights: dict[Role, frozenset[str]] = {}
    sum_so_far = NO_RIGHTS
    for role in Role:
        sum_so_far |= _ADDED[role]
        rights[role] = sum_so_far
    return rights


_RIGHTS = _cumulated()
ALL_RIGHTS = _RIGHTS[Role.PROJECT_ADMIN]

# The rights that a robot account or an access key can have: those for programs. None of them makes keys or members,
# so that a leaked secret cannot make others. Maintainers can restore an image that it deletes.
GRANTABLE_RIGHTS = ALL_RIGHTS - {
    CREATE_MEMBER, UPDATE_MEMBER, DELETE_MEMBER, CREATE_ROBOT, UPDATE_ROBOT, DELETE_ROBOT, DELETE_PROJECT,
    RESTORE_DELETED, DELETE_FOR_GOOD,
}  # fmt: skip

# Harbor's names of rights that have another name here, or that are about things which this registry does not have. A
# robot account keeps the name that it was given, so that its maker reads back what was sent.
_HARBOR: Mapping[str, frozenset[str]] = {
    "repository:read": frozenset({LIST_REPOSITORIES}),
    "artifact:list": frozenset({READ_ARTIFACT}),
    "artifact:create": frozenset({PUSH}),
    "artifact-addition:read": frozenset({READ_ARTIFACT}),
    "accessory:list": frozenset({READ_ARTIFACT}),
    "label:read": frozenset({LIST_LABELS}),
    "metadata:read": frozenset({READ_PROJECT}),
    "metadata:list": frozenset({READ_PROJECT}),
    "metadata:create": frozenset({UPDATE_PROJECT}),
    "metadata:update": frozenset({UPDATE_PROJECT}),
    "metadata:delete": frozenset({UPDATE_PROJECT}),
    "robot:read": frozenset({LIST_ROBOTS}),
    "tag-retention:list": frozenset({READ_RETENTION}),
    "member:read": frozenset({LIST_MEMBERS}),
    **{
        f"{thing}:{action}": NO_RIGHTS
        for thing, actions in {
            "scan": ("create", "read", "stop"),
            "sbom": ("create", "read", "stop"),
            "scanner": ("create", "read"),
            "export-cve": ("create", "read"),
            "preheat-policy": ("create", "delete", "list", "read", "update"),
        }.items()
        for action in actions
    },
}
# Every name that a robot account or an access key can be given.
GRANTABLE_NAMES = GRANTABLE_RIGHTS | _HARBOR.keys()


def rights_named(names: Iterable[str]) -> frozenset[str]:
    """Return the rights that a robot account or an access key has by the names that it was given."""
    return NO_RIGHTS.union(*(_HARBOR.get(name, {name}) for name in names))


# The right for each action in a token's scope (`app.access.scopes`).
ACTION_RIGHTS: Mapping[str, str] = {"pull": PULL, "push": PUSH, "delete": DELETE_ARTIFACT}
