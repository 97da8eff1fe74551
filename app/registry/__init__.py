"""Hosting: blobs, upload sessions, manifests, tags, referrers and garbage collection."""
