"""The names of roles, rights and audit entries on pages. They are texts of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.access import roles
from app.access.principal import COMMAND_LINE, SERVICE, UNIVERSITY
from app.access.roles import Role
from app.database.retention import Status
from app.database.webhooks import DeliveryStatus, EventType
from app.oci.retention import Template
from app.registry.attachments import Purpose

from .texts import mark

ROLES: Mapping[str, str] = {
    Role.LIMITED_GUEST: mark("Limited guest"),
    Role.GUEST: mark("Guest"),
    Role.DEVELOPER: mark("Developer"),
    Role.MAINTAINER: mark("Maintainer"),
    Role.PROJECT_ADMIN: mark("Project admin"),
}
ROLES_ABOUT: Mapping[str, str] = {
    Role.LIMITED_GUEST: mark("pulls images"),
    Role.GUEST: mark("pulls images, sees members and robot accounts"),
    Role.DEVELOPER: mark("also pushes images"),
    Role.MAINTAINER: mark("also deletes images"),
    Role.PROJECT_ADMIN: mark("manages members, robot accounts and the project"),
}

# The artifacts that a retention rule keeps, by its template (`app.oci.retention.Template`).
TEMPLATES: Mapping[str, str] = {
    Template.ALWAYS: mark("all artifacts"),
    Template.LATEST_PUSHED: mark("the artifacts that were pushed last, this many"),
    Template.LATEST_PULLED: mark("the artifacts that were pulled last, this many"),
    Template.DAYS_SINCE_PUSH: mark("artifacts pushed within this many days"),
    Template.DAYS_SINCE_PULL: mark("artifacts pulled within this many days"),
}
STATUSES: Mapping[str, str] = {
    Status.PENDING: mark("waiting"),
    Status.RUNNING: mark("running"),
    Status.SUCCESS: mark("done"),
    Status.STOPPED: mark("stopped"),
    Status.ERROR: mark("failed"),
}

# The events of webhooks, and the states of their deliveries.
EVENTS: Mapping[str, str] = {
    EventType.PUSH: mark("An image is pushed"),
    EventType.PULL: mark("An image is pulled"),
    EventType.DELETE: mark("An image is deleted"),
    EventType.QUOTA_EXCEEDED: mark("The quota is exceeded"),
    EventType.QUOTA_WARNING: mark("The quota is nearly full"),
    EventType.RETENTION: mark("A retention run has removed images"),
}
DELIVERY_STATUSES: Mapping[str, str] = {
    DeliveryStatus.PENDING: mark("waiting"),
    DeliveryStatus.SUCCESS: mark("delivered"),
    DeliveryStatus.ERROR: mark("failed"),
}

# The words on the badges of attachments, and their meanings.
PURPOSES: Mapping[str, str] = {
    Purpose.SIGNATURE: mark("Signed"),
    Purpose.SBOM: mark("SBOM"),
    Purpose.PROVENANCE: mark("Provenance"),
    Purpose.OTHER: mark("Attached"),
}
PURPOSES_ABOUT: Mapping[str, str] = {
    Purpose.SIGNATURE: mark("A signature is attached. Verify it with a client that has the key."),
    Purpose.SBOM: mark("A list of the packages in it is attached."),
    Purpose.PROVENANCE: mark("A record of how it was built is attached."),
    Purpose.OTHER: mark("Something else is attached."),
}

# The rights that programs need most; the first two are the default. The other rights are behind a fold.
COMMON_RIGHTS: Sequence[tuple[str, str]] = (
    (roles.PULL, mark("Pull images")),
    (roles.PUSH, mark("Push images")),
    (roles.DELETE_ARTIFACT, mark("Delete images")),
    (roles.LIST_REPOSITORIES, mark("List repositories")),
)
OTHER_RIGHTS: Sequence[tuple[str, str]] = (
    (roles.READ_PROJECT, mark("Read the project")),
    (roles.UPDATE_PROJECT, mark("Change the project")),
    (roles.READ_QUOTA, mark("Read the quota")),
    (roles.READ_ARTIFACT, mark("Read artifacts")),
    (roles.UPDATE_REPOSITORY, mark("Describe repositories")),
    (roles.DELETE_REPOSITORY, mark("Delete repositories")),
    (roles.LIST_TAGS, mark("List tags")),
    (roles.CREATE_TAG, mark("Add tags")),
    (roles.DELETE_TAG, mark("Remove tags")),
    (roles.LIST_LABELS, mark("List labels")),
    (roles.CREATE_LABEL, mark("Create labels")),
    (roles.UPDATE_LABEL, mark("Change labels")),
    (roles.DELETE_LABEL, mark("Delete labels")),
    (roles.ATTACH_LABEL, mark("Attach labels")),
    (roles.DETACH_LABEL, mark("Detach labels")),
    (roles.LIST_MEMBERS, mark("List members")),
    (roles.LIST_ROBOTS, mark("List robot accounts")),
    (roles.READ_LOG, mark("Read the log")),
    (roles.LIST_IMMUTABILITY, mark("List rules for immutable tags")),
    (roles.CREATE_IMMUTABILITY, mark("Make tags immutable")),
    (roles.UPDATE_IMMUTABILITY, mark("Change rules for immutable tags")),
    (roles.DELETE_IMMUTABILITY, mark("Remove rules for immutable tags")),
    (roles.READ_RETENTION, mark("Read the retention rules")),
    (roles.CREATE_RETENTION, mark("Make retention rules")),
    (roles.UPDATE_RETENTION, mark("Change and run retention rules")),
    (roles.DELETE_RETENTION, mark("Remove retention rules")),
    (roles.LIST_WEBHOOKS, mark("List webhooks")),
    (roles.READ_WEBHOOK, mark("Read webhooks and what they sent")),
    (roles.CREATE_WEBHOOK, mark("Make webhooks")),
    (roles.UPDATE_WEBHOOK, mark("Change webhooks and send again")),
    (roles.DELETE_WEBHOOK, mark("Remove webhooks")),
)
RIGHTS: Mapping[str, str] = dict((*COMMON_RIGHTS, *OTHER_RIGHTS))

OPERATIONS: Mapping[str, str] = {
    "create": mark("added"),
    "update": mark("changed"),
    "delete": mark("removed"),
    "push": mark("pushed"),
    "pull": mark("pulled"),
    "login": mark("logged in"),
    "logout": mark("logged out"),
    "refresh": mark("refreshed the secret of"),
    "expiring": mark("ends soon:"),
    "disable": mark("disabled"),
    "enable": mark("enabled"),
    "attach": mark("added a label to"),
    "detach": mark("removed a label from"),
    "export": mark("exported the data of"),
    "rename": mark("was renamed from"),
    "promote": mark("gave administrator rights to"),
    "demote": mark("removed administrator rights from"),
    "password": mark("changed the password of"),
    "refuse": mark("failed to log in as"),
    "reject": mark("was refused:"),
    "restore": mark("restored"),
    "run": mark("ran"),
    "stop": mark("stopped a run of"),
    "send": mark("sent an event again by"),
}
# Actors whose actions come from no request.
ACTORS: Mapping[str, str] = {
    COMMAND_LINE.subject: mark("the command line"),
    SERVICE.subject: mark("the registry itself"),
    UNIVERSITY.subject: mark("the university"),
}
RESOURCES: Mapping[str, str] = {
    "project": mark("project"),
    "repository": mark("repository"),
    "artifact": mark("artifact"),
    "tag": mark("tag"),
    "member": mark("member"),
    "robot": mark("robot account"),
    "label": mark("label"),
    "quota": mark("quota"),
    "access key": mark("access key"),
    "session": mark("session"),
    "account": mark("account"),
    "signing key": mark("signing key"),
    "university log-in": mark("university log-in"),
    "university logout": mark("university logout"),
    # The person's name follows, so a log-in needs no noun.
    "user": "",
    "blob": mark("blob"),
    "upload": mark("unfinished pushes of"),
    "immutability rule": mark("immutability rule"),
    "retention policy": mark("retention policy"),
    "bin": mark("from the bin:"),
    "webhook": mark("webhook"),
}

# How requests ended, as in `app.web.events`. One that succeeded is kept only if it was slow or filled the cache.
OUTCOMES: Mapping[str, str] = {
    "hit": mark("slow"),
    "stale": mark("slow"),
    "asked": mark("slow"),
    "done": mark("slow"),
    "filled": mark("filled the cache"),
    "followed": mark("waited for a download"),
    "challenged": mark("had to log in"),
    "absent": mark("not here"),
    "refused": mark("refused"),
    "failed": mark("failed"),
    "left": mark("left"),
}
# Where the time of a request went.
PHASES: Mapping[str, str] = {
    "queue": mark("waiting for its turn"),
    "auth": mark("checking who calls"),
    "db": mark("database"),
    "upstream": mark("upstream"),
    "store": mark("store"),
    "answer": mark("until the answer began"),
}
