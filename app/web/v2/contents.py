"""Choose the content behind a repository: the hosted one, or the mirror of its project's upstream."""

from __future__ import annotations

from collections.abc import Mapping

from app.oci.errors import Unavailable
from app.projects.service import Repository
from app.registry.content import Content


class Contents:
    """Holds the hosted content, and one mirror per upstream."""

    def __init__(self, hosted: Content, mirrors: Mapping[str, Content]) -> None:
        self._hosted = hosted
        self._mirrors = mirrors

    def of(self, repository: Repository) -> Content:
        """Return the content; raises Unavailable if the project's upstream is no longer configured."""
        if repository.upstream is None:
            return self._hosted
        try:
            return self._mirrors[repository.upstream]
        except KeyError:
            raise Unavailable(
                "upstream %(upstream)r is no longer configured; tell the operators", upstream=repository.upstream
            ) from None
