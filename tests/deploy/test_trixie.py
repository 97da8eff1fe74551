"""The inventory `single` on Debian 13, which is otherwise tried by the same means as on Debian 12."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.images import multi
from tests.upstream.client import Hub

from .authority import Authority
from .conftest import NAME, SETUP_SECONDS, variables
from .engine import engine
from .hosts import TRIXIE, Bed
from .playbook import Inventory

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * SETUP_SECONDS)]

_UNITS = (
    "nginx", "postgresql@17-main", "redis-server", "prometheus", "prometheus-node-exporter", "registry@1", "registry@2",
)  # fmt: skip


def test_a_bare_debian_13_becomes_a_registry(bed: Bed, release: Path, tmp_path: Path) -> None:
    """From nothing to the first pull; then a second run changes nothing, and every unit is in its sandbox."""
    authority = Authority(tmp_path)
    host = bed.boot("trixie1", suite=TRIXIE)
    assert host.ssh("cat /etc/debian_version").startswith("13.")
    hub = host.inside(lambda: Hub(tmp_path / "upstream"))
    try:
        image = host.inside(lambda: hub.add(multi("redis"), "library/redis", "latest"))
        inventory = Inventory("single", tmp_path, {"registry1": variables(host, authority, release, hub, bed)})
        first = inventory.play("site.yml")
        assert first.status == 0, first.output[-6000:]
        with engine(tmp_path / "engine", hosts={NAME: host.address}, authority=authority.file) as docker:
            docker.run("pull", f"{NAME}/mirror/library/redis")
            assert image.digest in docker.run("image", "inspect", f"{NAME}/mirror/library/redis")
        second = inventory.play("site.yml")
        assert (second.status, second.changed) == (0, 0), second.output[-6000:]
    finally:
        hub.close()
    assert set(host.ssh(f"systemctl is-active {' '.join(_UNITS)}").split()) == {"active"}
    for unit in _UNITS:
        shown = host.ssh(f"systemd-analyze security --no-pager {unit}.service | tail --lines=1")
        assert float(shown.split(": ")[1].split()[0]) <= 4.0, unit
