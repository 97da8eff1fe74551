"""The pages of a person's account: their projects, access keys and browser sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.access import roles
from app.access.errors import Missing
from app.access.grants import EVERYWHERE
from app.access.notices import NOTICE_SECONDS
from app.database import access_keys, accounts
from app.database.keyset import Page
from app.database.projects import Filter
from app.oci.errors import OCIError

from . import words
from .base import PageHandler
from .robots import days_of
from .secret import show_secret

_MOST_PROJECTS = 200
# The latest ones; each takes about a kilobyte of the page.
_MOST_SESSIONS = 50


class Mine(PageHandler):
    """A page of the logged-in person."""

    needs = "person"
    section = "mine"

    @property
    def account(self) -> int:
        assert self.principal.id is not None  # noqa: S101 - for the types; the word "person" admits nobody else
        return self.principal.id

    async def show_mine(self, template: str, **values: object) -> None:
        """Render one of these pages, with a warning on top for each access key that expires soon."""
        keys, now = await self.services.database.read(access_keys.of_account, self.account), self.now
        ending = [key for key in keys if key.expires_at and 0 < key.expires_at - now < NOTICE_SECONDS]
        self.show(template, keys=keys, ending=ending, **values)


class MinePage(Mine):
    needs = "person"

    async def get(self) -> None:
        found = await self.services.projects.page(self.principal, Page(12), Filter(mine=True))
        await self.show_mine(
            "mine.html",
            tab="mine",
            person=await self.or_missing(self.services.database.read(accounts.person, self.account)),
            projects=found,
            total=(await self.services.projects.total(self.principal, wanted=Filter(mine=True))).number,
            role_names=words.ROLES,
        )


class SessionsPage(Mine):
    needs = "person"

    async def get(self) -> None:
        sessions = await self.services.sessions.list_of(self.account, self.principal.generation)
        await self.show_mine(
            "sessions.html",
            tab="sessions",
            sessions=sessions[:_MOST_SESSIONS],
            more=max(0, len(sessions) - _MOST_SESSIONS),
            own=self.session.id if self.session else "",
        )


class RevokeSessionPage(Mine):
    needs = "person"

    async def post(self) -> None:
        async def revoke() -> None:
            session = self.field("session")
            if not await self.services.sessions.revoke(self.account, session):
                raise Missing("That session has ended already.")
            self.note("delete", "session", session[:8])

        await self.settle(revoke(), self._("That browser is logged out."), "/mine/sessions")


class KeysPage(Mine):
    """The person's access keys. A form sent here creates one and shows its secret once."""

    needs = "person"

    async def get(self) -> None:
        await self._list({"days": str(min(90, self.services.access.most_key_days))}, [roles.PULL, roles.PUSH], "")

    async def post(self) -> None:
        rights = self.get_body_arguments("right")
        try:
            scope = await self._scope()
            key, secret = await self.services.access_keys.create(
                self.account, name=self.field("name"), permissions={scope: rights}, days=days_of(self)
            )
        except OCIError as error:
            await self._list(
                {name: self.field(name) for name in ("name", "days", "scope")}, rights, self.mistake(error)
            )
            return
        self.note("create", "access key", key.name)
        show_secret(self, self.principal.name, secret, "/mine/keys", expires_at=key.expires_at)

    async def _scope(self) -> str:
        chosen = self.field("scope", EVERYWHERE)
        if chosen == EVERYWHERE:
            return chosen
        project_id = self.chosen("scope")
        # A person cannot name a project that they may not see.
        await self.services.access_control.open(self.principal, project_id, roles.READ_PROJECT)
        return str(project_id)

    async def _list(self, values: Mapping[str, str], chosen: Sequence[str], error: str) -> None:
        projects = await self.services.projects.page(self.principal, Page(_MOST_PROJECTS), Filter(mine=True))
        await self.show_mine(
            "keys.html",
            tab="keys",
            projects=projects,
            names={str(entry.project.id): entry.project.name for entry in projects},
            values=values,
            chosen=set(chosen),
            error=error,
            most=self.services.access.most_key_days,
            absent=self.services.access.absent_days,
            common=words.COMMON_RIGHTS,
            others=words.OTHER_RIGHTS,
            right_names=words.RIGHTS,
        )


class DeleteKeyPage(Mine):
    needs = "person"

    async def post(self) -> None:
        async def remove() -> None:
            key = await self.services.access_keys.remove(self.account, self.chosen("key"))
            self.note("delete", "access key", key.name)

        await self.settle(remove(), self._("The access key is deleted and no longer works."), "/mine/keys")
