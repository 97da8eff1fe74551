"""The bin: what was deleted in a project and can be restored, and the deleted projects."""

from __future__ import annotations

from app.access import roles
from app.database.binned import DeletedProject, Entry
from app.database.keyset import Entries, Page

from .base import PageHandler
from .mine import Mine


class BinPage(PageHandler):
    """The deleted artifacts and repositories of a project."""

    needs = roles.RESTORE_DELETED
    section = "projects"

    async def get(self, project: str) -> None:
        async def ask(page: Page[str]) -> Entries[Entry]:
            return await self.services.bin.page(self.opened.id, page)

        self.show(
            "bin.html",
            tab="bin",
            listing=await self.listing(ask, lambda row: row.key, self.query("q")),
            search=self.query("q"),
            charged=await self.services.bin.charged(self.opened.id),
            bin=self.services.bin,
            base=f"/projects/{project}",
        )


class OnBin(PageHandler):
    """The action of a form on the bin of a project."""

    section = "projects"

    def at(self, project: str) -> str:
        return f"/projects/{project}/bin"


class RestorePage(OnBin):
    """Restores something; the message names the tags that are in use again."""

    needs = roles.RESTORE_DELETED

    async def post(self, project: str) -> None:
        said: list[str] = []

        async def restore() -> None:
            entry, name = self.chosen("entry"), self.field("name") or None
            restored = await self.services.bin.restore(self.opened.id, entry, self.principal.subject, name)
            self.note("restore", restored.kind, f"{self.opened.name}/{restored.name}")
            said.append(self._("%(name)s is restored.") % {"name": restored.repository})
            if restored.taken:
                tags = ", ".join(restored.taken[:20])
                said.append(
                    self._("These tags name something else by now and were left there: %(tags)s") % {"tags": tags}
                )

        await self.settle_with(restore(), said, self.at(project))


class DeleteForGoodPage(OnBin):
    needs = roles.DELETE_FOR_GOOD

    async def post(self, project: str) -> None:
        async def delete() -> None:
            deleted = await self.services.bin.delete(self.opened.id, self.chosen("entry"))
            self.note("delete", "bin", f"{self.opened.name}/{deleted.name}")

        await self.settle(delete(), self._("It is deleted for good."), self.at(project))


class EmptyBinPage(OnBin):
    needs = roles.DELETE_FOR_GOOD

    async def post(self, project: str) -> None:
        async def empty() -> None:
            count = await self.services.bin.empty(self.opened.id)
            self.note("delete", "bin", f"{self.opened.name}: {count}")

        await self.settle(empty(), self._("The bin is empty."), self.returning(self.at(project)))


class DeletedProjectsPage(Mine):
    """The deleted projects that the visitor may restore: those they administered; all for an administrator."""

    needs = "person"

    async def get(self) -> None:
        async def ask(page: Page[str]) -> Entries[DeletedProject]:
            return await self.services.bin.projects(self.principal, page)

        await self.show_mine(
            "deleted-projects.html",
            tab="deleted",
            listing=await self.listing(ask, lambda row: row.key, self.query("q")),
            search=self.query("q"),
            bin=self.services.bin,
        )


class RestoreProjectPage(Mine):
    needs = "person"

    async def post(self) -> None:
        said: list[str] = []

        async def restore() -> None:
            restored = await self.services.bin.restore_project(
                self.principal, self.chosen("project"), self.field("name") or None
            )
            self.note("restore", "project", restored.name, (restored.id, restored.name))
            said.append(self._("%(name)s is restored.") % {"name": restored.name})
            if restored.taken:
                names = ", ".join(restored.taken[:20])
                said.append(
                    self._("These robot accounts were left out, because their names are in use again: %(names)s")
                    % {"names": names}
                )

        await self.settle_with(restore(), said, "/mine/deleted")


class DeleteProjectForGoodPage(Mine):
    needs = "person"

    async def post(self) -> None:
        async def delete() -> None:
            deleted = await self.services.bin.delete_project(self.principal, self.chosen("project"))
            self.note("delete", "bin", deleted.name, (deleted.id, deleted.name))

        await self.settle(delete(), self._("It is deleted for good."), "/mine/deleted")
