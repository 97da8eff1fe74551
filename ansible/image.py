#!/usr/bin/env python3
"""Make a container image of a release: ansible/releases/registry-VERSION.oci.tar, an archive that podman loads.

The base is Debian 12 as this machine's package sources have it, so no image is pulled. Run it as root on Debian 12 with
mmdebstrap and buildah, after release.py of the same version.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_PACKAGES = ("ca-certificates", "python3-venv", "redis-server", "tzdata")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a container image of a release.")
    parser.add_argument("version", help="the release, which release.py has made")
    parser.add_argument("--folder", type=Path, default=_HERE / "releases", help="the folder of the releases")
    arguments = parser.parse_args()
    release = arguments.folder / f"registry-{arguments.version}.tar.gz"
    if not release.exists():
        parser.error(f"there is no {release}: run release.py {arguments.version} first")
    missing = [program for program in ("mmdebstrap", "buildah") if shutil.which(program) is None]
    if missing or not _SOURCES.exists():
        parser.error(f"this needs Debian 12 with mmdebstrap and buildah; missing: {', '.join(missing) or _SOURCES}")
    image = arguments.folder / f"registry-{arguments.version}.oci.tar"
    with tempfile.TemporaryDirectory() as scratch:
        _build(Path(scratch), release, arguments.version, image)
    sys.stdout.write(f"{image}\n")
    return 0


def _build(scratch: Path, release: Path, version: str, image: Path) -> None:
    context = scratch / "context"
    shutil.copytree(_HERE / "image", context)
    shutil.copy(release, context / "release.tar.gz")
    _run([
        "mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")),
        "bookworm", str(context / "base.tar"), str(_SOURCES),
    ])  # fmt: skip
    # In a storage of its own, so that nothing is left on this machine.
    buildah = ["buildah", "--root", str(scratch / "root"), "--runroot", str(scratch / "run"), "--storage-driver", "vfs"]
    name = f"localhost/registry:{version}"
    build = ["build", "--quiet", "--isolation", "chroot", "--build-arg", f"VERSION={version}", "--tag", name]
    _run([*buildah, *build, str(context)])
    draft = image.with_suffix(".part")
    draft.unlink(missing_ok=True)
    _run([*buildah, "push", "--quiet", name, f"oci-archive:{draft}:{name}"])
    draft.rename(image)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603  # ours alone


if __name__ == "__main__":
    sys.exit(main())
