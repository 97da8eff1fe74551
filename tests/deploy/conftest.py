"""A host that was bare Debian, turned into a registry once for all tests here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.images import Image, multi
from tests.parts import dockerd
from tests.parts import idp as idp_part
from tests.parts.dockerd import Docker
from tests.parts.idp import IdentityProvider
from tests.parts.process import ROOT
from tests.upstream.client import Hub

from . import hosts, playbook
from .authority import Authority
from .engine import engine
from .hosts import Bed, Host
from .playbook import Inventory, Outcome

NAME = "registry.test"
PASSWORD = "tests-admin-password"
# On the bed's address: where alerts go.
WEBHOOK_PORT = 9099
# Building the tree and the first run take their time, before the first test.
SETUP_SECONDS = 1800


@dataclass
class Site:
    """A registry that the playbook made, its inventory, and what the first run said."""

    host: Host
    hub: Hub
    university: IdentityProvider
    image: Image
    inventory: Inventory
    authority: Authority
    first: Outcome
    folder: Path

    @property
    def address(self) -> str:
        return self.host.address

    def curl(self, path: str, *arguments: str) -> str:
        """Ask the registry over HTTPS from this machine, by its name."""
        command = ["curl", "--silent", "--show-error", "--max-time", "60", "--cacert", str(self.authority.file)]
        command += ["--resolve", f"{NAME}:443:{self.host.address}", *arguments, f"https://{NAME}{path}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A network to boot hosts on."""
    require(hosts)
    require(playbook)
    with hosts.bed(tmp_path_factory.mktemp("bed")) as made:
        yield made


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work tree as a release, with its wheels; the folder it is in."""
    require(playbook)
    folder = tmp_path_factory.mktemp("releases")
    command = [sys.executable, str(ROOT / "ansible/release.py"), "1.0.0", "--folder", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def university(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    """A real identity provider that all hosts reach, with a key pair for the registry, `service`."""
    require(idp_part)
    with idp_part.idp(tmp_path_factory.mktemp("idp"), bed.address) as provider:
        provider.make_key("service")
        yield provider


@pytest.fixture(scope="session")
def site(
    bed: Bed, release: Path, university: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The inventory `single` on a host that nothing had been done to."""
    folder = tmp_path_factory.mktemp("single")
    authority = Authority(folder)
    host = bed.boot("registry1")
    introduce(host, authority, host.address)
    with ExitStack() as stack:
        hub = host.inside(lambda: Hub(folder / "upstream"))
        stack.callback(hub.close)
        image = host.inside(lambda: hub.add(multi("redis"), "library/redis", "latest"))
        own = with_university(variables(host, authority, release, hub, bed), university)
        inventory = Inventory("single", folder, {"registry1": own})
        first = inventory.play("site.yml")
        assert first.status == 0, first.output[-6000:]
        yield Site(host, hub, university, image, inventory, authority, first, folder)


def introduce(host: Host, authority: Authority, address: str) -> None:
    """Have a host know the registry by its name, and trust its certificate, as the campus does."""
    place = "/usr/local/share/ca-certificates/tests.crt"
    host.ssh(f"echo '{address} {NAME}' >> /etc/hosts")
    host.ssh(f"cat > {place} <<'END'\n{authority.file.read_text()}\nEND\nupdate-ca-certificates")


def variables(host: Host, authority: Authority, release: Path, hub: Hub, bed: Bed) -> dict[str, Any]:
    """Give what the inventory `single` leaves to a site."""
    pair = authority.certify(NAME)
    return {
        **host.variables,
        "registry_version": "1.0.0",
        "registry_archive": f"{release}/registry-{{{{ registry_version }}}}.tar.gz",
        "registry_external_url": f"https://{NAME}",
        "registry_secret_key": "0123456789abcdef" * 4,
        "registry_admin_password": PASSWORD,
        "registry_config": {
            "upstreams": {"docker.io": {"url": hub.url}},
            # The hosts' network is not among the private ones, which are the default.
            "fill_networks": ["127.0.0.0/8", f"{bed.address.rpartition('.')[0]}.0/24"],
        },
        "monitoring_webhook_url": f"http://{bed.address}:{WEBHOOK_PORT}/",
        "nginx_server_names": [NAME],
        "nginx_certificate": pair.certificate,
        "nginx_certificate_key": pair.key,
    }


def with_university(settings: dict[str, Any], university: IdentityProvider) -> dict[str, Any]:
    """Add the log-in by an identity provider, with a key pair that the provider's maker made."""
    saml = {
        "enabled": True,
        "idp_metadata_url": university.metadata_url,
        "certificate_file": "${CREDENTIALS_DIRECTORY}/saml-certificate",
        "private_key_file": "${CREDENTIALS_DIRECTORY}/saml-key",
    }
    credentials = {
        "saml-certificate": (university.folder / "cert/service.crt").read_text(),
        "saml-key": (university.folder / "cert/service.pem").read_text(),
    }
    config = {**settings["registry_config"], "saml": saml}
    return {**settings, "registry_config": config, "registry_credentials": credentials}


@pytest.fixture(scope="session")
def client(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A Docker engine that knows the registry by name and trusts its authority."""
    require(dockerd)
    folder = tmp_path_factory.mktemp("client")
    with engine(folder / "engine", hosts={NAME: site.host.address}, authority=site.authority.file) as docker:
        yield docker


@pytest.fixture
def next_release(release: Path) -> str:
    """The same service under another version."""
    version = "1.0.1"
    shutil.copy(release / "registry-1.0.0.tar.gz", release / f"registry-{version}.tar.gz")
    return version
