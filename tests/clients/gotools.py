"""Programs built once by Go from their pinned versions and kept in the user's cache: clients, and an ACME server."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from subprocess import TimeoutExpired

from tests.parts.process import CommandFailed, run

_MODULES = {
    "pebble": "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.8.0",
    "pebble-challtestsrv": "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@v2.8.0",
    "crane": "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
    "cosign": "github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3",
    "oras": "oras.land/oras/cmd/oras@v1.3.6",
    "regctl": "github.com/regclient/regclient/cmd/regctl@v0.11.7",
}
# Several times what a cold build of one takes on two cores; cosign is the largest.
_BUILD_SECONDS = 900


@cache
def install(name: str) -> tuple[Path, str | None]:
    """Say where the tool is, and why it could not be had where it is not; the first call builds it."""
    module = _MODULES[name]
    folder = _cache() / module.rpartition("@")[2]
    binary = folder / name
    if binary.exists():
        return binary, None
    if shutil.which("go") is None:
        return binary, f"no Go to build {name} with"
    try:
        run(["go", "install", module], environment={"GOBIN": str(folder)}, timeout=_BUILD_SECONDS)
    except (CommandFailed, TimeoutExpired) as error:
        return binary, f"{name} could not be built: {str(error)[-300:]}"
    return binary, None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "registry-tests"
