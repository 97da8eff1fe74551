"""A strict stand-in for Docker Hub, run as a process of its own: `python -m tests.upstream`.

A test may make it odd in the ways of other registries: by faults, and by how clients log in.

Three listeners, as with the real one: the registry, the realm that issues tokens, and the CDN that has the bytes;
a fourth is for the tests alone. `client.Hub` starts it and speaks to it. What it does, by module:

    registry.py   /v2/: challenges, manifests counted against the limit, blobs redirected to the CDN
    realm.py      /token: scopes cut down to what the one who asks may pull
    cdn.py        signed addresses that expire; an Authorization header is refused; ranges
    control.py    images, tags, accounts, limits, faults, counters, listeners going down and up
"""
