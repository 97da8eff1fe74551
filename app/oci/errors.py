"""One exception per error code of the distribution specification; each holds its whole answer.

Source: OCI distribution-spec, "Error Codes" (code-1 … code-14). The codes ``UNAVAILABLE`` and ``UNKNOWN`` come from
the Docker registry protocol; clients know them for 5xx answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import ClassVar


class Term(str):
    """An argument of an error's text that is our own word; pages translate it along with the text."""

    __slots__ = ()


class OCIError(Exception):
    """An answer of the distribution API that is not a success.

    People at a terminal read ``message``: it says what is wrong and what to do next. It is a constant ``template``
    filled with the ``arguments`` for its ``%(name)s``. So pages can show it in their readers' language. ``headers``
    are sent with the answer (``Retry-After``, ``WWW-Authenticate``). ``cause`` is a word for operators, if one code has
    several causes (`app.projects.explanations`).
    """

    code: ClassVar[str] = "UNKNOWN"
    cause: str = ""
    status: ClassVar[int] = 500
    text: ClassVar[str] = "something went wrong in the registry"

    def __init__(
        self,
        template: str | None = None,
        *,
        detail: object = None,
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
        **arguments: object,
    ) -> None:
        self.template = template or self.text
        self.arguments = arguments
        self.message = self.fill(self.template)
        super().__init__(self.message)
        self.detail = detail
        self.headers = dict(headers or {})
        self.answer_status = status or self.status

    def fill(self, template: str, term: Callable[[str], str] = str) -> str:
        """Return a template, or its translation, filled with the arguments; ``term`` translates each `Term`."""
        if not self.arguments:
            return template
        return template % {
            name: term(value) if isinstance(value, Term) else value for name, value in self.arguments.items()
        }

    def body(self) -> bytes:
        """Return the specification's JSON for this one error, in UTF-8."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.detail is not None:
            error["detail"] = self.detail
        # A client's JSON may hold half a surrogate pair. UTF-8 cannot carry it, so it is sent as the same escape.
        return json.dumps({"errors": [error]}, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


class BlobUnknown(OCIError):
    code, status, text = "BLOB_UNKNOWN", 404, "blob unknown to registry"


class BlobUploadInvalid(OCIError):
    code, status, text = "BLOB_UPLOAD_INVALID", 400, "blob upload invalid"


class RangeInvalid(OCIError):
    """A chunk is out of order, or a range lies outside the blob."""

    code, status, text = "BLOB_UPLOAD_INVALID", 416, "requested range not satisfiable"


class BlobUploadUnknown(OCIError):
    code, status, text = "BLOB_UPLOAD_UNKNOWN", 404, "blob upload unknown to registry"


class DigestInvalid(OCIError):
    code, status, text = "DIGEST_INVALID", 400, "provided digest did not match uploaded content"


class ManifestBlobUnknown(OCIError):
    code, status, text = (
        "MANIFEST_BLOB_UNKNOWN",
        404,
        "manifest references a manifest or blob unknown to this repository",
    )


class ManifestInvalid(OCIError):
    code, status, text = "MANIFEST_INVALID", 400, "manifest invalid"


class ManifestUnknown(OCIError):
    code, status, text = "MANIFEST_UNKNOWN", 404, "manifest unknown to registry"


class NameInvalid(OCIError):
    code, status, text = "NAME_INVALID", 400, "invalid repository name"


class NameUnknown(OCIError):
    code, status, text = "NAME_UNKNOWN", 404, "repository name not known to registry"


class SizeInvalid(OCIError):
    code, status, text = "SIZE_INVALID", 400, "provided length did not match content length"


class Unauthorized(OCIError):
    code, status, text = "UNAUTHORIZED", 401, "authentication required"


class Denied(OCIError):
    code, status, text = "DENIED", 403, "requested access to the resource is denied"


class Unsupported(OCIError):
    code, status, text = "UNSUPPORTED", 405, "the operation is unsupported"


class TooManyRequests(OCIError):
    code, status, text = "TOOMANYREQUESTS", 429, "too many requests"


class Unavailable(OCIError):
    """A part that this request needs is down; always sent with ``Retry-After``."""

    code, status, text = "UNAVAILABLE", 503, "the registry cannot do this right now, try again"


class UpstreamInvalid(OCIError):
    """The upstream's answer cannot be passed on (HTML, a wrong digest, a refused redirect)."""

    cause = "upstream answer"
    code, status, text = "UNKNOWN", 502, "the upstream registry gave an answer that cannot be used"


class ManifestOutdated(UpstreamInvalid):
    """The upstream has the image only in schema 1. Docker shows the words of a 404, and those of no 5xx."""

    code, status, text = "MANIFEST_UNKNOWN", 404, "the upstream registry has this image only in the old format schema 1"
