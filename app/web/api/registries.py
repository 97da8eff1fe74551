"""List the upstreams, which Harbor calls registries; they are set in the configuration and read-only here.

A client names an upstream by a number, and the configuration has names only. The number is the CRC-32 of the name. So
no table keeps it, it outlives every change of the configuration, and a project has it even if its upstream is gone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from app.access.errors import Invalid, Missing
from app.config import UpstreamConfig

from .handler import ApiHandler


def number_of(name: str) -> int:
    """Return an upstream's number."""
    return zlib.crc32(name.encode())


def find(number: int, names: Iterable[str]) -> str | None:
    """Return the name of the upstream with a number, None if there is none."""
    return next((name for name in names if number_of(name) == number), None)


def chosen(number: int, names: Iterable[str]) -> str:
    """Return the upstream that a body names by its number; raises Invalid."""
    name = find(number, names)
    if name is None:
        known = ", ".join(f"{number_of(name)} ({name})" for name in sorted(names))
        raise Invalid(
            "there is no upstream with the number %(number)s; known upstreams are %(known)s",
            number=number,
            known=known or "none",
        )
    return name


def registry(name: str, upstream: UpstreamConfig) -> dict[str, Any]:
    """Return an upstream in Harbor's form, without its credential."""
    kind = "docker-hub" if name == "docker.io" else "docker-registry"
    return {"id": number_of(name), "name": name, "url": upstream.url, "type": kind, "insecure": False}


class RegistriesHandler(ApiHandler):
    async def get(self) -> None:
        exact, part = self.exactly("name"), self.text("name") or self.query["name"] or ""
        found = [
            registry(name, upstream)
            for name, upstream in sorted(self.services.upstreams.items())
            if name == exact or (exact is None and part in name)
        ]
        for field, descending in reversed(self.sort):
            found.sort(key=itemgetter(field), reverse=descending)
        self.answer_whole(found)


class RegistryHandler(ApiHandler):
    async def get(self, id: int) -> None:  # noqa: A002  # the document's name of it
        name = find(id, self.services.upstreams)
        if name is None:
            raise Missing("there is no upstream %(id)s", id=id)
        self.answer(registry(name, self.services.upstreams[name]))
