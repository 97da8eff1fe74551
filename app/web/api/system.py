"""Describe the whole system: its health, configuration, size and document; search projects and repositories."""

from __future__ import annotations

import shutil
import time
from typing import Never

from app.access.errors import Missing
from app.database.keyset import Page
from app.kit.threads import in_thread
from app.projects.condition import OK, run_checks

from .document import document
from .handler import ApiHandler
from .projects import project
from .shapes import NO_END, moment, some

# The version of Harbor's API that this API follows.
_HARBOR = "v2.16.0"
_MOST_FOUND = 25


class PingHandler(ApiHandler):
    async def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        await self.finish("Pong")


class HealthHandler(ApiHandler):
    async def get(self) -> None:
        checks = {**self.services.required, **self.services.optional}
        said = await run_checks(checks)
        components = [
            some(name=name, status=_status(words == OK), error=None if words == OK else words)
            for name, words in said.items()
        ]
        healthy = all(said[name] == OK for name in self.services.required)
        self.answer({"status": _status(healthy), "components": components})


class SystemInfoHandler(ApiHandler):
    async def get(self) -> None:
        url = self.services.external_url
        self.answer(
            {
                "auth_mode": _auth_mode(saml=self.services.saml),
                "primary_auth_mode": self.services.saml,
                "current_time": moment(time.time()),
                "external_url": url,
                "registry_url": url.partition("://")[2],
                "harbor_version": _HARBOR,
                "project_creation_restriction": "everyone",
                "self_registration": False,
                "has_ca_root": False,
                "read_only": False,
                "notification_enable": False,
                "banner_message": "",
            }
        )


class ConfigurationsHandler(ApiHandler):
    async def get(self) -> None:
        services = self.services
        quota = services.policy.default_quota
        values = {
            "auth_mode": _auth_mode(saml=services.saml),
            "primary_auth_mode": services.saml,
            "banner_message": "",
            "project_creation_restriction": "everyone",
            "quota_per_project_enable": True,
            "read_only": False,
            "robot_name_prefix": services.access.robot_prefix,
            "robot_token_duration": services.access.robot_days,
            "self_registration": False,
            "storage_per_project": NO_END if quota is None else quota,
        }
        self.answer({name: {"value": value, "editable": False} for name, value in values.items()})


class VolumesHandler(ApiHandler):
    async def get(self) -> None:
        volume = self.services.volume
        volumes = [] if volume is None else [await in_thread(None, shutil.disk_usage, volume)]
        self.answer({"storage": [{"total": usage.total, "free": usage.free} for usage in volumes]})


class StatisticsHandler(ApiHandler):
    async def get(self) -> None:
        found = await self.services.census.statistics(self.principal)
        self.answer(
            some(
                private_project_count=found.private_projects,
                private_repo_count=found.private_repositories,
                public_project_count=found.public_projects,
                public_repo_count=found.public_repositories,
                total_project_count=found.private_projects + found.public_projects,
                total_repo_count=found.private_repositories + found.public_repositories,
                total_storage_consumption=found.used_bytes,
            )
        )


class SearchHandler(ApiHandler):
    async def get(self) -> None:
        page: Page[Never] = Page(_MOST_FOUND, search=self.query["q"])
        entries = await self.services.projects.page(self.principal, page)
        found = await self.services.repositories.search(self.principal, page)
        public = {number: await self._is_public(number) for number in {one.project_id for one in found}}
        self.answer(
            {
                "project": [project(entry, togglable=False) for entry in entries],
                "repository": [
                    {
                        "project_id": one.project_id,
                        "project_name": one.project,
                        "project_public": public[one.project_id],
                        "repository_name": one.full_name,
                        "pull_count": one.pulls,
                        "artifact_count": one.artifacts,
                    }
                    for one in found
                ],
            }
        )

    async def _is_public(self, project_id: int) -> bool:
        try:
            return (await self.services.projects.get(project_id)).public
        except Missing:
            # The project was deleted after the search found it.
            return False


class DocumentJsonHandler(ApiHandler):
    async def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        await self.finish(document().json)


class DocumentYamlHandler(ApiHandler):
    async def get(self) -> None:
        self.set_header("Content-Type", "application/yaml")
        await self.finish(document().yaml)


def _auth_mode(*, saml: bool) -> str:
    return "saml_auth" if saml else "db_auth"


def _status(good: bool) -> str:
    return "healthy" if good else "unhealthy"
