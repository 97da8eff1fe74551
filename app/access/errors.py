"""Errors of the actions of people, in pages and in the REST API, with Harbor's codes.

`app.oci.errors` has the errors of the distribution API. Web renders both alike.
"""

from __future__ import annotations

from app.oci.errors import OCIError


class Invalid(OCIError):
    """A value that was sent is not valid; the message says which one and what it may be."""

    code, status, text = "BAD_REQUEST", 400, "the request is not valid; change it and try again"


class Forbidden(OCIError):
    """The caller is known and may see the thing, but may not do this to it."""

    code, status, text = "FORBIDDEN", 403, "you may not do this here"


class Missing(OCIError):
    """The thing does not exist, or the caller may not see it."""

    code, status, text = "NOT_FOUND", 404, "there is no such thing"


class Conflict(OCIError):
    """Another thing has that name already, or something needs this one."""

    code, status, text = "CONFLICT", 409, "this name is taken; choose another one"


class PreconditionFailed(OCIError):
    """The present state does not allow this yet."""

    code, status, text = "PRECONDITION", 412, "the present state does not allow this"
