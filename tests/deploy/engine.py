"""A Docker engine that trusts the tests' authority and finds the registry by name, without a trace in /etc."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.parts import dockerd
from tests.parts.dockerd import Docker


@contextmanager
def engine(folder: Path, *, hosts: Mapping[str, str], authority: Path) -> Iterator[Docker]:
    """Start dockerd with names of its own in /etc/hosts (addresses by name), over HTTPS only."""
    folder.mkdir(parents=True)
    names = folder / "hosts"
    names.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in hosts.items()))
    own_names = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(names)]
    with dockerd.engine(folder, inside=own_names, environment={"SSL_CERT_FILE": str(authority)}) as docker:
        yield docker
