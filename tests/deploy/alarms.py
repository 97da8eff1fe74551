"""A real fault on one host for each alert that no fault of `faults` raises, with what clients ask meanwhile.

Three alerts have none. The hosts of these tests share the clock and the memory of this machine, so `RegistryClockWrong`
and `RegistryMemoryLow` would be faults of the machine. `RegistryClockNotKept` says the same of all containers.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from tests.images import Image, single
from tests.upstream.client import Hub

from .cluster import REGISTRIES, Cluster
from .conftest import NAME
from .crowd import ask, basic
from .faults import POSTGRESQL, token

# What is asked while the alert is waited for, again and again.
Ask = Callable[[Cluster], None]
_TLS = "/etc/nginx/tls/registry"
_PROMETHEUS = "/var/lib/prometheus/node-exporter"


def _nothing(_made: Cluster) -> None:
    pass


def _hub(made: Cluster) -> Hub:
    return made.hubs[REGISTRIES[0]]


def _on_hub(made: Cluster, do: Callable[[Hub], object]) -> None:
    """Do something with the upstream, which is in the host's network."""
    made.services.inside(lambda: do(_hub(made)))


def _new_image(made: Cluster, pull: Callable[[Cluster, str, Image], None]) -> None:
    """Pull an image that is not here yet."""
    name = f"library/new-{uuid.uuid4().hex[:8]}"
    image = single(name)
    _on_hub(made, lambda hub: hub.add(image, name, "1"))
    pull(made, name, image)


def _manifest(made: Cluster, name: str, _image: Image) -> None:
    bearer = {"Authorization": f"Bearer {token(made.balancer, f'repository:mirror/{name}:pull', {})}"}
    ask(made.balancer, "GET", f"/v2/mirror/{name}/manifests/1", headers=bearer)


def _layer(made: Cluster, name: str, image: Image) -> None:
    _manifest(made, name, image)
    bearer = {"Authorization": f"Bearer {token(made.balancer, f'repository:mirror/{name}:pull', {})}"}
    for digest in image.blobs:
        ask(made.balancer, "GET", f"/v2/mirror/{name}/blobs/{digest}", headers=bearer)


def _from_worker(made: Cluster) -> None:
    """Ask what only a worker answers; nginx says 502 if there is none."""
    ask(made.balancer, "GET", f"/api/v2.0/projects?q=name%3D{uuid.uuid4().hex}", headers=basic())


@contextmanager
def _commands(made: Cluster, begin: str, end: str) -> Iterator[None]:
    made.services.ssh(begin)
    try:
        yield
    finally:
        made.services.ssh(end)


def _stopped(made: Cluster, units: str) -> AbstractContextManager[None]:
    return _commands(made, f"systemctl stop {units}", f"systemctl start {units}")


@contextmanager
def _upstream(made: Cluster, do: Callable[[Hub], None]) -> Iterator[None]:
    _on_hub(made, do)
    try:
        yield
    finally:

        def undo(hub: Hub) -> None:
            hub.clear_faults()
            hub.pace()
            hub.up()
            hub.limit(1000)

        _on_hub(made, undo)


@contextmanager
def _certificate_ends(made: Cluster) -> Iterator[None]:
    pair = made.authority.certify(NAME, days=3)
    made.services.ssh(f"for kind in pem key; do cp {_TLS}.$kind {_TLS}.$kind.before; done")
    made.services.ssh(f"cat > {_TLS}.pem <<'END'\n{pair.certificate}\nEND\ncat > {_TLS}.key <<'END'\n{pair.key}\nEND")
    made.services.ssh("systemctl reload nginx; systemctl start registry-certificate-age")
    try:
        yield
    finally:
        made.services.ssh(f"for kind in pem key; do mv {_TLS}.$kind.before {_TLS}.$kind; done")
        made.services.ssh("systemctl reload nginx; systemctl start registry-certificate-age")


@contextmanager
def _quota_nearly_used(made: Cluster) -> Iterator[None]:
    name = f"full-{uuid.uuid4().hex[:8]}"
    kind = {"Content-Type": "application/json", **basic()}
    body = json.dumps({"project_name": name, "storage_limit": 108_000}).encode()
    assert ask(made.balancer, "POST", "/api/v2.0/projects", body, headers=kind)[0] == 201
    bearer = {"Authorization": f"Bearer {token(made.balancer, f'repository:{name}/x:pull,push', basic())}"}
    # With its config and its rows, 97 % of the quota.
    image = single(name, sizes=(95_000,))
    for digest, data in image.blobs.items():
        assert (
            ask(made.balancer, "POST", f"/v2/{name}/x/blobs/uploads/?digest={digest}", data, headers=bearer)[0] == 201
        )
    headers = {"Content-Type": image.media_type, **bearer}
    assert ask(made.balancer, "PUT", f"/v2/{name}/x/manifests/1", image.payload, headers=headers)[0] == 201
    yield
    assert ask(made.balancer, "DELETE", f"/api/v2.0/projects/{name}/repositories/x", headers=basic())[0] == 200
    assert ask(made.balancer, "DELETE", f"/api/v2.0/projects/{name}", headers=basic())[0] == 200


@contextmanager
def _plan_is_late(made: Cluster) -> Iterator[None]:
    """Plan an image for a time before the upstream allows it."""
    with _upstream(made, lambda hub: hub.limit(0)):
        due = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 1800))
        plan = {
            "title": "class",
            "text": f"{NAME}/mirror/library/planned:1",
            "platforms": ["linux/amd64"],
            "due_at": due,
        }
        _on_hub(made, lambda hub: hub.add(single("planned"), "library/planned", "1"))
        kind = {"Content-Type": "application/json", **basic()}
        status, headers, said = ask(made.balancer, "POST", "/api/v2.0/plans", json.dumps(plan).encode(), headers=kind)
        assert status == 201, said
        yield
        assert (
            ask(made.balancer, "DELETE", headers["Location"].removeprefix(f"https://{NAME}"), headers=basic())[0] == 200
        )


def _backup_fails(made: Cluster) -> AbstractContextManager[None]:
    return _commands(
        made,
        f"systemctl stop {POSTGRESQL}; systemctl start registry-backup || true; systemctl start {POSTGRESQL}",
        "systemctl reset-failed registry-backup",
    )


def _backup_is_old(made: Cluster) -> AbstractContextManager[None]:
    """Let the measured time of the last good backup be of two days ago."""
    measured = f"$(grep --files-with-matches registry_backup_success {_PROMETHEUS}/*.prom)"
    old = "s/^(registry_backup_success_seconds) .*/\\1 '$(($(date +%s) - 172800))'/"
    return _commands(
        made,
        f"systemctl start registry-backup; sed --regexp-extended --in-place '{old}' {measured}",
        "systemctl start registry-backup",
    )


def _no_inodes(made: Cluster) -> AbstractContextManager[None]:
    folder = "/var/lib/registry/many"
    fill = f"mkdir {folder}; cd {folder}; seq 1 19500 | xargs touch 2>/dev/null || true"
    return _commands(made, fill, f"rm -r {folder}")


def _spoilt(hub: Hub) -> None:
    hub.fault("cdn", "corrupt", times=None)


def _stalled(hub: Hub) -> None:
    hub.fault("cdn", "stall", times=None, seconds=600, after=100)


Alarm = tuple[Callable[[Cluster], AbstractContextManager[None]], Ask]
# How each alert is raised. The first needs a host that has never had a backup.
ALARMS: Mapping[str, Alarm] = {
    "RegistryBackupNever": (lambda made: _commands(made, "true", "systemctl start registry-backup"), _nothing),
    "RegistryBackupOld": (_backup_is_old, _nothing),
    "RegistryUnitFailed": (_backup_fails, _nothing),
    "RegistryNotCounted": (partial(_stopped, units="registry-proxy-log"), _nothing),
    "RegistryHostDown": (partial(_stopped, units="prometheus-node-exporter"), _nothing),
    "RegistryErrors": (partial(_stopped, units="registry@1 registry@2"), _from_worker),
    "RegistryCertificateEnds": (_certificate_ends, _nothing),
    "RegistryServedCertificateEnds": (_certificate_ends, _nothing),
    "RegistryQuotaNearlyUsed": (_quota_nearly_used, _nothing),
    "RegistryInodesLow": (_no_inodes, _nothing),
    "RegistryFillsFail": (partial(_upstream, do=_spoilt), partial(_new_image, pull=_layer)),
    "RegistryFillsStuck": (partial(_upstream, do=_stalled), partial(_new_image, pull=_layer)),
    "RegistryUpstreamFailing": (partial(_upstream, do=Hub.down), partial(_new_image, pull=_manifest)),
    "RegistrySlow": (partial(_upstream, do=lambda hub: hub.pace(latency=3)), partial(_new_image, pull=_manifest)),
    "RegistryBudgetLow": (partial(_upstream, do=lambda hub: hub.limit(20)), partial(_new_image, pull=_manifest)),
    "RegistryPlanLate": (_plan_is_late, _nothing),
    "RegistryBudgetDenies": (partial(_upstream, do=lambda hub: hub.limit(0)), partial(_new_image, pull=_manifest)),
}
# Those whose fault would be one of this machine; `promtool test rules` raises them with invented samples.
WITHOUT = {"RegistryClockWrong", "RegistryClockNotKept", "RegistryMemoryLow"}
