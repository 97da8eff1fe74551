"""The errors of `app.access.errors`, by their name in this room."""

from app.access.errors import Conflict, Forbidden, Invalid, Missing, PreconditionFailed

__all__ = ["Conflict", "Forbidden", "Invalid", "Missing", "PreconditionFailed"]
