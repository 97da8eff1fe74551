"""The event that nginx writes of each request, with the worker's part in it, by the role's own configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.api.client import Registry, expect, refused
from tests.api.documents import fresh
from tests.conftest import require
from tests.images import single
from tests.parts.process import free_port, wait_for
from tests.parts.service import Service
from tests.upstream.client import Hub

from . import webserver as part
from .authority import Authority
from .webserver import WebServer, webserver

ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"}


@dataclass
class Site:
    """A service that hands its part to nginx, and that nginx."""

    service: Service
    nginx: WebServer
    hub: Hub

    def ask(
        self, path: str, scope: str = "", headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> tuple[Any, dict[str, Any]]:
        """Send a request through nginx; give the answer and its event."""
        token = {"Authorization": f"Bearer {Registry(self.service.host).token(scope)}"} if scope else {}
        answer = self.nginx.call(method, path, {**token, **ACCEPT, **(headers or {})})
        assert "X-Registry-Event" not in answer.headers
        return answer, self.event(answer["X-Request-Id"])

    def event(self, request_id: str) -> dict[str, Any]:
        """Wait for the event of a request; there is one."""
        wait_for(lambda: self.events(request_id), what="the event")
        (event,) = self.events(request_id)
        return event

    def events(self, request_id: str) -> list[dict[str, Any]]:
        """Read the events of a request that are written."""
        lines = (self.nginx.folder / "log/registry.log").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event.get("request_id") == request_id]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require(part)
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def site(authority: Authority, hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("events")
    overrides = {
        "server": {"events": "header", "trusted_proxies": ["127.0.0.0/8"]},
        "storage": {"delivery": "accel"},
        "projects": {"mirror": {"upstream": "docker.io"}, "lab": {"public": True}},
    }
    data = str(folder / "service/data")
    with (
        Service(folder / "service", upstream=hub_process.url, overrides=overrides) as service,
        webserver(folder / "nginx", authority, service.host, nginx_data_dir=data) as nginx,
    ):
        yield Site(service, nginx, hub_process)


def test_a_blob_that_nginx_sends_has_its_repository_and_the_bytes_sent(site: Site) -> None:
    data = fresh(200_000)
    digest = Registry(site.service.host, site.service.username, site.service.password).push_blob("lab/app", data)
    path = f"/v2/lab/app/blobs/{digest}"
    _, event = site.ask(path, "repository:lab/app:pull")
    expected = {
        "method": "GET", "path": path, "status": 200, "bytes": 200_000, "client": "127.0.0.1", "complete": "OK",
        "route": "blobs", "who": "anonymous", "repository": "lab/app", "reference": digest, "digest": digest,
        "outcome": "hit", "by": "worker",
    }  # fmt: skip
    assert {name: event[name] for name in expected} == expected
    _, event = site.ask(path, "repository:lab/app:pull", {"Range": "bytes=0-9"})
    assert (event["status"], event["bytes"], event["repository"]) == (206, 10, "lab/app")


def test_a_cold_and_a_repeated_manifest(site: Site) -> None:
    image = single("events 1", sizes=(1000,))
    site.hub.reset()
    site.hub.add(image, "library/events", "1")
    path, scope = "/v2/mirror/library/events/manifests/1", "repository:mirror/library/events:pull"
    token = {"Authorization": f"Bearer {Registry(site.service.host).token(scope)}"}
    _, cold = site.ask(path, headers=token)
    assert (cold["outcome"], cold["by"], cold["pulls"]) == ("filled", "worker", 1)
    assert cold["upstream_ms"] > 0
    assert (cold["repository"], cold["reference"]) == ("mirror/library/events", "1")
    _, again = site.ask(path, headers=token)
    assert (again["outcome"], again["by"], again["cache"]) == ("hit", "cache", "HIT")
    assert (again["digest"], again["who"], "pulls" in again) == (image.digest, "anonymous", False)


def test_a_refusal_says_why_and_who(site: Site) -> None:
    answer, event = site.ask("/v2/mirror/library/missing/manifests/1", "repository:mirror/library/missing:pull")
    refused(answer, 403, "DENIED")
    assert (event["outcome"], event["code"], event["who"]) == ("refused", "DENIED", "anonymous")
    assert (event["cause"], event["why"]) == ("upstream refusal", json.loads(answer.body)["errors"][0]["message"])


def test_a_path_cannot_break_a_line(site: Site) -> None:
    for path in ('/v2/a"b/tags/list', "/v2/a\\x22/tags/list", '/v2/%22%0a/tags/list?x="}', "/v2/%c3%a4/tags/list"):
        answer = site.nginx.call("GET", path)
        assert site.event(answer["X-Request-Id"])["status"] == answer.status


def test_pages_and_tokens_have_events_and_probes_have_none(site: Site) -> None:
    answer, event = site.ask("/service/token?scope=repository:lab/app:pull")
    assert (expect(answer, 200), event["route"], event["repository"])[1:] == ("TokenHandler", "lab/app")
    _, event = site.ask("/projects")
    assert (event["outcome"], event["by"]) == ("done", "worker")
    lines = (site.nginx.folder / "log/registry.log").read_text() + site.service.log()
    assert "readyz" not in lines
    assert '"logger": "access"' not in site.service.log()


def test_nginx_itself_answers_for_workers_that_are_away(site: Site, authority: Authority, tmp_path: Path) -> None:
    with webserver(tmp_path / "nginx", authority, f"127.0.0.1:{free_port()}") as alone:
        answer, event = Site(site.service, alone, site.hub).ask("/v2/lab/app/manifests/1")
    refused(answer, 503, "UNAVAILABLE")
    assert (event["status"], event["by"], event["outcome"]) == (503, "nginx", "failed")
