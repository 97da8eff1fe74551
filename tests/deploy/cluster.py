"""The inventory `cluster` on three hosts that were bare Debian, with SeaweedFS as the site's S3, or one host alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.images import Image, multi
from tests.parts.process import ROOT, free_port
from tests.parts.service import merged
from tests.parts.weed import ObjectStore, weed
from tests.upstream.client import Hub

from .authority import Authority
from .conftest import introduce, variables
from .hosts import Bed, Host
from .playbook import Inventory, Outcome

REGISTRIES = ("registry1", "registry2")
SERVICES = "services1"


@dataclass(frozen=True)
class Way:
    """One of the ways in: a host's own address, or the balancer's."""

    address: str
    authority: Authority


@dataclass
class Cluster:
    """The hosts by name, each registry host's upstream, and what the first run said.

    A single host is here under all names, and has a folder instead of ``store``.
    """

    bed: Bed
    hosts: dict[str, Host]
    hubs: dict[str, Hub]
    image: Image
    store: ObjectStore | None
    inventory: Inventory
    authority: Authority
    first: Outcome

    @property
    def balancer(self) -> Way:
        return self.way(SERVICES)

    @property
    def services(self) -> Host:
        return self.hosts[SERVICES]

    def way(self, name: str) -> Way:
        return Way(self.hosts[name].address, self.authority)

    def seen(self) -> list[str]:
        """Say what the balancer has noticed since it started, such as ``registry1 DOWN``, oldest first."""
        lines = self.services.ssh("journalctl --unit haproxy --output cat --no-pager")
        return [f"{name} {what}" for name, what in re.findall(r"^Server ready/(\w+) is (UP|DOWN)", lines, re.MULTILINE)]


@contextmanager
def cluster(bed: Bed, release: Path, folder: Path) -> Iterator[Cluster]:
    """Boot three hosts and run the playbook once; all of it ends with the bed but what was started beside it."""
    authority = Authority(folder)
    hosts = {name: bed.boot(name) for name in (*REGISTRIES, SERVICES)}
    introduce(hosts[SERVICES], authority, hosts[SERVICES].address)
    with ExitStack() as stack:
        store = stack.enter_context(weed(folder / "weed", address=bed.address))
        store.bucket("registry")
        hubs = _hubs(hosts, folder, stack)
        image = multi("redis")
        for name, hub in hubs.items():
            hosts[name].inside(partial(hub.add, image, "library/redis", "latest"))
        shared = _shared(hosts, store, bed)
        inventory = Inventory(
            "cluster",
            folder,
            {
                name: {**variables(host, authority, release, hubs.get(name, hubs[REGISTRIES[0]]), bed), **shared}
                for name, host in hosts.items()
            },
        )
        for own in inventory.hosts.values():
            own["registry_config"] = merged(_inventory()["registry_config"], own["registry_config"])
        first = inventory.play("site.yml", timeout=2400)
        assert first.status == 0, first.output[-6000:]
        yield Cluster(bed, hosts, hubs, image, store, inventory, authority, first)


@contextmanager
def single(bed: Bed, release: Path, folder: Path) -> Iterator[Cluster]:
    """Boot one host whose disks are small, and run the playbook with the inventory `single`."""
    authority = Authority(folder)
    host = bed.boot(
        "alone",
        "--tmpfs=/var/lib/registry:mode=0755,size=400M,nr_inodes=20000",
        "--tmpfs=/var/lib/postgresql:mode=0755,size=400M",
    )
    introduce(host, authority, host.address)
    hub = host.inside(partial(Hub, folder / "upstream"))
    with closing(hub):
        own = {
            **variables(host, authority, release, hub, bed),
            "registry_workers": 2,
            "preflight_free_bytes": 200 << 20,
        }
        inventory = Inventory("single", folder, {REGISTRIES[0]: own})
        first = inventory.play("site.yml", timeout=2400)
        assert first.status == 0, first.output[-6000:]
        hosts = dict.fromkeys((*REGISTRIES, SERVICES), host)
        yield Cluster(bed, hosts, {REGISTRIES[0]: hub}, multi("redis"), None, inventory, authority, first)


def _hubs(hosts: dict[str, Host], folder: Path, stack: ExitStack) -> dict[str, Hub]:
    """Start an upstream in each registry host's network, all at the same address there."""
    hubs = {}
    port = free_port()
    for name in REGISTRIES:
        hubs[name] = hosts[name].inside(partial(Hub, folder / f"upstream-{name}", port=port))
        stack.callback(hubs[name].close)
    return hubs


def _shared(hosts: dict[str, Host], store: ObjectStore, bed: Bed) -> dict[str, Any]:
    """Give what the inventory `cluster` leaves to a site."""
    return {
        "registry_workers": 2,
        "cluster_services": hosts[SERVICES].address,
        "cluster_registries": {name: hosts[name].address for name in REGISTRIES},
        "cluster_network": f"{bed.address.rpartition('.')[0]}.0/24",
        "cluster_database_password": "tests-database-password",
        "cluster_redis_password": "tests-redis-password",
        "cluster_s3_secret": store.secret_access_key,
        "object_store_endpoint": store.endpoint_url,
        "object_store_access_key_id": store.access_key_id,
    }


def _inventory() -> dict[str, Any]:
    file = ROOT / "ansible/inventory/cluster/group_vars/all/main.yml"
    settings: dict[str, Any] = yaml.safe_load(file.read_text())
    return settings
