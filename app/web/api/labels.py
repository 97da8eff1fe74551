"""Serve the labels of projects and of the system; everybody may read the system's labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.access.errors import Invalid
from app.database import labels
from app.database.labels import Label

from .handler import ApiHandler, Place
from .shapes import moment


def label(row: Label) -> dict[str, Any]:
    """Return a label in Harbor's form."""
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "color": row.color,
        "scope": "g" if row.project_id is None else "p",
        "project_id": row.project_id or 0,
        "creation_time": moment(row.created_at),
    }


class LabelsHandler(ApiHandler):
    async def place(self, path: Mapping[str, Any]) -> Place:
        given = self.query if self.body is None else self.body
        scope, number = given.get("scope") or "g", given.get("project_id") or None
        if (scope == "p") != (number is not None):
            raise Invalid("scope p needs a project_id; scope g must not have one")
        return Place(number, system_needs="nothing" if self.body is None else "admin")

    @property
    def project_id(self) -> int | None:
        view = getattr(self, "view", None)
        return None if view is None else view.id

    async def get(self) -> None:
        exact = self.exactly("name")
        if exact is not None:
            found = await self.services.database.read(labels.named, self.project_id, exact)
            self.answer_whole([] if found is None else [label(found)])
            return
        page = self.page(self.text("name") or self.query["name"] or "")
        rows = await self.services.database.read(labels.page, self.project_id, page)
        total = await self.services.database.read(labels.total, self.project_id, page.search)
        self.answer_page([label(row) for row in rows], total)

    async def post(self) -> None:
        said = {field: self.body[field] for field in ("description", "color") if self.body.get(field)}
        row = await self.services.labels.create(self.project_id, name=self.body["name"], **said)
        self.note("create", "label", row.name)
        self.created(f"/labels/{row.id}")


class LabelHandler(ApiHandler):
    label: Label

    async def place(self, path: Mapping[str, Any]) -> Place:
        self.label = await self.services.labels.find(path["label_id"])
        system_needs = "nothing" if self.method == "GET" else "admin"
        return Place(self.label.project_id, otherwise="there is no such label here", system_needs=system_needs)

    async def get(self, label_id: int) -> None:
        self.answer(label(self.label))

    async def put(self, label_id: int) -> None:
        row = await self.services.labels.update(
            label_id,
            name=self.body.get("name"),
            description=self.body.get("description"),
            color=self.body.get("color"),
        )
        self.note("update", "label", row.name)

    async def delete(self, label_id: int) -> None:
        await self.services.labels.remove(label_id)
        self.note("delete", "label", self.label.name)
