"""A full disk: pushes are refused in words, pulls go on, and with room again all is as before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import small_disk as disk_part
from tests.api.client import Answer, Registry, closing, digest_of, expect, location, refusal
from tests.api.conftest import PROJECTS
from tests.api.documents import EMPTY, OCI_MANIFEST, fresh, image
from tests.api.small_disk import SmallDisk
from tests.conftest import require
from tests.parts.service import Service

MEGABYTE = 1 << 20


@pytest.fixture(scope="module", params=["blobs", "everything"])
def full(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, SmallDisk]]:
    """A service with its blobs, or all its data, on a disk of 24 MB."""
    require(disk_part)
    folder: Path = tmp_path_factory.mktemp("disk")
    database = {"url": f"sqlite:///{folder}/registry.sqlite"} if request.param == "blobs" else {}
    overrides = {"projects": PROJECTS, "data_dir": str(folder / "mounted" / "data"), "database": database}
    with (
        disk_part.small_disk(folder / "mounted", 24) as disk,
        Service(folder / "service", processes=2, overrides=overrides) as service,
    ):
        yield service, disk


def full_disk(answer: Answer) -> None:
    """An answer that tells of the full disk, and what to do about it."""
    assert answer.status in (503, 507), answer
    error = refusal(answer)
    assert error["code"] == "UNAVAILABLE"
    assert "operators" in error["message"] or "try again" in error["message"], answer
    assert "Errno" not in error["message"]


def test_a_full_disk(full: tuple[Service, SmallDisk]) -> None:
    service, disk = full
    admin = Registry(service.host, service.username, service.password)
    name, layer = "lab/full", fresh(MEGABYTE)
    admin.push_blob(name, EMPTY)
    admin.push_blob(name, layer)
    payload = image(layer)
    admin.push_manifest(name, "before", payload, OCI_MANIFEST)
    data = fresh(6 * MEGABYTE)
    session = location(expect(admin.call("PATCH", admin.begin(name), data[:MEGABYTE]), 202))
    one_post = admin.token(f"repository:{name}:pull,push,delete")

    disk.fill()
    workers = set(service.pids())
    for _ in range(3):
        full_disk(admin.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(data)}", data, token=one_post))
        full_disk(admin.call("PATCH", session, data[MEGABYTE:]))
        full_disk(admin.call("PUT", closing(session, digest_of(data)), data[MEGABYTE:]))
        assert admin.pull_image(name, "before")[digest_of(layer)] == layer
        assert admin.tags(name) == ["before"]
        assert admin.blob(name, digest_of(data)).status == 404
    assert set(service.pids()) == workers, "a worker died of it"

    disk.clear()
    kept = int(expect(admin.call("GET", session), 204)["Range"].removeprefix("0-")) + 1
    assert kept >= MEGABYTE
    expect(admin.call("PUT", closing(session, digest_of(data)), data[kept:]), 201)
    assert admin.blob(name, digest_of(data)).body == data
    admin.push_manifest(name, "after", image(layer, data), OCI_MANIFEST)
    assert admin.tags(name) == ["after", "before"]


def test_room_for_a_little(full: tuple[Service, SmallDisk]) -> None:
    """A layer that does not fit does not stand in the way of one that does."""
    service, disk = full
    admin = Registry(service.host, service.username, service.password)
    name, large = "lab/tight", fresh(12 * MEGABYTE)
    disk.fill(leave=4 * MEGABYTE)
    try:
        for number in range(4):
            small = fresh(MEGABYTE // 4)
            path = f"/v2/{name}/blobs/uploads/?digest={digest_of(large)}"
            session = admin.begin(name)
            if number % 2:
                full_disk(admin.call("PUT", closing(session, digest_of(large)), large))
            else:
                full_disk(admin.call("POST", path, large))
            admin.push_blob(name, small)
            assert admin.blob(name, digest_of(small)).body == small
    finally:
        disk.clear()


def test_nothing_was_taken_for_a_fault(full: tuple[Service, SmallDisk]) -> None:
    """A full disk is told to clients in words; it is no error of ours, and no worker dies of it."""
    service, _ = full
    assert "Traceback" not in service.log()
    assert "starting another" not in service.log()
