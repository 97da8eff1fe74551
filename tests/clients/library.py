"""The PyPI libraries of ORAS and Helm as commands, so that neither shares a process with the tests.

python -m tests.clients.library oras login|logout|pull|push HOME HOST …
python -m tests.clients.library helm login|logout|pull|push|tags HOME HOST …
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> None:
    """Run one command; what the library raises ends it with a traceback and status 1."""
    library, verb, home, host, *rest = arguments
    # Both keep credentials below the home folder; ORAS has no other place for them.
    os.environ["HOME"] = home
    (_oras if library == "oras" else _helm)(verb, host, rest)


def _oras(verb: str, host: str, rest: Sequence[str]) -> None:
    from oras.client import OrasClient

    client = OrasClient(hostname=host, insecure=True)
    if verb == "login":
        client.login(username=rest[0], password=rest[1], hostname=host)
    elif verb == "logout":
        (Path.home() / ".docker/config.json").unlink(missing_ok=True)
    elif verb == "pull":
        client.pull(target=rest[0], outdir=rest[1])
    elif verb == "push":
        client.push(target=rest[0], files=[rest[1]], disable_path_validation=True)
    else:
        raise ValueError(verb)


def _helm(verb: str, host: str, rest: Sequence[str]) -> None:
    from helm_python import RegistryClient

    with RegistryClient(plain_http=True, credentials_file=str(Path.home() / "helm.json")) as client:
        if verb == "login":
            client.login(host, rest[0], rest[1], plain_http=True)
        elif verb == "logout":
            client.logout(host)
        elif verb == "pull":
            name, _, version = rest[0].rpartition(":")
            client.pull(f"oci://{name}", version=version, destination=rest[1], plain_http=True)
        elif verb == "push":
            client.push(rest[1], f"oci://{rest[0]}", plain_http=True)
        elif verb == "tags":
            print("\n".join(client.tags(f"{rest[0]}")))
        else:
            raise ValueError(verb)


if __name__ == "__main__":
    main(sys.argv[1:])
