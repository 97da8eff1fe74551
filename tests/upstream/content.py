"""What the upstream has: repositories with their tags and manifests, and the blobs they hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Repository:
    """``readers`` are the accounts that may pull; None: everyone."""

    readers: frozenset[str] | None = None
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)

    def find(self, reference: str) -> tuple[str, str, bytes] | None:
        """Give digest, media type and payload of a tag or digest; None where it names nothing here."""
        digest = self.tags.get(reference, reference)
        return (digest, *self.manifests[digest]) if digest in self.manifests else None

    def referrers(self, subject: str) -> list[dict[str, Any]]:
        """List the descriptors of the manifests that name ``subject``, by digest."""
        found = []
        for digest, (media_type, payload) in sorted(self.manifests.items()):
            document = json.loads(payload)
            if document.get("subject", {}).get("digest") == subject:
                descriptor = {"mediaType": media_type, "digest": digest, "size": len(payload)}
                descriptor["artifactType"] = document.get("artifactType") or document["config"]["mediaType"]
                found.append(descriptor | {"annotations": document.get("annotations", {})})
        return found


class Content:
    def __init__(self) -> None:
        self.referrers_api = True
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}

    def add(
        self,
        name: str,
        manifests: Mapping[str, tuple[str, bytes]],
        blobs: Iterable[str],
        tags: Mapping[str, str],
        readers: Iterable[str] | None,
    ) -> None:
        """Put an image under a name; raises ValueError for a blob that is not yet here."""
        if missing := set(blobs) - self.blobs.keys():
            raise ValueError(f"blobs were not sent first: {sorted(missing)}")
        repository = self.repositories.setdefault(name, Repository())
        repository.readers = None if readers is None else frozenset(readers)
        repository.manifests.update(manifests)
        repository.blobs.update(blobs)
        repository.tags.update(tags)

    def remove(self, name: str, reference: str | None) -> None:
        """Remove a tag, or a manifest with its tags, or (None) the repository; raises KeyError where it is not."""
        if reference is None:
            del self.repositories[name]
            return
        repository = self.repositories[name]
        if ":" not in reference:
            del repository.tags[reference]
            return
        del repository.manifests[reference]
        repository.tags = {tag: digest for tag, digest in repository.tags.items() if digest != reference}

    def may_pull(self, name: str, user: str | None) -> bool:
        """Say whether ``user`` (None: anonymous) may pull; a name that is not here looks like a private one."""
        repository = self.repositories.get(name)
        return repository is not None and (repository.readers is None or user in repository.readers)
