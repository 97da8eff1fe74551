"""What people's own doings are answered with where they go wrong: Harbor's words for it.

`app.oci.errors` has what the distribution API answers. Web renders both alike.
"""

from __future__ import annotations

from app.oci.errors import OCIError


class Invalid(OCIError):
    """Something that was sent cannot be meant; the message says which part and what it may be."""

    code, status, text = "BAD_REQUEST", 400, "this cannot be done as it was asked"


class Forbidden(OCIError):
    """Who asks is known, sees the thing, and may not do this to it."""

    code, status, text = "FORBIDDEN", 403, "you may not do this here"


class Missing(OCIError):
    """There is no such thing, or none that may be seen."""

    code, status, text = "NOT_FOUND", 404, "there is no such thing"


class Conflict(OCIError):
    """Another one of that name is there, or something needs this one."""

    code, status, text = "CONFLICT", 409, "there is one of that name already"


class PreconditionFailed(OCIError):
    """What is there does not allow it yet."""

    code, status, text = "PRECONDITION", 412, "this cannot be done as things stand"
