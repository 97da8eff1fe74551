"""The commands that push to a project and pull from it, and the lines for the files of those who pull."""

from __future__ import annotations


def push_commands(host: str, project: str) -> list[tuple[str, list[str]]]:
    """List the commands that push into a project, by program."""
    image = f"{host}/{project}/REPOSITORY:TAG"
    return [
        ("Docker", [f"docker login {host}", f"docker tag SOURCE_IMAGE:TAG {image}", f"docker push {image}"]),
        ("podman", [f"podman login {host}", f"podman push IMAGE_ID {image}"]),
        ("Helm", ["helm package CHART_FOLDER", f"helm push CHART-VERSION.tgz oci://{host}/{project}"]),
        ("ORAS", [f"oras login {host}", f"oras push {image} FILE:text/plain"]),
    ]


def pull_commands(at: str, reference: str, kind: str) -> list[tuple[str, str]]:
    """List the commands that pull an artifact of this kind, by program; ``reference`` is ``:TAG`` or ``@DIGEST``."""
    address = at + reference
    if kind == "chart":
        # A tag cannot have the + of a version, so Helm pushes it as _ and expects + when it pulls.
        version = f" --version {reference[1:].replace('_', '+')}" if reference[0] == ":" else reference
        return [
            ("Helm", f"helm pull oci://{at}{version}"),
            ("Helm", f"helm install NAME oci://{at}{version}"),
            ("ORAS", f"oras pull {address}"),
        ]
    if kind not in ("image", "index"):
        return [("ORAS", f"oras pull {address}")]
    return [
        ("Docker", f"docker pull {address}"),
        ("podman", f"podman pull {address}"),
        ("Apptainer", f"apptainer pull docker://{address}"),
        ("Charliecloud", f"ch-image pull {address}"),
        ("Dockerfile", f"FROM {address}"),
        ("Nextflow", f"process.container = '{address}'"),
        ("Snakemake", f'container: "docker://{address}"'),
    ]
