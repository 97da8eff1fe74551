"""Turn the errors of a local disk into errors that a client can read."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from app.oci.errors import Unavailable

_FULL_STATUS = 507


class DiskFailed(Unavailable):
    """A disk of the registry cannot be used; 507 if it is full."""

    cause = "disk"


def is_full(error: OSError) -> bool:
    """Return whether the disk, or our share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_failed(error: OSError) -> DiskFailed:
    """Return the error for a client. It leaves out the system's own text, which may name paths."""
    if is_full(error):
        return store_full("the registry's disk is full")
    return DiskFailed(
        "the registry cannot use its disk right now, try again in a few seconds", headers={"Retry-After": "10"}
    )


def store_full(what: str) -> DiskFailed:
    """Return the 507 for a full place; ``what`` says that it is full, as in "the registry's disk is full"."""
    return DiskFailed(
        "%(what)s; tell its operators and try again after they have made room",
        what=what,
        status=_FULL_STATUS,
        headers={"Retry-After": "60"},
    )


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise DiskFailed for an OSError in the block."""
    try:
        yield
    except OSError as error:
        raise disk_failed(error) from error
