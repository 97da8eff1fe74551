"""What the guide's pictures show: a project that has been worked with for a while."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from tests.api.client import Registry
from tests.images import OCI_MANIFEST, Image, digest_of, files, layer, multi, single
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.web.person import Visitor
from tests.web.scene import PASSWORD, add_past, add_people

PROJECT, SMALL = "genomics", "course-2026"
_CONFIG, _LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"
_SBOM, _EMPTY = "application/spdx+json", "application/vnd.oci.empty.v1+json"
_DAY = 86400

# How the image on the artifact's page was built: a step, and the bytes of its layer (0: none).
_STEPS = (
    ("COPY / / # debian.sh --arch 'amd64' out/ 'bookworm'", 900_000),
    ("RUN apt-get update && apt-get install -y --no-install-recommends samtools", 420_000),
    ("WORKDIR /opt/aligner", 0),
    ("COPY requirements.txt .", 2_000),
    ("RUN pip install --no-cache-dir -r requirements.txt", 640_000),
    ("COPY aligner/ aligner/", 90_000),
    ('ENTRYPOINT ["python", "-m", "aligner"]', 0),
)
_MIRRORED = ("redis", "nginx", "python", "postgres", "alpine")


def built(steps: Sequence[tuple[str, int]]) -> Image:
    """Build an image whose history has these steps."""
    packed = [layer(files(step, size), compresslevel=0) for step, size in steps if size]
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-10-28T09:12:40Z",
            "config": {"Entrypoint": ["python", "-m", "aligner"], "WorkingDir": "/opt/aligner"},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in packed]},
            "history": [{"created_by": step, "empty_layer": not size} for step, size in steps],
        }
    )
    layers = [data for data, _ in packed]
    return _image(_CONFIG, config, _LAYER, layers)


def sbom_of(image: Image) -> Image:
    """Make a list of an image's contents that refers to it."""
    listing = json.dumps({"spdxVersion": "SPDX-2.3", "name": "aligner"}).encode()
    subject = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.payload)}
    return _image(_EMPTY, b"{}", _SBOM, [listing], artifactType=_SBOM, subject=subject)


def _image(config_type: str, config: bytes, layer_type: str, layers: Sequence[bytes], **more: object) -> Image:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": config_type, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": layer_type, "digest": digest_of(data), "size": len(data)} for data in layers],
        **more,
    }
    payload = _json(document)
    blobs = {digest_of(data): data for data in (config, *layers)}
    return Image(blobs, {digest_of(payload): (OCI_MANIFEST, payload)}, digest_of(payload))


def _json(document: object) -> bytes:
    return json.dumps(document, indent=3).encode()


def prepare(service: Service, hub: Hub, folder: Path) -> None:
    """Give the service people, and its mirror things to show."""
    hub.limit(200)
    for name in _MIRRORED:
        hub.add(multi(name, sizes=(200_000, 700_000)), f"library/{name}", "latest")
    add_people(folder)
    anonymous = Registry(service.host)
    for place, name in enumerate(_MIRRORED):
        if place == len(_MIRRORED) - 1:
            # Where the plot of the day before ends.
            hub.leave(16)
        anonymous.pull_image(f"mirror/library/{name}", "latest")
        for _ in range(3 * (len(_MIRRORED) - place)):
            anonymous.manifest(f"mirror/library/{name}", "latest")
    add_past(folder)


def furnish(mari: Visitor, service: Service) -> None:
    """Have somebody make a project and a small one, with members, labels, robot accounts and images."""
    for name, quota, unit, about in (
        (PROJECT, "50", "GiB", "Pipelines of the genomics group"),
        (SMALL, "7", "MiB", "Images for the course's exercises"),
    ):
        mari.go("/new-project").fill("Project name", name).fill("Storage quota", quota)
        mari.page.get_by_label("Unit").select_option(unit)
        mari.fill("Description (optional)", about).click("Create project")
    mari.go(f"/projects/{PROJECT}/members")
    for kind, label, name, role in (
        ("USER", "User name", "jaan.saar", "Developer"),
        ("USER", "User name", "liis.kask", "Maintainer"),
        ("GROUP", "The group's name", "genomics-students", "Guest"),
    ):
        mari.open(kind).fill(label, name)
        mari.page.get_by_label(role, exact=False).locator("visible=true").last.check()
        mari.click("Add member")
    for name, about, colour in (
        ("tested", "Passed the nightly run", "#147a46"),
        ("released", "Used by the pipelines in production", "#1c58b8"),
        ("old", "Goes at the end of the term", "#b3261e"),
    ):
        mari.go(f"/projects/{PROJECT}/labels").fill("Name", name).fill("Description", about)
        mari.page.get_by_label("Colour").fill(colour)
        mari.click("Create label")
    admin = Registry(service.host, service.username, service.password)
    for number, tags in enumerate((("2.3.0",), ("2.4.0", "nightly-2026-11-02"))):
        older = built([*_STEPS[:-2], (f"COPY aligner/ aligner/ # {number}", 80_000), _STEPS[-1]])
        for tag in tags:
            admin.push_image(f"{PROJECT}/aligner", tag, older)
    image = built(_STEPS)
    admin.push_image(f"{PROJECT}/aligner", "2.4.1", image)
    admin.put_manifest(f"{PROJECT}/aligner", "stable", image.payload, image.media_type)
    sbom = sbom_of(image)
    for data in sbom.blobs.values():
        admin.push_blob(f"{PROJECT}/aligner", data)
    admin.push_manifest(f"{PROJECT}/aligner", sbom.digest, sbom.payload, sbom.media_type)
    admin.push_image(f"{PROJECT}/pipeline/variant-caller", "0.9", multi("variant-caller"))
    admin.push_image(f"{PROJECT}/notebook", "2026-11", single("notebook"))
    for number in range(1, 5):
        admin.push_image(f"{SMALL}/exercise-{number}", "1", single(f"exercise {number}", sizes=(1_560_000,)))


def refuse(service: Service) -> None:
    """Ask for what is refused, so that the operator's page has something to explain."""
    anonymous, admin = Registry(service.host), Registry(service.host, service.username, service.password)
    for name, tag in ((f"{PROJECT}/aligner", "2.4.1"), ("mirror/library/ubunto", "latest"), ("gene/aligner", "1")):
        anonymous.manifest(name, tag)
    too_large = single("exercise 5", sizes=(1_560_000,))
    with suppress(AssertionError):
        admin.push_image(f"{SMALL}/exercise-5", "1", too_large)


def age(folder: Path) -> None:
    """Let what was made a moment ago have been made over the last months."""
    now = time.time()
    steps = {"member": 3.3 * _DAY, "tag": 4 * 3600}
    with closing(sqlite3.connect(folder / "data" / "registry.sqlite", timeout=30)) as database:
        for table, column, days in (
            ("project", "created_at", 140), ("member", "created_at", 47), ("manifest", "created_at", 5.2),
            ("tag", "updated_at", 9.2),
        ):  # fmt: skip
            later = f" + rowid * {steps[table]}" if table in steps else ""
            database.execute(f"UPDATE {table} SET {column} = {column} - {days * _DAY}{later}")
        for name, days, used, address in (
            ("ci", 24, 3 * 3600, "192.0.2.17"), ("k3s", 5, 40, "192.0.2.80"), ("notebook-builder", 29, None, None),
        ):  # fmt: skip
            database.execute(
                "UPDATE robot SET expires_at = ?, last_used_at = ?, last_used_from = ? WHERE name LIKE ?",
                (now + days * _DAY, now - used if used else None, address, f"%+{name}"),
            )
        database.execute(
            "UPDATE access_key SET last_used_at = ?, last_used_from = ? WHERE name = 'laptop'",
            (now - 2 * 3600, "192.0.2.44"),
        )
        database.commit()


def wanted(hub: Hub) -> str:
    """Write a class's compose file: an image that is in the mirror, and two that the upstream alone has."""
    for name in ("mariadb", "adminer"):
        hub.add(multi(name, sizes=(300_000, 900_000)), f"library/{name}", "latest")
    images = {"database": "mariadb", "cache": "redis", "pages": "adminer"}
    return "services:\n" + "".join(f"  {service}:\n    image: {image}\n" for service, image in images.items())


def log_in(person: Visitor, username: str, password: str = PASSWORD) -> Visitor:
    """Log somebody in past the university, whose identity provider is not needed for a picture."""
    person.go("/login").open("Log in with a local account")
    person.fill("User name", username).fill("Password", password).click("Log in")
    person.page.wait_for_url(lambda url: "/login" not in url)
    return person
