"""Upstreams, which Harbor calls registries: set in the configuration, read-only here.

A client names an upstream by its number. Configuration has names only, so the number is made from the name: it stays
the same whatever other upstreams come and go.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from app.access.errors import Invalid, Missing
from app.config import UpstreamConfig

from .handler import ApiHandler

Upstreams = Mapping[str, UpstreamConfig]


def number_of(name: str) -> int:
    """Give an upstream's number."""
    return zlib.crc32(name.encode()) or 1


def name_of(number: int, upstreams: Upstreams) -> str:
    """Find an upstream by its number; raises Invalid."""
    for name in upstreams:
        if number_of(name) == number:
            return name
    known = ", ".join(f"{number_of(name)} ({name})" for name in sorted(upstreams))
    raise Invalid("there is no upstream %(number)s; there are %(known)s", number=number, known=known or "none")


def registry(name: str, upstream: UpstreamConfig) -> dict[str, Any]:
    """Spell an upstream; never what it is logged in to with."""
    kind = "docker-hub" if name == "docker.io" else "docker-registry"
    return {"id": number_of(name), "name": name, "url": upstream.url, "type": kind, "insecure": False}


class RegistriesHandler(ApiHandler):
    async def get(self) -> None:
        wanted = self.text("name") or self.query["name"] or ""
        names = sorted((name for name in self.services.upstreams if wanted in name), reverse=self.sort == "-name")
        here = names[self.offset : self.offset + self.limit]
        self.answer_page([registry(name, self.services.upstreams[name]) for name in here], len(names))


class RegistryHandler(ApiHandler):
    async def get(self, id: int) -> None:  # noqa: A002  # the document's name of it
        for name, upstream in self.services.upstreams.items():
            if number_of(name) == id:
                self.answer(registry(name, upstream))
                return
        raise Missing("there is no upstream %(id)s", id=id)
