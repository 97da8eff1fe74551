"""Charts as people may push them: what is read of them, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

import pytest

from app.access.errors import Invalid
from app.registry.charts import ChartFiles, Dependency, read_chart, read_files


def archive(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_the_chart_s_own_files_are_read() -> None:
    files = {
        "web/charts/db/values.yaml": b"of a dependency",
        "web/Chart.yaml": b"name: web",
        "web/values.yaml": b"replicas: 2\xff",
        "web/README.md": b"# Web",
        "web/templates/x": b"",
    }
    assert read_files(archive(files)) == ChartFiles("replicas: 2\ufffd", "# Web")
    assert read_files(archive({"web/Chart.yaml": b""})) == ChartFiles("", "")
    long = read_files(archive({"web/values.yaml": b"x" * 200_000}))
    assert len(long.values) == 64 * 1024


def test_links_are_no_files() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("web/values.yaml")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    assert read_files(packed.getvalue()) == ChartFiles("", "")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        gzip.compress(b"no tar" * 200),
        archive({"web/values.yaml": b"x" * 5000})[:60],
        # It unpacks to more than 32 MiB.
        archive({"web/big": bytes(40 * 1024 * 1024), "web/values.yaml": b"x"}),
    ],
    ids=["empty", "text", "no tar", "cut", "bomb"],
)
def test_what_cannot_be_read_is_refused(content: bytes) -> None:
    with pytest.raises(Invalid):
        read_files(content)


def test_a_config_is_read_without_trust() -> None:
    chart = read_chart(
        json.dumps(
            {
                "name": "web", "version": "1.0+b", "appVersion": 7, "description": "\ud800", "deprecated": "yes",
                "sources": ["https://example.org", 5], "maintainers": [{"name": "Mari"}, "x"],
                "dependencies": [{"name": "db", "version": "1", "repository": "oci://x"}, None, {}], "kubeVersion": [],
            }
        ).encode()
    )  # fmt: skip
    assert chart is not None
    assert (chart.name, chart.version, chart.app_version, chart.description) == ("web", "1.0+b", "", "?")
    assert not chart.deprecated
    assert (chart.sources, chart.maintainers) == (["https://example.org"], ["Mari"])
    assert chart.dependencies == [Dependency("db", "1", "oci://x"), Dependency("", "", "")]
    assert read_chart(b"[]") is None
    assert read_chart(b"{") is None
