"""Hosting: blobs, upload sessions, manifests, tags, referrers, and the collection of what nothing needs."""
