"""What can go wrong in a store, in the words a client reads; both stores say the same. Disks: `app.kit.disk`."""

from __future__ import annotations

from app.oci.errors import BlobUploadInvalid, BlobUploadUnknown, Unavailable


def damaged() -> Unavailable:
    """Say that an object has fewer bytes than were committed; the log has its key."""
    return Unavailable("the registry's copy of this blob is damaged; tell its operators", headers={"Retry-After": "60"})


def upload_busy() -> BlobUploadInvalid:
    """Say that the upload has another writer at this moment."""
    return BlobUploadInvalid(
        "another request is writing to this upload; wait until it ends, then ask how far the upload is and go on"
    )


def upload_overtaken() -> BlobUploadInvalid:
    """Say that another writer changed or completed the upload behind this one's back."""
    return BlobUploadInvalid("another request wrote to this upload at the same time; start the upload again")


def upload_gone() -> BlobUploadUnknown:
    """Say that what the upload had sent so far is no longer there."""
    return BlobUploadUnknown("the bytes of this upload are gone or already committed; start the upload again")
