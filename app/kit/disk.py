"""Errors of a local disk, in the words that a client reads."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from app.oci.errors import Unavailable

_FULL_STATUS = 507


class DiskFailed(Unavailable):
    """A disk of the registry cannot be used; 507 if it is full."""


def is_full(error: OSError) -> bool:
    """Return whether the disk, or our share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_failed(error: OSError) -> DiskFailed:
    """Return the error for a client; the system's own text, which may name paths, stays out of it."""
    if is_full(error):
        return store_full("the registry's disk is full")
    return DiskFailed(
        "the registry cannot use its disk right now, try again in a few seconds", headers={"Retry-After": "10"}
    )


def store_full(what: str) -> DiskFailed:
    """Return the 507 for a place that has no room left; ``what`` names the place."""
    return DiskFailed(
        "%(what)s; tell its operators and try again once they have made room",
        what=what,
        status=_FULL_STATUS,
        headers={"Retry-After": "60"},
    )


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise DiskFailed for an OSError inside."""
    try:
        yield
    except OSError as error:
        raise disk_failed(error) from error
