"""Errors of a disk: a full one is 507, any other 503, and neither shows a path."""

from __future__ import annotations

import errno
import os

import pytest

from app.kit.disk import DiskFailed, disk_errors


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (errno.ENOSPC, 507, "disk is full"),
        (errno.EDQUOT, 507, "disk is full"),
        (errno.EIO, 503, "cannot use its disk"),
        (errno.EACCES, 503, "cannot use its disk"),
    ],
)
def test_each_error_has_its_status(number: int, status: int, words: str) -> None:
    with pytest.raises(DiskFailed, match=words) as caught, disk_errors():
        raise OSError(number, os.strerror(number), "/secret/path")
    assert caught.value.answer_status == status
    assert int(caught.value.headers["Retry-After"]) > 0
    assert "secret" not in caught.value.message


def test_what_is_no_error_of_a_disk_passes() -> None:
    with pytest.raises(KeyError), disk_errors():
        raise KeyError("a fault of ours")
