"""What the pages are made from, given to them once, where the application is put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.access.access_keys import AccessKeys
from app.access.people import People
from app.access.robots import Robots
from app.access.sessions import Sessions
from app.config import Access, Policy, UpstreamConfig
from app.mirror.status import MirrorStatus
from app.projects.audit import Audit
from app.projects.labels import Labels
from app.projects.members import Members
from app.projects.quotas import Quotas
from app.projects.service import Projects
from app.registry.artifacts import Artifacts
from app.registry.repositories import Repositories
from app.web.access_control import AccessControl
from app.web.observe import Observer
from app.web.ops import Check
from app.web.session import BrowserSessions

from .addresses import AddressBook


@dataclass(frozen=True)
class Services:
    """Everything behind the pages.

    ``external_url`` is what people see in their browsers' address bar; ``mirrors`` names each configured mirror project
    by its upstream; ``mirror_hosts`` are host names that are a mirror at their root, the first of them shown in
    set-up snippets. ``checks`` are the parts' of /readyz.
    """

    external_url: str
    saml: bool
    mirrors: Mapping[str, str]
    mirror_hosts: tuple[str, ...]
    policy: Policy
    access: Access
    observer: Observer
    access_control: AccessControl
    browsers: BrowserSessions
    sessions: Sessions
    people: People
    projects: Projects
    members: Members
    quotas: Quotas
    labels: Labels
    repositories: Repositories
    artifacts: Artifacts
    robots: Robots
    access_keys: AccessKeys
    audit: Audit
    mirror: MirrorStatus
    upstreams: Mapping[str, UpstreamConfig]
    checks: Mapping[str, Check]

    @property
    def host(self) -> str:
        """What stands before a repository's name."""
        return self.external_url.partition("://")[2].rstrip("/")

    @property
    def secure(self) -> bool:
        return self.external_url.startswith("https://")

    @property
    def book(self) -> AddressBook:
        return AddressBook(self.host, self.mirrors)
