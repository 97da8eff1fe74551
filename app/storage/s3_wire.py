"""The requests we make of S3, by key; what S3 or the network answers instead becomes an error of ours here.

    <prefix>objects/<key>                   one finished object
    <prefix>objects/<key>.tail-<16 hex>     bytes of a suspended upload that are too few for a part
    <prefix>probe-<16 hex>                  what `check` writes, reads and removes

Multipart uploads stand under the name of the object they will become. A finished object is never replaced: the
request that finishes one carries ``If-None-Match: *``.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from ..oci.errors import BlobUnknown, OCIError, Unavailable
from .trouble import damaged, store_full, upload_gone, upload_overtaken

# 10,000 parts at most, 5 TiB at most, a part at least 5 MiB and at most 5 GiB (S3 user guide, "Multipart upload
# limits"). The size doubles every thousand parts: 8 MiB up to 8 GB, 4 GiB at last, 7.8 TiB in all.
MIN_PART = 5 * 1024 * 1024
_FIRST_PART = 8 * 1024 * 1024
_PARTS_PER_SIZE = 1000
PIECE = 1024 * 1024

_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "EntityTooLarge"}
_OVERTAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "InvalidPart", "InvalidPartOrder"}

_log = logging.getLogger(__name__)


def part_size(number: int) -> int:
    """Say how large part ``number`` (from 1) is meant to be, in bytes."""
    return _FIRST_PART << ((number - 1) // _PARTS_PER_SIZE)
