"""What every client does: pull through the mirror, push to a project, pull it back."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator

import pytest

from tests.images import Image, digest_of
from tests.parts.process import CommandFailed
from tests.parts.service import Service
from tests.upstream.client import Hub

from . import samples
from .kinds import Client
from .plain import Plain
from .samples import VERSION, Sample
from .table import ROWS, Place, Row

# The first test of a client that Go builds includes its building.
pytestmark = pytest.mark.timeout(600)
REFUSED = r"(?i)denied|unauthori[sz]ed|authorization failed"


@pytest.fixture(params=ROWS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture
def client(row: Row, place: Place) -> Iterator[Client]:
    client = row.make(place)
    yield client
    with contextlib.suppress(CommandFailed):  # most refuse to log out who is not logged in
        client.logout()


@pytest.fixture
def sample(hub: Hub, row: Row, name: str) -> Sample:
    """Docker Hub's ``library/NAME:1.0.0``."""
    sample = samples.make(row.carries, name)
    hub.add(sample.image, f"library/{name}", VERSION)
    return sample


def test_pulls_through_the_mirror(hub: Hub, service: Service, client: Client, sample: Sample, name: str) -> None:
    """A cold pull asks Docker Hub for what it needs once, a warm one for nothing."""
    reference = f"{service.host}/mirror/library/{name}:{VERSION}"
    assert client.pull(reference) == sample.identity
    cold = hub.counters()
    assert cold.get_manifest == sample.counted
    assert dict(cold.blob_gets) == dict.fromkeys(sample.given, 1)
    assert client.pull(reference) == sample.identity
    warm = hub.counters()
    assert (warm.get_manifest, warm.blob_gets, warm.head_manifest) == (
        cold.get_manifest,
        cold.blob_gets,
        cold.head_manifest,
    )


@pytest.mark.parametrize("project", [pytest.param("lab", marks=pytest.mark.long), "secret"])
def test_pushes_and_pulls_back(
    hub: Hub, service: Service, admin: Plain, client: Client, sample: Sample, name: str, project: str
) -> None:
    """A push needs a login; pulling it back does so from a private project alone."""
    target = f"{service.host}/{project}/{name}:{VERSION}"
    client.pull(f"{service.host}/mirror/library/{name}:{VERSION}")
    with pytest.raises(CommandFailed, match=REFUSED):
        client.push(target)
    client.login(service.username, service.password)
    client.push(target)
    assert_same(admin.pull(f"{project}/{name}", VERSION), sample)
    client.logout()
    if project == "secret":
        with pytest.raises(CommandFailed, match=REFUSED):
            client.pull(target)
        client.login(service.username, service.password)
    assert client.pull(target) == sample.identity


def assert_same(pushed: Image, sample: Sample) -> None:
    """Compare what the registry has now with what was given: clients may pack layers anew, not change them."""
    if sample.counted == 1:
        assert pushed.layers == [sample.identity]
        return
    amd64 = sample.image.platform("linux/amd64")
    assert pushed.document["config"]["digest"] == sample.identity
    assert _unpacked(pushed) == _unpacked(amd64)


def _unpacked(image: Image) -> list[str]:
    return [digest_of(gzip.decompress(image.blobs[digest])) for digest in image.layers]
