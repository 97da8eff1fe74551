"""Store the bytes of blobs in a folder or in S3, behind one interface."""

from .interface import BlobStore, State, Writer, is_in_harbor, key_in_harbor, new_key

__all__ = ["BlobStore", "State", "Writer", "is_in_harbor", "key_in_harbor", "new_key"]
