"""The runner reports failures as failures, and a suite that did not run as one that did not.

Debian's docker-registry knows neither referrers nor sha512: the suite has much to say about it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import require
from tests.parts import distribution as distribution_part
from tests.parts.distribution import Distribution, distribution

from .suite import NotRun, run


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Distribution]:
    require(distribution_part)
    with distribution(tmp_path_factory.mktemp("registry")) as peer:
        yield peer


@pytest.mark.parametrize("version", ["1.1", "dev"])
def test_a_registry_that_lacks_much(peer: Distribution, version: str) -> None:
    result = run(peer.host, f"docker-registry-{version}", version=version)
    failed = {step.name for step in result.failures}
    assert "empty/referrers" in failed
    assert len(failed) > 50
    assert result.passed > 300
    assert result.apis["Referrers"] == "FAIL"
    assert result.apis["Manifest delete"] == "Pass"
    assert "Referrers: FAIL" in result.not_passed
    assert "Manifest delete: Pass" not in result.not_passed
    assert "expected one of [200], received 404" in result.summary()
    assert any("~~~ RESPONSE ~~~" in step.exchange for step in result.failures)


def test_nobody_answers() -> None:
    result = run("127.0.0.1:9", "nobody", version="1.1")
    assert result.failures
    assert result.not_passed


def test_a_version_that_the_suite_does_not_know(peer: Distribution) -> None:
    with pytest.raises(NotRun, match=r"(?s)ended with 0 and left no result:.*unsupported config version"):
        run(peer.host, "unknown-version", version="9.9")
