"""List the tags and the referrers of a mirror: those of its upstream, merged with what is here.

A tag that was removed upstream is here until somebody asks for it. If the upstream cannot be asked and its list is not
known, what is here is listed with a Warning. If nothing is here, the failure is the answer, because an empty list would
mean "unsigned" to a verifier.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from cachetools import LRUCache

from app.oci.digest import Digest
from app.oci.errors import ManifestUnknown, NameUnknown, OCIError, TooManyRequests, Unsupported, UpstreamInvalid
from app.oci.reference import Tag
from app.projects.service import Repository
from app.registry.content import Client, Descriptor, HostedContent, Listed, ManifestAnswer

from . import replies
from .answers import NotCached, UpstreamDown
from .upstream_lists import Known, UpstreamList, UpstreamLists, descriptor_of, referrer_entries

T = TypeVar("T")
Fetch = Callable[[Repository, Tag, Client], Awaitable[ManifestAnswer]]

# These errors say nothing about the list itself.
_FAILURES = (UpstreamDown, UpstreamInvalid, TooManyRequests, Unsupported, NotCached)
# Parsed fallback tags that a worker holds.
_HELD_BYTES = 8 * 1024 * 1024


class MirrorListings:
    """Lists what one upstream's mirrors have; ``fetch`` returns the manifest of a tag, as a client's pull would."""

    def __init__(self, upstream: str, hosted: HostedContent, lists: UpstreamLists, fetch: Fetch) -> None:
        self._upstream = upstream
        self._hosted = hosted
        self._lists = lists
        self._fetch = fetch
        self._held: LRUCache[Digest, UpstreamList] = LRUCache(_HELD_BYTES, UpstreamList.size)

    async def tags(self, repository: Repository, after: str, limit: int, client: Client) -> Listed[str]:
        """List tags as `Content.tags` does; raises any failure of the upstream if no tag is here."""
        here: Listed[str] = Listed((), more=False)
        if repository.id is not None:
            here = await self._hosted.tags(repository, after, limit, client)
        try:
            known = await self._lists.tags(repository, client)
        except _FAILURES as error:
            return self._only(repository, here, error)
        if known.found.absent and repository.id is None:
            raise NameUnknown(
                "%(upstream)s has no %(repository)s", upstream=self._upstream, repository=repository.name.repository
            )
        theirs = list(islice(known.found.after(after), limit + 1))
        return _merged(here, Listed(theirs[:limit], len(theirs) > limit, known.warning), limit, str)

    async def referrers(
        self,
        repository: Repository,
        subject: Digest,
        artifact_type: str | None,
        after: str,
        limit: int,
        client: Client,
    ) -> Listed[Descriptor]:
        """List referrers as `Content.referrers` does; raises any failure of the upstream if none is here."""
        here = await self._hosted.referrers(repository, subject, artifact_type, after, limit, client)
        try:
            known = await self._lists.referrers(repository, subject, client)
            if known.found.absent:
                known = await self._fallback(repository, subject, client)
        except _FAILURES as error:
            return self._only(repository, here, error)
        every = map(descriptor_of, known.found.after(after))
        wanted = (item for item in every if artifact_type is None or item.get("artifactType") == artifact_type)
        theirs = list(islice(wanted, limit + 1))
        return _merged(here, Listed(theirs[:limit], len(theirs) > limit, known.warning), limit, _digest)

    async def _fallback(self, repository: Repository, subject: Digest, client: Client) -> Known:
        """Return the referrers that clients record in a tag if a registry lacks the API.

        Source: distribution-spec, "Referrers Tag Schema". The tag is an index, and is resolved as any other.
        """
        tag = Tag(f"{subject.algorithm[:32]}-{subject.hex[:64]}")
        try:
            answer = await self._fetch(repository, tag, client)
        except (ManifestUnknown, NameUnknown) as error:
            # An upstream that is down may look like a missing tag to people who pull it. A verifier must know.
            if isinstance(error.__cause__, UpstreamDown):
                raise error.__cause__ from None
            return Known(UpstreamList([], 0.0))
        if answer.digest == subject:
            # registry.gitlab.com takes such a tag for the digest, and no manifest can list its own referrers.
            return Known(UpstreamList([], 0.0))
        found = self._held.get(answer.digest)
        if found is None:
            entries = _entries_of(answer.payload or b"")
            if entries is None:
                raise UpstreamInvalid("%(upstream)s answered with a list that cannot be used", upstream=self._upstream)
            found = UpstreamList(sorted(entries), 0.0)
            if found.size() <= _HELD_BYTES:
                self._held[answer.digest] = found
        return Known(found, answer.warning)

    def _only(self, repository: Repository, here: Listed[T], error: OCIError) -> Listed[T]:
        """Return what is here, with a Warning; raises ``error`` if nothing is."""
        if not here.entries:
            raise error
        reason = f"this list of {repository.name} may be incomplete: {self._upstream} cannot be asked now"
        return replace(here, warning=reason)


def _entries_of(payload: bytes) -> list[str] | None:
    document = replies.json_object(payload)
    return None if document is None else referrer_entries(document)


def _digest(descriptor: Descriptor) -> str:
    return str(descriptor["digest"])


def _merged(here: Listed[T], theirs: Listed[T], limit: int, key: Callable[[T], str]) -> Listed[T]:
    """Return the page of both lists together. Of two entries with the same key, the upstream's is listed."""
    by_key = {key(entry): entry for entry in (*here.entries, *theirs.entries)}
    keys = sorted(by_key)
    for page in (here, theirs):
        if page.more and page.entries:
            # Entries past the end of this page may belong after some of its next page.
            last = key(page.entries[-1])
            keys = [found for found in keys if found <= last]
    shown = keys[:limit]
    more = here.more or theirs.more or len(shown) < len(by_key)
    entries: Sequence[T] = [by_key[found] for found in shown]
    return Listed(entries, more, theirs.warning)
