"""The inventory `single`: what the playbook makes of a bare host, and what it does the second time."""

from __future__ import annotations

import hashlib
import html
import json
import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from xml.etree import ElementTree

import pytest

from app.kit.watchdog import SILENT_SECONDS
from tests.images import multi
from tests.parts.dockerd import Docker
from tests.parts.process import wait_for

from .conftest import NAME, PASSWORD, SETUP_SECONDS, Site
from .crowd import basic, connect
from .hosts import Bed
from .playbook import Inventory

pytestmark = [pytest.mark.long, pytest.mark.timeout(SETUP_SECONDS)]

# A file of the role's, which somebody edits by hand.
_EDITED = "/usr/local/sbin/registry-admin"
_READ = f"cat {_EDITED}"
_NEEDED = (
    "nginx", "postgresql@15-main", "redis-server", "prometheus", "prometheus-node-exporter", "registry@1", "registry@2",
)  # fmt: skip
_UNITS = ("registry@1.service", "registry@2.service", "registry-migrate.service")
_OTHERS = (
    "nginx.service", "postgresql@15-main.service", "redis-server.service", "prometheus.service",
    "prometheus-node-exporter.service", "registry-backup.service", "registry-certificate-age.service",
)  # fmt: skip


def test_docker_pulls_through_the_mirror(site: Site, client: Docker) -> None:
    client.run("pull", f"{NAME}/mirror/library/redis")
    assert site.image.digest in client.run("image", "inspect", f"{NAME}/mirror/library/redis")
    assert site.host.inside(site.hub.counters).get_manifest > 0


def test_docker_pushes_and_pulls_back(site: Site, client: Docker) -> None:
    site.host.ssh("registry-admin create-project lab --public")
    client.run("login", "--username", "admin", "--password", PASSWORD, NAME)
    client.run("pull", f"{NAME}/mirror/library/redis")
    client.run("tag", f"{NAME}/mirror/library/redis", f"{NAME}/lab/redis:mine")
    client.run("push", f"{NAME}/lab/redis:mine")
    client.run("logout", NAME)
    client.forget(f"{NAME}/lab/redis:mine", f"{NAME}/mirror/library/redis")
    client.run("pull", f"{NAME}/lab/redis:mine")


def test_the_university_is_told_who_asks(site: Site) -> None:
    metadata = site.curl("/saml/metadata")
    document = ElementTree.fromstring(metadata)
    assert document.get("entityID") == f"https://{NAME}/saml/metadata"
    consumer = document.find(".//{*}AssertionConsumerService")
    assert consumer is not None
    assert consumer.get("Location") == f"https://{NAME}/saml/acs"
    shown = {"".join((element.text or "").split()) for element in document.iterfind(".//{*}X509Certificate")}
    own = (site.university.folder / "cert/service.crt").read_text().splitlines()[1:-1]
    assert shown == {"".join(own)}
    site.university.trust(f"https://{NAME}", metadata.encode())
    page = site.curl("/saml/login", "--location", "--cookie", "")
    assert 'name="username"' in page, "the identity provider knows us and asks who it is"


def test_the_guide_is_served_with_its_pictures(site: Site) -> None:
    page = site.curl("/help")
    assert f"{NAME} keeps container images" in page
    picture = re.search(r'src="(/help/images/[^"]+)"', page)
    assert picture is not None
    assert "content-type: image/png" in site.curl(html.unescape(picture[1]), "--head").lower()


def test_a_second_run_changes_only_what_was_edited_by_hand(site: Site) -> None:
    """The run puts the file back, and nothing else is to be done."""
    before = site.host.ssh(_READ)
    site.host.ssh(f"echo '# by hand' >> {_EDITED}")
    second = site.inventory.play("site.yml")
    assert (second.status, second.changed, second.failed) == (0, 1, 0), _changes(second.output)
    assert site.host.ssh(_READ) == before


def test_check_mode_says_what_a_run_would_change(site: Site) -> None:
    before = site.host.ssh(_READ)
    site.host.ssh(f"echo '# by hand' >> {_EDITED}")
    checked = site.inventory.play("site.yml", "--check", "--diff")
    assert (checked.status, checked.changed) == (0, 1), _changes(checked.output)
    assert "-# by hand" in checked.output
    assert "...ignoring" not in checked.output
    assert site.host.ssh(_READ) == f"{before}# by hand\n"
    assert site.inventory.play("site.yml").changed == 1


def test_check_mode_on_a_bare_host(site: Site, bed: Bed) -> None:
    bare = bed.boot("bare")
    variables = {**site.inventory.hosts["registry1"], **bare.variables}
    checked = Inventory("single", bare.key.parent / "bare", {"registry1": variables}).play("site.yml", "--check")
    assert checked.status == 0, checked.output[-4000:]
    assert not re.search(r"^(fatal|failed):|\.\.\.ignoring", checked.output, re.MULTILINE), _changes(checked.output)
    assert bare.ssh("ls /etc/registry /opt/registry /etc/nginx 2>/dev/null || true") == ""


@pytest.mark.parametrize(("unit", "most"), [*((unit, 2.0) for unit in _UNITS), *((unit, 4.0) for unit in _OTHERS)])
def test_units_are_hardened(site: Site, unit: str, most: float) -> None:
    said = site.host.ssh(f"systemd-analyze security --no-pager {unit} | tail --lines=1")
    assert float(said.split(": ")[1].split()[0]) <= most


def test_logs_are_not_for_everybody_and_are_rotated(site: Site) -> None:
    readable = "find /var/log/nginx /var/log/postgresql -type f -perm /o=r"
    assert site.host.ssh(readable) == ""
    site.curl("/v2/")
    site.host.ssh("logrotate --force /etc/logrotate.d/nginx")
    site.curl("/v2/", "--header", "X-After: rotation")
    assert site.host.ssh("sleep 1.5; cat /var/log/nginx/registry.log") != "", "nginx writes to the new one"
    assert site.host.ssh(readable) == ""


def test_answers_are_kept_in_memory(site: Site) -> None:
    """A full disk does not stop what needs none."""
    number = site.host.ssh("systemctl show --value --property MainPID nginx").strip()
    mounts = site.host.ssh(f"cat /proc/{number}/mounts").splitlines()
    kinds = {line.split()[1]: line.split()[2] for line in mounts}
    assert kinds["/var/cache/nginx/answers"] == "tmpfs"


def test_more_workers_and_fewer_again(site: Site) -> None:
    """The number drives all roles; what the inventory no longer has goes."""
    credentials = {**site.inventory.hosts["registry1"]["registry_credentials"], "spare": "tests-spare-secret"}
    roles = ("--tags", "registry,nginx,monitoring")
    more = site.inventory.play("site.yml", *roles, registry_workers=3, registry_credentials=credentials)
    assert more.status == 0, _changes(more.output)
    assert _answering(site) == {"/metrics/1": "200", "/metrics/2": "200", "/metrics/3": "200"}
    assert site.host.ssh("cat /etc/registry/credentials/spare") == "tests-spare-secret\n"
    fewer = site.inventory.play("site.yml", *roles)
    assert fewer.status == 0, _changes(fewer.output)
    assert _answering(site) == {"/metrics/1": "200", "/metrics/2": "200", "/metrics/3": "404"}
    assert site.host.ssh("systemctl is-active registry@3 || true; systemctl is-enabled registry@3 || true").split() == [
        "inactive", "disabled",
    ]  # fmt: skip
    assert site.host.ssh("ls /etc/registry/credentials").split() == [
        "admin-password", "database-url", "redis-url", "saml-certificate", "saml-key", "secret-key"
    ]  # fmt: skip
    again = site.inventory.play("site.yml", *roles)
    assert (again.status, again.changed) == (0, 0), _changes(again.output)


def _answering(site: Site) -> dict[str, str]:
    ask = "curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:9180"
    return {path: site.host.ssh(f"{ask}{path}") for path in ("/metrics/1", "/metrics/2", "/metrics/3")}


def test_secrets_are_with_root_only(site: Site) -> None:
    others = "setpriv --reuid www-data --regid www-data --init-groups"
    listed = site.host.ssh(
        "stat --format '%a %U' /etc/registry/credentials /etc/registry/credentials/* /etc/nginx/tls/*.key"
    )
    assert set(listed.splitlines()) == {"700 root", "600 root"}
    for unit in _UNITS[:2]:
        number = site.host.ssh(f"systemctl show --value --property MainPID {unit}").strip()
        assert PASSWORD not in site.host.ssh(f"tr '\\0' '\\n' < /proc/{number}/environ; cat /etc/registry/config.yaml")
    assert "Permission denied" in site.host.ssh(f"{others} cat /etc/registry/credentials/secret-key 2>&1 || true")


def test_secrets_are_not_shown_by_the_play(site: Site) -> None:
    shown = site.first.output
    for secret in (PASSWORD, "0123456789abcdef" * 4, "PRIVATE KEY"):
        assert secret not in shown


def test_blobs_come_from_the_web_server(site: Site) -> None:
    site.host.inside(lambda: site.hub.add(multi("blob"), "library/blob", "latest"))
    digest = next(iter(multi("blob").blobs))
    token = json.loads(site.curl(f"/service/token?service={NAME}&scope=repository:mirror/library/blob:pull"))["token"]
    bearer = ("--header", f"Authorization: Bearer {token}")
    document = json.loads(site.curl("/v2/mirror/library/blob/manifests/latest", *bearer))
    child = json.loads(site.curl(f"/v2/mirror/library/blob/manifests/{document['manifests'][0]['digest']}", *bearer))
    digest = child["layers"][0]["digest"]
    headers = ""
    for _ in range(2):  # the first is a fill, which the worker sends
        headers = site.curl(
            f"/v2/mirror/library/blob/blobs/{digest}", *bearer, "--dump-header", "-", "--output", "/dev/null"
        )
    assert f"docker-content-digest: {digest}" in headers.lower()
    assert f'etag: "{digest}"' in headers.lower()
    assert "content-security-policy: sandbox" in headers.lower()
    assert "x-accel-redirect" not in headers.lower()
    log = [json.loads(line) for line in site.host.ssh("sleep 1.5; cat /var/log/nginx/registry.log").splitlines()]
    # The second was sent by nginx, and counts with all its bytes.
    sent = [line for line in log if line.get("digest") == digest and line["method"] == "GET"]
    assert [line["repository"] for line in sent] == ["mirror/library/blob"] * 2
    assert min(line["bytes"] for line in sent) > 0


def test_one_blob_meets_one_worker(site: Site) -> None:
    digests = [f"sha256:{number:064x}" for number in range(8)]
    for digest in digests * 3:
        site.curl(f"/v2/mirror/library/nothing/blobs/{digest}", "--head", "--output", "/dev/null")
    log = [json.loads(line) for line in site.host.ssh("sleep 1.5; cat /var/log/nginx/registry.log").splitlines()]
    workers = [{line["worker"] for line in log if line["path"].endswith(digest)} for digest in digests]
    assert all(len(met) == 1 for met in workers)
    assert len(set.union(*workers)) == 2


def test_bodies_are_streamed_to_the_worker(site: Site) -> None:
    site.host.ssh("registry-admin create-project streamed")
    with closing(connect(site)) as connection:
        connection.request("POST", "/v2/streamed/x/blobs/uploads/", headers=basic())
        answer = connection.getresponse()
        answer.read()
        path = answer.headers["Location"].removeprefix(f"https://{NAME}")
    with closing(connect(site)) as connection:
        connection.putrequest("PATCH", path)
        for header, value in {**basic(), "Content-Length": str(64 << 20)}.items():
            connection.putheader(header, value)
        connection.endheaders()
        for _ in range(8):
            connection.send(bytes(1 << 20))

        def arrived() -> bool:
            # The request is still open: what the worker has can only have come through.
            size = site.host.ssh("find /var/lib/registry/blobs -type f -newermt '-60 seconds' -size +3M")
            return size != ""

        wait_for(arrived, what="half a body to have reached the store", timeout=30, interval=0.5)


def test_anonymous_answers_are_given_again(site: Site) -> None:
    path = f"/service/token?service={NAME}&scope=repository:mirror/library/redis:pull"
    tokens = {site.curl(path) for _ in range(5)}
    bearer = ("--header", f"Authorization: Bearer {json.loads(tokens.pop())['token']}")
    before = _requests(site, "manifests")
    bodies = {site.curl("/v2/mirror/library/redis/manifests/latest", *bearer) for _ in range(20)}
    assert {hashlib.sha256(body.encode()).hexdigest() for body in bodies} == {site.image.digest.removeprefix("sha256:")}
    assert _requests(site, "manifests") - before < 10


def test_answers_are_not_given_to_somebody_else(site: Site) -> None:
    path = "/v2/mirror/library/redis/manifests/latest"
    refused = site.curl(
        path, "--header", "Authorization: Bearer wrong", "--output", "/dev/null", "--write-out", "%{http_code}"
    )
    assert refused == "401"


def test_metrics_are_for_the_monitoring_network(site: Site) -> None:
    status = ("--output", "/dev/null", "--write-out", "%{http_code}")
    assert site.curl("/metrics", *status) == "404"
    outside = f"curl --silent --max-time 5 {' '.join(status)} http://{site.host.address}:9180/metrics/1"
    assert site.host.ssh(outside) == "403"
    with pytest.raises(TimeoutError), socket.create_connection((site.host.address, 9180), timeout=3):
        pass  # the firewall lets nobody through


def test_prometheus_scrapes_every_worker(site: Site) -> None:
    def scraped() -> bool:
        up = {tuple(one["metric"].get(key) for key in ("job", "worker")): one["value"][1] for one in _query(site, "up")}
        asked = [("registry", "1"), ("registry", "2"), *((job, None) for job in ("node", "proxy", "ready", "outside"))]
        return up == dict.fromkeys(asked, "1")

    try:
        wait_for(scraped, what="Prometheus to have scraped both workers and the host", timeout=60, interval=1)
    except TimeoutError as error:
        raise AssertionError(_query(site, "up")) from error


@pytest.mark.parametrize(
    "metric",
    [
        "registry_requests_total", "registry_request_seconds_bucket", "registry_fills_running", "registry_budget_limit",
        "registry_quota_projects", "registry_certificate_end_seconds", "node_filesystem_avail_bytes",
    ],
)  # fmt: skip
def test_prometheus_has_what_alerts_ask_for(site: Site, client: Docker, metric: str) -> None:
    client.run("pull", f"{NAME}/mirror/library/redis")
    wait_for(lambda: _query(site, metric) != [], what=f"Prometheus to have {metric}", timeout=60, interval=1)


def _query(site: Site, query: str) -> list[dict[str, Any]]:
    answer = site.host.ssh(f"curl --silent 'http://127.0.0.1:9090/api/v1/query?query={query}'")
    result: list[dict[str, Any]] = json.loads(answer)["data"]["result"]
    return result


def test_a_worker_is_restarted_without_a_failed_request(site: Site) -> None:
    status = ("--output", "/dev/null", "--write-out", "%{http_code}")
    site.host.ssh("systemctl kill --kill-whom=main --signal=KILL registry@1.service")
    assert {site.curl("/v2/", *status) for _ in range(20)} == {"401"}


def test_a_worker_that_hangs_is_left_within_seconds(site: Site) -> None:
    """Its supervisor kills it; the one of a whole unit is frozen in the cluster's tests."""
    worker = "p=$(systemctl show --value --property MainPID registry@1); [ $p -gt 0 ] && pgrep --parent $p || true"
    # The test before has killed this one.
    frozen = wait_for(lambda: site.host.ssh(worker), what="a worker", timeout=60, interval=1)
    site.host.ssh(f"kill -STOP {frozen}")
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: _status(site), range(16))) == {"401"}
    assert time.monotonic() - began < 3 * SILENT_SECONDS
    wait_for(lambda: site.host.ssh(worker) not in ("", frozen), what="another worker", timeout=60, interval=1)


def test_every_unit_comes_back_by_itself(site: Site) -> None:
    units = [f"{name}.service" for name in _NEEDED]
    for unit in units:
        site.host.ssh(f"systemctl kill --kill-whom=main --signal=KILL {unit}")

    def back() -> bool:
        states = site.host.ssh(f"systemctl is-active {' '.join(units)} || true").split()
        return set(states) == {"active"} and {_status(site) for _ in range(8)} == {"401"}

    wait_for(back, what="all units to be back", timeout=60, interval=1)
    ready = "curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:9180/readyz"
    wait_for(lambda: site.host.ssh(ready) == "200", what="the workers to be ready", timeout=60, interval=1)


def _status(site: Site) -> str:
    """Ask for the registry's version; an empty text if nobody listens."""
    try:
        return site.curl("/v2/", "--output", "/dev/null", "--write-out", "%{http_code}")
    except subprocess.CalledProcessError:
        return ""


def _requests(site: Site, route: str) -> int:
    """Count what all workers have answered, as the monitoring network sees it."""
    total = 0
    for worker in (1, 2):
        for line in site.host.ssh(f"curl --silent http://127.0.0.1:9180/metrics/{worker}").splitlines():
            if line.startswith("registry_requests_total{") and f'route="{route}"' in line:
                total += int(float(line.rpartition(" ")[2]))
    return total


def _changes(output: str) -> str:
    """Name the tasks that changed or failed."""
    tasks = re.split(r"^(?=TASK|RUNNING HANDLER)", output, flags=re.MULTILINE)
    return "\n".join(task[:3000] for task in tasks if re.search(r"^(changed|fatal|failed):", task, re.MULTILINE))
