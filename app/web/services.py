"""The services that each handler of the pages and the REST API gets; `app.main` makes this object once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.access.access_keys import AccessKeys
from app.access.accounts import Accounts
from app.access.computations import Computations
from app.access.credentials import Credentials
from app.access.people import People
from app.access.robots import Robots
from app.access.sessions import Sessions
from app.config import Access, Policy, UpstreamConfig
from app.database import Database
from app.mirror.status import MirrorStatus
from app.plans.pins import Pins
from app.plans.service import Plans
from app.plans.waiting import WaitingRoom
from app.projects.audit import Audit
from app.projects.census import Census
from app.projects.condition import Check, Condition
from app.projects.immutability import Immutability
from app.projects.labels import Labels
from app.projects.members import Members
from app.projects.quotas import Quotas
from app.projects.requests import Requests
from app.projects.retention import Retentions
from app.projects.service import Projects
from app.registry.artifacts import Artifacts
from app.registry.bin import Bin
from app.registry.charts import Charts
from app.registry.repositories import Repositories
from app.registry.tags import Tags
from app.webhooks.service import Webhooks

from .access_control import AccessControl
from .observe import Observer
from .session import BrowserSessions


@dataclass(frozen=True)
class Services:
    """Everything behind the pages and the REST API.

    ``external_url`` is the address that people see in their browsers. ``mails``: notices are sent by mail, too.
    ``volume`` is the folder with the blobs, None for an object store. ``mirrors`` names each configured mirror project
    by its upstream. ``mirror_hosts`` are the host names that serve a mirror at their root; set-up snippets show the
    first of them. ``required`` and ``optional`` are the checks of the parts, as /readyz runs them.
    """

    external_url: str
    saml: bool
    mails: bool
    volume: Path | None
    mirrors: Mapping[str, str]
    mirror_hosts: tuple[str, ...]
    policy: Policy
    access: Access
    observer: Observer
    access_control: AccessControl
    computations: Computations
    browsers: BrowserSessions
    credentials: Credentials
    database: Database
    sessions: Sessions
    accounts: Accounts
    people: People
    plans: Plans
    pins: Pins
    waiting_room: WaitingRoom
    projects: Projects
    census: Census
    members: Members
    quotas: Quotas
    labels: Labels
    immutability: Immutability
    retentions: Retentions
    webhooks: Webhooks
    bin: Bin
    repositories: Repositories
    artifacts: Artifacts
    charts: Charts
    tags: Tags
    robots: Robots
    access_keys: AccessKeys
    audit: Audit
    requests: Requests
    condition: Condition
    mirror: MirrorStatus
    upstreams: Mapping[str, UpstreamConfig]
    required: Mapping[str, Check]
    optional: Mapping[str, Check]

    @property
    def host(self) -> str:
        """Return the host, and the port if there is one, that a repository's full name begins with."""
        return self.external_url.partition("://")[2].rstrip("/")
