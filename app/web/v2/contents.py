"""Choose the content behind a repository by the kind of its project, for everything that is pulled."""

from __future__ import annotations

from collections.abc import Mapping

from app.oci.errors import Unavailable
from app.projects.service import Repository
from app.registry.content import Content


class Contents:
    """Hosting, and a mirror per upstream."""

    def __init__(self, hosted: Content, mirrors: Mapping[str, Content]) -> None:
        self._hosted = hosted
        self._mirrors = mirrors

    def of(self, repository: Repository) -> Content:
        """Choose the content; raises Unavailable where the project's upstream is no longer configured."""
        if repository.upstream is None:
            return self._hosted
        try:
            return self._mirrors[repository.upstream]
        except KeyError:
            raise Unavailable(
                "upstream %(upstream)r is not configured any more; tell the operators", upstream=repository.upstream
            ) from None
