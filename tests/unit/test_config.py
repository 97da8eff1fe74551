"""The configuration: what ships is the default, and whatever is wrong is one line that names the key."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from app.config import Config, ConfigError, Credential, load, parse

ROOT = Path(__file__).parents[2]


def test_the_file_that_ships_says_the_defaults() -> None:
    assert load(ROOT / "config.yaml") == parse({}, ROOT)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"server": {"lissten": "x"}}, "server.lissten: unknown key; known here: external_url, listen"),
        ({"sever": {}}, "sever: unknown key"),
        ({"server": {"processes": "many"}}, "server.processes: expected a whole number"),
        ({"server": {"processes": True}}, "server.processes: expected a whole number"),
        ({"server": {"processes": -1}}, "server.processes: must be 0 (one per core)"),
        ({"server": {"listen": "8080"}}, "server.listen: '8080' is neither HOST:PORT nor unix:PATH"),
        ({"server": {"listen": "[::1]:99999"}}, "server.listen"),
        ({"server": {"external_url": "registry.example.org"}}, "server.external_url"),
        ({"server": {"external_url": "https://example.org/registry"}}, "leave the path out"),
        ({"server": {"trusted_proxies": ["ten"]}}, "server.trusted_proxies[0]: 'ten' is not an address"),
        ({"storage": {"driver": "nfs"}}, "storage.driver: 'nfs' is not one of filesystem, s3"),
        ({"storage": {"delivery": "redirect"}}, "storage.delivery: redirect works with driver s3 only"),
        ({"upstreams": {"quay.io": {}}}, "upstreams.quay.io"),
        ({"upstreams": {"docker.io": {"url": "ftp://x"}}}, "upstreams.docker.io.url"),
        ({"projects": {"lab": {"upstream": "quay.io"}}}, "projects.lab.upstream: 'quay.io' is not listed"),
        ({"projects": {"Lab": {}}}, "projects.Lab"),
        ({"projects": {"mirror": {"upstream": "docker.io", "official_images": "maybe"}}}, "official_images"),
        (
            {"projects": {"mirror": {"upstream": "docker.io", "denied_names": ["A"]}}},
            "projects.mirror.denied_names: 'A'",
        ),
        ({"projects": {"mirror": {"allowed_names": "library/*"}}}, "allowed_names: expected a list"),
        ({"hosts": {"mirror.example.org": "lab"}}, "hosts.mirror.example.org: 'lab' is not a mirror project"),
        ({"admin": {"password_file": "/nowhere/secret"}}, "admin.password_file: cannot read /nowhere/secret"),
        ({"admin": {"password": "${NO_SUCH_VARIABLE_HERE}"}}, "the environment has no variable NO_SUCH_VARIABLE_HERE"),
        ({"server": {"processes": "²"}}, "server.processes: expected a whole number"),
        ({"server": {"processes": "9" * 5000}}, "server.processes: expected a whole number"),
        ({"server": {"listen": "127.0.0.1:²"}}, "server.listen"),
        ({"server": {"external_url": "http://["}}, "server.external_url"),
        ({"server": {"external_url": "http://a:99999"}}, "server.external_url"),
        ({"upstreams": {"docker.io": {"url": "https://a:b"}}}, "upstreams.docker.io.url"),
        ({"upstreams": {"docker.io": {"url": "https://registry-1.docker.io/v2/"}}}, "leave out /v2"),
        ({"upstreams": {"docker.io": {"url": "https://me:secret@a"}}}, "upstreams.docker.io.url: leave out @"),
        ({"upstreams": {"docker.io": {"url": "https://a/b?c"}}}, "upstreams.docker.io.url: leave out @, ? and #"),
        ({"server": {"external_url": "https://a/#b"}}, "server.external_url: leave out @, ? and #"),
        ({"storage": {"s3": {"endpoint_url": "s3.example.org"}}}, "storage.s3.endpoint_url: not an http://"),
        ({"storage": {"s3": {"public_endpoint_url": "https://a:b@c"}}}, "storage.s3.public_endpoint_url: leave out @"),
        ({"database": {"url": "registry.sqlite"}}, "database.url: begin it with one of sqlite:, postgresql:"),
        ({"database": {"url": "mysql://u@h/d"}}, "database.url: begin it"),
        ({"database": {"url": "postgresql://u:p@ss/w:rd@127.0.0.1:1/x"}}, "database.url: write @ / ? # in a password"),
        ({"database": {"url": "postgresql://u:p@ss@127.0.0.1:1/x"}}, "database.url: write @"),
        ({"database": {"url": "postgresql://u:p/w@127.0.0.1:1/x"}}, "database.url: write @"),
        ({"database": {"url": "postgresql://u:p?w@127.0.0.1:1/x"}}, "database.url: write @"),
        ({"database": {"url": "postgresql://u:p#w@127.0.0.1:1/x"}}, "database.url: write @"),
        ({"redis": {"url": "127.0.0.1:6379"}}, "redis.url: begin it with one of redis:, rediss:, unix:"),
        ({"redis": {"url": "redis://:a@b@c:1/0"}}, "redis.url: write @"),
        ({"harbor": {"database_url": "mysql://u@h/d"}}, "harbor.database_url: begin it"),
        ({"access": {"secret_key": "short"}}, "access.secret_key: at least 32 characters"),
        ({"data_dir": "a\0b"}, "data_dir: must not contain NUL"),
        ({"admin": {"password_file": "a\0b"}}, "admin.password_file: must not contain NUL"),
        ({"admin": {"password_file": "a\ud800"}}, "admin.password_file: must not contain NUL or half a surrogate pair"),
        ({"a\nb": 1}, "a b: unknown key"),
        ([1, 2], "expected keys and values"),
        ({"access": {"absent_days": 14}}, "access.absent_days"),
        ({"mail": {"host": "mail"}}, "mail.sender"),
        ({"mail": {"host": "mail", "sender": "a@b", "username": "x"}}, "set both or neither"),
        (
            {"mail": {"host": "mail", "sender": "a@b", "username": "x", "password": "y", "security": "none"}},
            "mail.security",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(document: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document, tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        {"database": {"url": "postgresql://registry@/registry?host=/run/postgresql"}},
        {"database": {"url": "postgres://u:p%40ss@db.example.org/registry?application_name=a@b"}},
        {"database": {"url": "sqlite:////srv/a@b#c/registry.sqlite"}},
        {"redis": {"url": "unix:///run/a@b.sock"}},
        {"redis": {"url": "rediss://:p%2Fw@redis.example.org:6379/0"}},
        {"upstreams": {"docker.io": {"url": "https://proxy.example.org/docker-hub/"}}},
        {"harbor": {"database_url": "postgresql://registry_reader:secret@harbor-db.example.org/registry"}},
        {"access": {"secret_key": "k" * 32}},
    ],
)
def test_what_is_meant_so_is_taken(document: Any, tmp_path: Path) -> None:
    parse(document, tmp_path)


def test_a_file_that_is_no_yaml_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("server: [")
    (tmp_path / "latin.yaml").write_bytes(b"data_dir: \xe4")
    (tmp_path / "date.yaml").write_text("data_dir: 2026-99-99")
    (tmp_path / "twice.yaml").write_text("server: {processes: 1}\nserver: {processes: 2}\n")
    (tmp_path / "deep.yaml").write_text("[" * 5000)
    for name in ("broken.yaml", "missing.yaml", "latin.yaml", "date.yaml", "twice.yaml", "deep.yaml"):
        with pytest.raises(ConfigError) as caught:
            load(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_values_from_environment_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_USER", "university")
    (tmp_path / "hub-password").write_text("from a file\n")
    upstream = {
        "url": "https://registry-1.docker.io",
        "credentials": [{"username": "${HUB_USER}", "password_file": "hub-password"}],
    }
    config = parse({"upstreams": {"docker.io": upstream}, "data_dir": "state"}, tmp_path)
    assert config.upstreams["docker.io"].credentials == (Credential("university", "from a file"),)
    assert config.data_dir == tmp_path / "state"
    assert config.database_url == f"sqlite:///{tmp_path}/state/registry.sqlite"


def test_a_secret_that_is_not_text_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"hidden\xff")
    with pytest.raises(ConfigError, match=r"admin.password_file: secret is not text") as caught:
        parse({"admin": {"password_file": "secret"}}, tmp_path)
    assert caught.value.__cause__ is None


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    document = {"server": {"listen": "unix:run/registry.sock"}, "database": {"url": "sqlite:///state/it.sqlite"}}
    config = parse(document, tmp_path)
    assert config.server.listen == f"unix:{tmp_path}/run/registry.sock"
    assert config.database_url == f"sqlite:///{tmp_path}/state/it.sqlite"
    assert config.data_dir == tmp_path / "data"
    elsewhere = {"server": {"listen": "unix:/run/x.sock"}, "database": {"url": "sqlite:////var/lib/it.sqlite"}}
    assert parse(elsewhere, tmp_path).server.listen == "unix:/run/x.sock"
    assert parse(elsewhere, tmp_path).database_url == "sqlite:////var/lib/it.sqlite"


def test_secrets_do_not_show(tmp_path: Path) -> None:
    secrets = {
        "admin": {"password": "hidden-one"},
        "storage": {"driver": "s3", "s3": {"secret_access_key": "hidden-two"}},
        "upstreams": {"docker.io": {"url": "https://x", "credentials": [{"username": "u", "password": "hidden-3"}]}},
    }
    assert "hidden" not in repr(parse(secrets, tmp_path))


def test_networks_and_numbers(tmp_path: Path) -> None:
    config = parse({"server": {"trusted_proxies": ["10.0.0.1", "fd00::/8"], "processes": "2"}}, tmp_path)
    assert config.server.trusted_proxies == (ip_network("10.0.0.1/32"), ip_network("fd00::/8"))
    assert config.server.processes == 2
    assert isinstance(config, Config)
