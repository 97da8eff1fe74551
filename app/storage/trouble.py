"""Make the errors that both stores raise, in words that a client reads. Errors of disks are in `app.kit.disk`."""

from __future__ import annotations

from app.oci.errors import BlobUploadInvalid, BlobUploadUnknown, Unavailable


def damaged() -> Unavailable:
    """Return the error for an object with fewer bytes than were committed; the log has its key."""
    return Unavailable("the registry's copy of this blob is damaged; tell its operators", headers={"Retry-After": "60"})


def upload_busy() -> BlobUploadInvalid:
    """Return the error for an upload that has another writer now."""
    return BlobUploadInvalid(
        "another request is writing to this upload; wait until it ends, ask for the upload's status and resume"
    )


def upload_overtaken() -> BlobUploadInvalid:
    """Return the error for an upload that another writer changed or completed meanwhile."""
    return BlobUploadInvalid("another request wrote to this upload at the same time; start the upload again")


def upload_gone() -> BlobUploadUnknown:
    """Return the error for an upload whose bytes are no longer there."""
    return BlobUploadUnknown("the bytes of this upload are gone or already committed; start the upload again")
