"""A host is lost: another one, bare Debian, becomes the registry that was, from a folder and from a bucket."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.parts import dockerd
from tests.parts import weed as weed_part
from tests.parts.dockerd import Docker
from tests.parts.process import CommandFailed
from tests.parts.weed import ObjectStore

from .authority import Authority
from .conftest import NAME, PASSWORD, SETUP_SECONDS
from .engine import engine
from .hosts import Bed, Host
from .playbook import Inventory, Outcome

pytestmark = [pytest.mark.long, pytest.mark.timeout(4 * SETUP_SECONDS)]

_IMAGES = ("open/app:1", "closed/app:1", "closed/deep/app:2")
_QUOTA = 50_000_000


class Place:
    """The registry's address, wherever it runs at the moment."""

    def __init__(self, bed: Bed, release: Path, folder: Path) -> None:
        require(dockerd)
        self._bed, self._folder = bed, folder
        self.outside = folder / "outside"
        self.outside.mkdir()
        self._authority = Authority(folder)
        pair = self._authority.certify(NAME)
        # What an operator has in the inventory, and in the Vault: it is all there still when the host is gone.
        self.variables: dict[str, Any] = {
            "registry_version": "1.0.0",
            "registry_archive": f"{release}/registry-{{{{ registry_version }}}}.tar.gz",
            "registry_external_url": f"https://{NAME}",
            "registry_secret_key": "0123456789abcdef" * 4,
            "registry_admin_password": PASSWORD,
            "nginx_server_names": [NAME],
            "nginx_certificate": pair.certificate,
            "nginx_certificate_key": pair.key,
            "backup_folder": "/srv/outside",
            "monitoring_wakes_nobody": True,
            "registry_config": {"fill_networks": ["198.18.0.0/15"]},
        }
        self.host: Host | None = None

    def rise(self, name: str) -> None:
        """Make a bare host the registry."""
        self.host = self._bed.boot(name, f"--bind={self.outside}:/srv/outside")
        self.played("site.yml")

    def destroy(self) -> None:
        """Lose the host and all that it had."""
        assert self.host is not None
        with suppress(CommandFailed, subprocess.TimeoutExpired):
            self.host.ssh("systemctl poweroff --force --force", timeout=20)
        self.host = None

    def play(self, playbook: str, **changed: Any) -> Outcome:
        assert self.host is not None
        folder = self._folder / self.host.name
        folder.mkdir(exist_ok=True)
        return Inventory("single", folder, {"registry1": {**self.host.variables, **self.variables}}).play(
            playbook, **changed
        )

    def played(self, playbook: str, **changed: Any) -> None:
        outcome = self.play(playbook, **changed)
        assert outcome.status == 0, outcome.output[-6000:]

    def refused(self, words: str, **changed: Any) -> None:
        """See that restore.yml ends with ``words`` and leaves alone what runs."""
        workers = self._workers()
        outcome = self.play("restore.yml", **changed)
        assert outcome.status != 0
        assert outcome.changed == 0
        assert words in " ".join(outcome.output.split()), outcome.output[-3000:]
        assert self._workers() == workers

    def docker(self, name: str) -> Any:
        """Give an engine that has never seen an image."""
        assert self.host is not None
        return engine(self._folder / name, hosts={NAME: self.host.address}, authority=self._authority.file)

    def api(self, method: str, path: str, body: Any = None, *, login: str = f"admin:{PASSWORD}") -> Any:
        assert self.host is not None
        command = ["curl", "--silent", "--show-error", "--fail-with-body", "--cacert", str(self._authority.file)]
        command += ["--resolve", f"{NAME}:443:{self.host.address}", "--user", login, "--request", method]
        if body is not None:
            command += ["--header", "Content-Type: application/json", "--data", json.dumps(body)]
        done = subprocess.run([*command, f"https://{NAME}{path}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def _workers(self) -> str:
        assert self.host is not None
        return self.host.ssh("systemctl show --value --property MainPID registry@1 registry@2")


class People:
    """Who uses the registry, what they were given, and what they keep in it."""

    def __init__(self, place: Place, docker: Docker) -> None:
        self._place = place
        place.api("POST", "/api/v2.0/projects", {"project_name": "open", "public": True})
        place.api("POST", "/api/v2.0/projects", {"project_name": "closed", "public": False})
        number = place.api("GET", "/api/v2.0/projects/closed")["project_id"]
        place.api("PUT", f"/api/v2.0/quotas/{number}", {"hard": {"storage": _QUOTA}})
        rights = [{"resource": "repository", "action": action} for action in ("pull", "push")]
        scope = [{"kind": "project", "namespace": "closed", "access": rights}]
        made = place.api(
            "POST", "/api/v2.0/robots", {"name": "ci", "level": "project", "duration": 30, "permissions": scope}
        )
        self._robot = (made["name"], made["secret"])
        place.api("POST", "/api/v2.0/users", {"username": "mari", "password": PASSWORD})
        member = {"role_id": 2, "member_user": {"username": "mari"}}
        place.api("POST", "/api/v2.0/projects/closed/members", member)
        keys = "/api/v2.0/users/current/access-keys"
        body = {"name": "laptop", "duration": 7, "permissions": [{"namespace": "closed", "access": rights}]}
        self._key = ("mari", place.api("POST", keys, body, login=f"mari:{PASSWORD}")["secret"])
        _log_in(docker, "admin", PASSWORD)
        self._ids = {name: self._push(docker, name) for name in _IMAGES}
        self._used = self._quota()

    def check(self, docker: Docker, push: str) -> None:
        """See that all is as it was; the robot pushes ``push``, one more image."""
        assert self._quota() == self._used
        docker.run("pull", f"{NAME}/open/app:1")
        with pytest.raises(CommandFailed):
            docker.run("pull", f"{NAME}/closed/app:1")
        for login in (self._robot, self._key):
            _log_in(docker, *login)
            for name, identity in self._ids.items():
                docker.run("pull", f"{NAME}/{name}")
                assert docker.run("image", "inspect", "--format", "{{.Id}}", f"{NAME}/{name}") == identity
            docker.forget(*(f"{NAME}/{name}" for name in self._ids))
        _log_in(docker, *self._robot)
        self._ids[push] = self._push(docker, push)
        self._used = self._quota()

    def _quota(self) -> tuple[int, int]:
        number = self._place.api("GET", "/api/v2.0/projects/closed")["project_id"]
        found = self._place.api("GET", f"/api/v2.0/quotas/{number}")
        return found["hard"]["storage"], found["used"]["storage"]

    def _push(self, docker: Docker, name: str) -> str:
        """Push an image with a file of its own and give its id."""
        file = self._place.outside.parent / "image.tar"
        with tarfile.open(file, "w") as tar:
            entry = tarfile.TarInfo("srv/note")
            entry.size = len(name)
            tar.addfile(entry, io.BytesIO(name.encode()))
        identity = docker.run("import", str(file), f"{NAME}/{name}")
        docker.run("push", f"{NAME}/{name}")
        return identity


def _log_in(docker: Docker, username: str, secret: str) -> None:
    docker.run("login", "--username", username, "--password", secret, NAME)


@pytest.fixture
def store(bed: Bed, tmp_path: Path) -> Iterator[ObjectStore]:
    """An S3 server that all hosts reach."""
    require(weed_part)
    with weed_part.weed(tmp_path / "weed", address=bed.address) as store:
        yield store


def test_a_destroyed_host_comes_back(bed: Bed, release: Path, store: ObjectStore, tmp_path: Path) -> None:
    place = Place(bed, release, tmp_path)
    place.rise("first")
    with place.docker("docker1") as docker:
        people = People(place, docker)
    place.refused("there is no complete copy in /srv/outside; nothing was changed")
    place.played("backup.yml")
    place.destroy()

    place.rise("second")
    place.refused("there is no complete copy 2001-01-01T00-00-00Z", restore_stamp="2001-01-01T00-00-00Z")
    half = place.outside / "dumps/2099-01-01T00-00-00Z"
    half.mkdir()
    (half / "database.dump").write_bytes(b"half")
    place.refused("there is no complete copy 2099-01-01T00-00-00Z", restore_stamp=half.name)
    place.played("restore.yml")
    with place.docker("docker2") as docker:
        people.check(docker, "closed/second:1")

    store.client().create_bucket(Bucket="backup")
    place.variables |= {
        "backup_s3_bucket": "backup", "backup_s3_prefix": "registry", "backup_s3_endpoint": store.endpoint_url,
        "backup_s3_access_key_id": store.access_key_id, "backup_s3_secret_access_key": store.secret_access_key,
    }  # fmt: skip
    place.played("site.yml")
    place.played("backup.yml")
    place.destroy()

    place.rise("third")
    place.played("restore.yml")
    with place.docker("docker3") as docker:
        people.check(docker, "closed/third:1")
