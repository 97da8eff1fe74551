"""nginx with the configuration that the role writes, beside a service on the same machine instead of on a host."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from tests.api.client import TIMEOUT, Answer, send
from tests.parts.process import ROOT, Process, free_port, run

from . import playbook
from .authority import Authority

NAME = "localhost"
_ROLE = ROOT / "ansible/roles/nginx"
_TEMPLATE = _ROLE / "templates/etc/nginx/nginx.conf.j2"


def missing() -> str | None:
    """Say what this machine lacks for it, None where it has all."""
    if reason := playbook.missing():
        return reason
    if shutil.which("nginx") is None:
        return "no nginx here (apt: nginx-light)"
    return None if os.geteuid() == 0 else "the role's nginx needs root"


@dataclass(frozen=True)
class WebServer:
    """A running nginx; ``port`` is where it speaks TLS, as `NAME`."""

    process: Process
    port: int
    folder: Path
    authority: Path
    trusts: ssl.SSLContext

    def connection(self) -> HTTPSConnection:
        """Connect to it, trusting the tests' authority."""
        return HTTPSConnection(NAME, self.port, timeout=TIMEOUT, context=self.trusts)

    def call(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request on a connection of its own and give the answer."""
        return send(self.connection(), method, path, None, headers or {})

    def logged(self) -> str:
        """Read all that it has logged; the access log comes a second late."""
        return "".join(file.read_text() for file in sorted((self.folder / "log").iterdir()))

    def cached_bytes(self) -> int:
        """Count what blobs take in its cache."""
        total = 0
        for file in (self.folder / "cache/blobs").rglob("*"):
            try:
                total += file.stat().st_size if file.is_file() else 0
            except FileNotFoundError:  # evicted meanwhile
                continue
        return total


@contextmanager
def webserver(folder: Path, authority: Authority, workers: str, **variables: Any) -> Iterator[WebServer]:
    """Start nginx before ``workers`` (HOST:PORT); ``variables`` are the role's."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = authority.certify(NAME)
    for part in ("log", "cache/answers", "tls"):
        (folder / part).mkdir(parents=True)
    (folder / "tls/registry.pem").write_text(pair.certificate)
    (folder / "tls/registry.key").write_text(pair.key)
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(_moved(_rendered(folder, variables), folder, workers, port))
    run(["nginx", "-t", "-q", "-c", str(file)])
    process = Process("nginx", ["nginx", "-c", str(file), "-g", "daemon off;"], folder)
    trusts = ssl.create_default_context(cafile=str(authority.file))
    server = WebServer(process, port, folder, authority.file, trusts)
    try:
        process.until(lambda: server.call("GET", "/metrics").status == 404)
        yield server
    finally:
        process.stop()


def _rendered(folder: Path, variables: Mapping[str, Any]) -> str:
    """Have Ansible write the role's configuration for one worker."""
    file, given = folder / "role.conf", folder / "variables.json"
    own = {
        "nginx_server_names": [NAME], "registry_workers": 1, "__nginx_user": "root", "__nginx_tls": str(folder / "tls"),
    }  # fmt: skip
    given.write_text(json.dumps({**own, **variables}))
    files = (_ROLE / "defaults/main.yml", _ROLE / "vars/main.yml", _ROLE / "vars/Debian.yml", given)
    extra = [part for one in files for part in ("-e", f"@{one}")]
    command = ["ansible", "localhost", "-c", "local", "-m", "ansible.builtin.template"]
    command += ["-a", f"src={_TEMPLATE} dest={file}", *extra]
    done = subprocess.run(
        command, cwd=folder, env=playbook.environment(folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return file.read_text()


def _moved(text: str, folder: Path, workers: str, port: int) -> str:
    """Put paths, addresses and ports of a host where a test may have them; all else stays as the role has it."""
    for path, part in (("/var/log/nginx", "log"), ("/var/cache/nginx", "cache"), ("/run/nginx.pid", "nginx.pid")):
        text = text.replace(path, str(folder / part))
    text = re.sub(r"http://unix:/run/registry/\d+/http\.sock:", f"http://{workers}", text)
    text = re.sub(r"unix:/run/registry/\d+/http\.sock", workers, text)
    text = re.sub(r"^ *listen \[::\]:.*\n", "", text, flags=re.MULTILINE)
    ports = {"443": port}
    return re.sub(r"\blisten (\d+)", lambda match: f"listen 127.0.0.1:{ports.setdefault(match[1], free_port())}", text)
