"""What clients learn from a mirror's lists is what they learn from its upstream."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import images
from tests.api.client import Registry
from tests.conftest import require
from tests.images import Image, referrer, referrers_tag, single
from tests.parts import skopeo
from tests.parts.process import CommandFailed, run
from tests.parts.service import Service
from tests.upstream.client import Hub

from . import gotools
from .table import Crane, Oras, Place, Regctl

TAGS = [f"1.{number:04}" for number in range(1_200)]
SIGNATURE, SBOM = "application/vnd.test.signature", "application/vnd.test.sbom"


@pytest.fixture
def image(hub: Hub, name: str) -> Image:
    """Docker Hub's ``library/NAME`` with many tags."""
    return hub.add(images.multi(name), f"library/{name}", *TAGS)


def assert_same(hub: Hub, service: Service, name: str, command: Callable[[str], str]) -> str:
    """Assert that a command prints the same for the upstream's repository and the mirror's; give it, without the name.

    ``command`` takes a repository's full name.
    """
    places = f"{hub.host}/library/{name}", f"{service.host}/mirror/library/{name}"
    direct, mirrored = (command(repository).replace(repository, "HERE") for repository in places)
    assert direct == mirrored
    return mirrored


def test_skopeo_lists_tags(hub: Hub, service: Service, place: Place, image: Image, name: str) -> None:
    require(skopeo)
    client = skopeo.Skopeo(place.folder)
    shown = assert_same(
        hub, service, name, lambda repository: client.run("list-tags", "--tls-verify=false", f"docker://{repository}")
    )
    assert json.loads(shown) == {"Repository": "HERE", "Tags": TAGS}


@pytest.mark.timeout(600)
def test_crane_lists_tags(hub: Hub, service: Service, place: Place, image: Image, name: str) -> None:
    # crane goes to no realm on loopback but the registry's own, so this upstream has none for once.
    hub.logins("none")
    crane = Crane(place)
    assert assert_same(hub, service, name, lambda repository: crane.run("ls", repository)).split() == TAGS
    manifest = assert_same(hub, service, name, lambda repository: crane.run("manifest", f"{repository}:{TAGS[0]}"))
    assert manifest.encode() == image.payload


@pytest.mark.timeout(600)
def test_regctl_lists_tags(hub: Hub, service: Service, place: Place, image: Image, name: str) -> None:
    regctl = Regctl(place)
    regctl.run("registry", "set", "--tls=disabled", hub.host)
    shown = assert_same(hub, service, name, lambda repository: regctl.run("tag", "ls", repository))
    assert shown.split()[0] == TAGS[0]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("api", [True, False])
def test_oras_discovers(hub: Hub, service: Service, place: Place, image: Image, name: str, *, api: bool) -> None:
    # A mirror lists referrers by their digests, whatever the order of the fallback tag is.
    added = sorted([referrer(image, SIGNATURE, signed="yes"), referrer(image, SBOM)], key=lambda one: one.digest)
    for one in added:
        hub.add(one, f"library/{name}")
    hub.referrers_api(there=api)
    if not api:
        hub.add(referrers_tag(*added), f"library/{name}", image.digest.replace(":", "-"))
    oras = Oras(place)

    def discover(repository: str, *more: str) -> str:
        return oras.run("discover", "--plain-http", "--format=json", *more, f"{repository}:{TAGS[0]}")

    shown = json.loads(assert_same(hub, service, name, discover))
    assert [one["digest"] for one in shown["referrers"]] == [one.digest for one in added]
    only = assert_same(hub, service, name, lambda at: discover(at, f"--artifact-type={SIGNATURE}"))
    (found,) = json.loads(only)["referrers"]
    signature = next(one for one in added if one.digest == found["digest"])
    layout = place.folder / "signature"
    mirrored = f"{service.host}/mirror/library/{name}@{signature.digest}"
    oras.run("copy", "--from-plain-http", "--to-oci-layout", mirrored, f"{layout}:it")
    blobs = {path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}
    assert blobs >= {signature.payload, *signature.blobs.values(), image.payload}


# Where Go has not built cosign yet, that takes minutes. tests/mirror/test_listings.py replays what it asks.
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_cosign_verifies(service: Service, tmp_path: Path, name: str) -> None:
    """In its two ways: a tag that is spelled after the digest, and a referrer; the upstream is this service's `lab`."""
    binary, reason = gotools.install("cosign")
    if reason is not None:
        pytest.skip(reason)
    environment = {"COSIGN_PASSWORD": "", "DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)}
    pair = [str(tmp_path / f"cosign.{part}") for part in ("key", "pub")]

    def cosign(*arguments: str) -> str:
        return run([str(binary), *arguments], environment=environment)

    cosign("generate-key-pair", f"--output-key-prefix={tmp_path / 'cosign'}")
    cosign("login", service.host, f"--username={service.username}", f"--password={service.password}")
    local = ("--use-signing-config=false", "--tlog-upload=false", "--yes", f"--key={pair[0]}")
    verify = ("verify", f"--key={pair[1]}", "--insecure-ignore-tlog=true", "--allow-http-registry")
    projects = {"mirror": {"upstream": "docker.io"}}
    with Service(tmp_path / "s", upstream=service.url, overrides={"projects": projects}) as mirror:
        for way in ("false", "true"):
            bundle, repository = f"--new-bundle-format={way}", f"lab/{name}-{way}"
            image = single(repository, sizes=(100,))
            Registry(service.host, service.username, service.password).push_image(repository, "1", image)
            cosign("sign", *local, bundle, "--allow-http-registry", f"{service.host}/{repository}@{image.digest}")
            directly, here = f"{service.host}/{repository}", f"{mirror.host}/mirror/{repository}"
            mirrored = cosign(*verify, bundle, f"{here}:1")
            assert mirrored.replace(here, directly) == cosign(*verify, bundle, f"{directly}:1")
            (verified,) = json.loads(mirrored)
            assert verified["critical"]["image"]["docker-manifest-digest"] == image.digest
            unsigned = single(f"{repository} unsigned", sizes=(100,))
            Registry(service.host, service.username, service.password).push_image(repository, "2", unsigned)
            with pytest.raises(CommandFailed, match=r"no signatures found|no matching signatures"):
                cosign(*verify, bundle, f"{mirror.host}/mirror/{repository}:2")
