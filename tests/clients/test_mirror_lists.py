"""What clients learn from a mirror's lists is what they learn from its upstream."""

from __future__ import annotations

import json

import pytest

from tests import images
from tests.conftest import require
from tests.images import Image, referrer, referrers_tag
from tests.parts import skopeo
from tests.parts.service import Service
from tests.upstream.client import Hub

from .table import Crane, Oras, Place, Regctl

TAGS = [f"1.{number:04}" for number in range(1_200)]
SIGNATURE, SBOM = "application/vnd.test.signature", "application/vnd.test.sbom"


@pytest.fixture
def image(hub: Hub, name: str) -> Image:
    """Docker Hub's ``library/NAME`` with many tags."""
    return hub.add(images.multi(name), f"library/{name}", *TAGS)


def places(hub: Hub, service: Service, name: str) -> tuple[str, str]:
    """Give the repository as the upstream has it, and as the mirror has it."""
    return f"{hub.host}/library/{name}", f"{service.host}/mirror/library/{name}"


def test_skopeo_lists_tags(hub: Hub, service: Service, place: Place, image: Image, name: str) -> None:
    require(skopeo)
    client = skopeo.Skopeo(place.folder)
    for repository in places(hub, service, name):
        shown = json.loads(client.run("list-tags", "--tls-verify=false", f"docker://{repository}"))
        assert shown == {"Repository": repository, "Tags": TAGS}


@pytest.mark.timeout(600)
def test_crane_lists_tags(hub: Hub, service: Service, place: Place, image: Image, name: str) -> None:
    # crane goes to no realm on loopback but the registry's own, so it cannot ask this upstream.
    assert Crane(place).run("ls", places(hub, service, name)[1]).split() == TAGS


@pytest.mark.timeout(600)
def test_regctl_lists_tags(hub: Hub, service: Service, place: Place, image: Image, name: str) -> None:
    regctl = Regctl(place)
    regctl.run("registry", "set", "--tls=disabled", hub.host)
    direct, mirrored = (regctl.run("tag", "ls", repository) for repository in places(hub, service, name))
    assert direct == mirrored
    assert direct.split()[0] == TAGS[0]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("api", [True, False])
def test_oras_discovers(hub: Hub, service: Service, place: Place, image: Image, name: str, *, api: bool) -> None:
    added = [referrer(image, SIGNATURE, signed="yes"), referrer(image, SBOM)]
    for one in added:
        hub.add(one, f"library/{name}")
    hub.referrers_api(there=api)
    if not api:
        hub.add(referrers_tag(*added), f"library/{name}", image.digest.replace(":", "-"))
    oras = Oras(place)
    shown = []
    for repository in places(hub, service, name):
        for more in ([], [f"--artifact-type={SIGNATURE}"]):
            said = oras.run("discover", "--plain-http", "--format=json", *more, f"{repository}:{TAGS[0]}")
            found = json.loads(said.replace(repository, "here"))["referrers"]
            shown.append(sorted(found, key=lambda one: str(one["digest"])))
    assert shown[:2] == shown[2:]
    assert [len(found) for found in shown[2:]] == [2, 1]
    layout = place.folder / "signature"
    (signature,) = shown[3]
    mirrored = f"{places(hub, service, name)[1]}@{signature['digest']}"
    oras.run("copy", "--from-plain-http", "--to-oci-layout", mirrored, f"{layout}:it")
    blobs = {path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}
    assert blobs >= {added[0].payload, *added[0].blobs.values(), image.payload}
