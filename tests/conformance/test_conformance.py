"""No failure at version 1.1 of the specification nor at dev: as the service ships, and as the roles install it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.service import Service

from .suite import Result, run

pytestmark = pytest.mark.long

PROJECT = {"projects": {"conformance": {"public": False}}}


@pytest.fixture(scope="module", params=["as it ships", "as the roles install it"])
def shape(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Service]]:
    """The service in one of its shapes, and a name for it: one worker on SQLite, or two on PostgreSQL, Redis and S3."""
    folder: Path = tmp_path_factory.mktemp("service")
    if request.param == "as it ships":
        with Service(folder, overrides=PROJECT) as service:
            yield "shipped", service
        return
    database = request.getfixturevalue("postgres").database()
    redis = request.getfixturevalue("valkey_process").url
    s3 = request.getfixturevalue("object_store").bucket("conformance")
    with Service(folder, processes=2, database=database, redis=redis, s3=s3, overrides=PROJECT) as service:
        yield "installed", service


def conformance(service: Service, name: str, version: str, *, keep_tokens: bool = True) -> Result:
    return run(
        service.host,
        name,
        version=version,
        repositories=(f"conformance/{name}/repo1", f"conformance/{name}/repo2"),
        credentials=(service.username, service.password),
        keep_tokens=keep_tokens,
    )


@pytest.mark.parametrize("version", ["1.1", "dev"])
def test_conformance(shape: tuple[str, Service], version: str) -> None:
    name, service = shape
    result = conformance(service, f"{name}-{version}", version)
    assert not result.failures, result.summary()
    assert not result.not_passed, result.summary()
    assert result.passed > 600, result.summary()
    # The suite keeps the token it first got for a repository; a mount needs one for both, and falls back to sending.
    expected = {"mount/blob-mount"} | ({"post cancel/blob-post-cancel"} if version == "1.1" else set())
    assert {step.name.split("/", 1)[1] for step in result.skipped} <= expected, result.summary()


@pytest.mark.parametrize("shape", ["as the roles install it"], indirect=True)
def test_every_request_with_a_token_of_its_own(shape: tuple[str, Service]) -> None:
    name, service = shape
    result = conformance(service, f"{name}-tokens", "dev", keep_tokens=False)
    assert not result.failures, result.summary()
    assert not result.skipped, "\n".join(map(str, result.skipped))
