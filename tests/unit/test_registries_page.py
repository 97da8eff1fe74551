"""The page about other registries: its configuration loads, and its pull lines lead to the right mirrors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from app.config import load
from tests.registries import PAGE, block, pulls

REGISTRIES = [
    "quay.io",
    "ghcr.io",
    "registry.k8s.io",
    "gcr.io",
    "mcr.microsoft.com",
    "nvcr.io",
    "public.ecr.aws",
    "lscr.io",
    "registry.gitlab.com",
]


def test_the_configuration_has_a_mirror_of_every_registry(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(block("yaml"))
    config = load(file)
    assert list(config.upstreams) == ["docker.io", *REGISTRIES]
    assert [project.upstream for project in config.projects.values()] == list(config.upstreams)
    for registry in REGISTRIES:
        address = urlsplit(config.upstreams[registry].url)
        assert (address.scheme, address.netloc, address.path) == ("https", registry, "")


def test_every_registry_has_a_pull_line_through_its_mirror(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(block("yaml"))
    projects = load(file).projects
    assert {registry: projects[pull.project].upstream for registry, pull in pulls().items()} == {
        registry: registry for registry in REGISTRIES
    }


def test_the_file_for_containerd_is_the_one_of_the_clients_page() -> None:
    assert tomllib.loads(block("toml")) == {
        "host": {"https://registry.hpc.ut.ee": {"capabilities": ["pull", "resolve"]}}
    }
    assert block("toml") in PAGE.with_name("clients.md").read_text()
