"""What operators write into config.yaml: it is read, or one line says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import Config, ConfigError, load, parse

from .inputs import edited, fuzz, odd

_FOLDER = Path("/nowhere")
_DOCUMENT: dict[str, Any] = {
    "server": {"external_url": "https://a.example", "listen": "127.0.0.1:80", "trusted_proxies": ["10.0.0.0/8"]},
    "data_dir": "data",
    "database": {"url": "sqlite:///x"},
    "storage": {"driver": "s3", "s3": {"bucket": "b", "secret_access_key": "${HOME}"}},
    "upstreams": {"docker.io": {"url": "https://a", "credentials": [{"username": "u", "password_file": "p"}]}},
    "projects": {"mirror": {"upstream": "docker.io", "allowed_names": ["library/*"]}},
    "hosts": {"a": "mirror"},
    "access": {"robot_prefix": "robot-", "robot_days": 5},
    "saml": {"enabled": True, "idp_metadata_url": "file:///x", "allow": [{"attribute": "a", "values": ["*"]}]},
}


def _said(error: ConfigError) -> None:
    assert "\n" not in str(error)


@fuzz(lambda chance: odd(chance, _DOCUMENT), costs=2)
def test_settings(document: Any) -> None:
    try:
        assert isinstance(parse(document, _FOLDER), Config)
    except ConfigError as error:
        _said(error)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "config.yaml"


@fuzz(
    edited(
        lambda _: yaml.safe_dump(_DOCUMENT).encode(),
        *(
            b"\xff",
            b"\0",
            b"{",
            b"[",
            b"&a *a",
            b"!!python/object:os.system x",
            b"2001-99-99",
            b"!!int x",
            b"? ",
            b": ",
            b"\t",
        ),
    ),
    costs=10,
)
def test_files(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    try:
        load(file)
    except ConfigError as error:
        _said(error)
