"""Starting: what is wrong is one clear line, and what is right greets with what to type next."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api.client import basic, exchange
from tests.parts.process import command, free_port, python, run, wait_for
from tests.parts.service import Service

_NOBODY = "127.0.0.1:9"


def serve(folder: Path, document: Any) -> subprocess.CompletedProcess[str]:
    """Run the service to its end, which is to come soon."""
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    return command("serve", "--config", str(folder / "config.yaml"))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"server": {"lisen": "x"}}, "server.lisen: unknown key"),
        ({"storage": {"driver": "nfs"}}, "storage.driver: 'nfs' is not one of filesystem, s3"),
        ({"redis": {"url": "http://127.0.0.1"}}, "redis"),
        ({"admin": {"password": ""}}, "the admin needs"),
    ],
)
def test_what_is_wrong_is_one_line(document: dict[str, Any], words: str, tmp_path: Path) -> None:
    server = {"listen": f"127.0.0.1:{free_port()}"} | document.get("server", {})
    ended = serve(tmp_path, {"data_dir": str(tmp_path / "data")} | document | {"server": server})
    assert ended.returncode == 2
    assert words.lower() in ended.stderr.lower()
    assert [line for line in ended.stderr.splitlines() if not line.startswith("{")] == [ended.stderr.splitlines()[-1]]
    assert ended.stderr.splitlines()[-1].startswith("registry: ")


def test_parts_of_others_that_are_down_are_waited_for(tmp_path: Path) -> None:
    """Each may come back; what needs one is refused until then, and the log says which."""
    url = f"postgresql://registry@{_NOBODY}/registry"
    s3 = {"endpoint_url": f"http://{_NOBODY}", "access_key_id": "a", "secret_access_key": "b"}
    with Service(tmp_path, database=url, s3=s3, until="/healthz") as service:
        ready = exchange(service.host, "GET", "/readyz", None, {})
        assert ready.status == 503
        assert {name for name, state in ready.json()["parts"].items() if state != "ok"} == {"database", "storage"}
        refused = exchange(service.host, "GET", "/service/token?scope=repository:mirror/library/redis:pull", None, {})
        assert (refused.status, refused["Retry-After"]) == (503, "5")
        assert f"postgresql+asyncpg://registry@{_NOBODY}/registry cannot be used: " in service.log()
        assert f"S3 bucket 'registry' at {_NOBODY} cannot be used" in service.log()
        assert service.faults(foreseen={503}) == []


def test_a_configuration_can_be_checked_beforehand(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    for written, code, words in (
        (b"data_dir: nowhere\n", 0, "the configuration is fine\n"),
        (b"server: {lisen: x}\n", 2, "registry: server.lisen: unknown key; known here: "),
        (b"server: [\n", 2, f"registry: {file} is not YAML: "),
        (b"saml: {enabled: true, idp_metadata_url: 'https://x', certificate: x}\n", 2, "registry: saml.certificate: "),
        (b"\xff", 2, "registry: "),
    ):
        file.write_bytes(written)
        ended = command("check", "--config", str(file))
        assert ended.returncode == code, ended.stderr
        assert (ended.stdout + ended.stderr).startswith(words)
        assert len((ended.stdout + ended.stderr).splitlines()) == 1
    assert not (tmp_path / "nowhere").exists()


def test_a_port_that_is_taken_is_one_line_even_by_another_registry(tmp_path: Path) -> None:
    with Service(tmp_path / "first") as service:
        ended = serve(tmp_path, {"data_dir": str(tmp_path / "data"), "server": {"listen": service.host}})
    assert ended.returncode == 2
    assert ended.stderr == f"registry: cannot listen on {service.host}: Address already in use\n"


def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = serve(tmp_path, {"data_dir": str(tmp_path / "file" / "data")})
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "file" in ended.stderr


def test_the_made_up_password_is_shown_once_and_works(tmp_path: Path) -> None:
    with Service(tmp_path, overrides={"admin": {"password": None}}) as service:
        greeting = service.log()
        assert f"try: docker pull {service.host}/mirror/library/redis" in greeting
        password = greeting.partition("with the password ")[2].split()[0]
        service.restart()
        assert service.log().count(password) == 1
        assert service.log().count("with the password") == 1
        service.password = password
        assert _ping(service) == 200


def test_what_it_writes_is_for_its_user(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        assert _ping(service) == 200
    written = [path for path in (tmp_path / "data").rglob("*") if not path.is_symlink()]
    assert written
    assert [path for path in written if path.stat().st_mode & 0o007 and path.stat().st_mode != 0o100444] == []


def _ping(service: Service) -> int:
    return exchange(
        service.host, "GET", "/v2/", None, {"Authorization": basic(service.username, service.password)}
    ).status


def test_listening_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "registry.sock"
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({"data_dir": str(tmp_path / "data"), "server": {"listen": f"unix:{path}", "processes": 2}})
    )
    process = subprocess.Popen(
        python("-m", "app", "serve", "--config", str(tmp_path / "config.yaml")), stderr=subprocess.PIPE
    )
    try:
        wait_for(path.exists, what="the socket")

        def alive() -> bool:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(str(path))
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return connection.recv(12) == b"HTTP/1.1 200"

        wait_for(alive, what="an answer on the socket")
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("soft", "hard", "after"), [(1024, 20_000, 16_384), (1024, 4096, 4096), (18_000, 20_000, 18_000)]
)
def test_a_shells_limit_of_descriptors_is_raised(soft: int, hard: int, after: int) -> None:
    """One address may have as many connections in a worker as a shell allows a program descriptors."""
    program = (
        "import resource; from app.processes import allow_descriptors; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); allow_descriptors(); "
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert run(python("-c", program)).split() == [str(after), str(hard)]
