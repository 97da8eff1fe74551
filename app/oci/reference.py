"""Parse names, tags and references.

Source: OCI distribution-spec, "Pulling manifests": the grammars of ``<name>`` and ``<tag-or-digest>``.
"""

from __future__ import annotations

import re

from .digest import Digest
from .errors import ManifestInvalid, NameInvalid

_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_PLAIN_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*\Z")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")

# Clients limit HOST/NAME to 255 characters, so nobody could push a longer name.
MAX_NAME = 255


class Name(str):
    """A repository's full name, ``project/repository``; the first component is the project's name."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Name:
        """Return ``text`` as a name; raises NameInvalid if it does not fit the grammar."""
        if len(text) > MAX_NAME or not _NAME.match(text):
            raise NameInvalid(
                "%(text)r is not a repository name; use only lower-case letters, digits and . _ - /, "
                "at most %(most)s characters",
                text=text[:80],
                most=MAX_NAME,
            )
        return cls(text)

    @property
    def project(self) -> str:
        return self.partition("/")[0]

    @property
    def repository(self) -> str:
        """Return the name within its project; empty if the full name has one component only."""
        return self.partition("/")[2]


def is_plain_name(text: str) -> bool:
    """Return whether a project or a robot account can have this name: Harbor's grammar, a part of a name's."""
    return bool(_PLAIN_NAME.match(text))


class Tag(str):
    """A tag that passed the grammar."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Tag:
        """Return ``text`` as a tag; raises ManifestInvalid, because the specification has no code for tags."""
        if not _TAG.match(text):
            raise ManifestInvalid(
                "%(text)r is not a tag; use only letters, digits and . _ -, at most 128 characters", text=text[:140]
            )
        return cls(text)


def is_tag(text: str) -> bool:
    """Return whether a tag can be spelled like this."""
    return bool(_TAG.match(text))


Reference = Tag | Digest


def spelled(name: str, reference: str) -> str:
    """Return the address of a tag or a digest in a repository, without the host."""
    return f"{name}{'@' if ':' in reference else ':'}{reference}"


def parse_reference(text: str) -> Reference:
    """Return a digest if ``text`` has a colon, which no tag has, else a tag; raises DigestInvalid, ManifestInvalid."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)
