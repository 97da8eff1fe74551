"""Blob bytes: a folder or S3 behind one interface."""

from .interface import BlobStore, State, Writer, new_key

__all__ = ["BlobStore", "State", "Writer", "new_key"]
