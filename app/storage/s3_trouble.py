"""Turn the failures of S3, of its client library and of the network into our own errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from app.kit.disk import store_full
from app.oci.errors import BlobUnknown, OCIError, Unavailable

from .trouble import damaged, upload_gone, upload_overtaken

# An error in the middle of a body is aiohttp's own; aiobotocore wraps all others.
TROUBLE = (BotoCoreError, ClientError, aiohttp.ClientError, TimeoutError, OSError)
SOON = {"Retry-After": "10"}

_FORBIDDEN = 403
_SKEWED = "RequestTimeTooSkewed"
# Amazon's limit is 15 minutes, and others' 5. Below that, a refusal has another reason.
_MOST_SKEW_SECONDS = 240
_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}
_OVERTAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "InvalidPart", "InvalidPartOrder"}
_HINTS = {
    "403": "access is refused; see access_key_id, secret_access_key and the bucket's policy",
    _SKEWED: "the clocks of this host and of the object store differ by minutes; see timedatectl on both",
    "404": "there is no such bucket; create it, or change storage.s3.bucket",
    "EndpointConnectionError": "nothing answers there",
    "NoCredentialsError": "no access keys are configured",
}

_log = logging.getLogger(__name__)


@contextmanager
def asking(request: str) -> Iterator[None]:
    """Raise one of our own errors for a failure in the block; the log names it by ``request``."""
    try:
        yield
    except TROUBLE as error:
        raise _translated(error, request) from error


def reason(error: BaseException) -> str:
    """Return why S3 cannot be used; never the server's own text, which may quote the request."""
    return _HINTS.get(_code(error), _code(error))


def is_cut(error: BaseException) -> bool:
    """Return whether a connection broke, and S3 has neither refused the request nor stalled."""
    return not isinstance(error, ClientError | TimeoutError)


def _code(error: BaseException) -> str:
    if not isinstance(error, ClientError):
        return type(error).__name__
    # The answer to a HEAD has no words, and some servers call it a wrong signature.
    return _SKEWED if _refused_for_its_time(error) else str(error.response.get("Error", {}).get("Code"))


def _refused_for_its_time(error: ClientError) -> bool:
    told: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    if told.get("HTTPStatusCode") != _FORBIDDEN:
        return False
    try:
        theirs = parsedate_to_datetime(told["HTTPHeaders"]["date"]).timestamp()
    except (KeyError, ValueError):
        return False
    return abs(time.time() - theirs) > _MOST_SKEW_SECONDS


def _translated(error: BaseException, request: str) -> OCIError:
    code = _code(error)
    if code in ("NoSuchKey", "404"):
        return BlobUnknown()
    if code == "NoSuchUpload":
        return upload_gone()
    if code in _OVERTAKEN:
        return upload_overtaken()
    _log.warning("S3: %s failed: %s", request, code)
    if code == "InvalidRange":
        return damaged()
    if code in _FULL:
        return store_full("the registry's object store is full")
    unavailable = Unavailable("the registry's object store does not answer, try again in a few seconds", headers=SOON)
    unavailable.cause = "store"
    return unavailable
