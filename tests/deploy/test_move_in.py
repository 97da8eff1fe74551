"""An operator moves a Harbor in with the playbook, and nginx sends the blobs that stay in Harbor's folder."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.api.client import digest_of
from tests.parts.harbor import KEY, Folder, Harbor
from tests.parts.postgres import postgres
from tests.upstream.client import Hub

from .authority import Authority
from .conftest import NAME, SETUP_SECONDS, introduce, variables
from .hosts import Bed, Host
from .playbook import Inventory

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * SETUP_SECONDS)]

_FOLDER = "/srv/harbor"
_SECRET = "Harbor-made-this-1"


def test_an_operator_moves_a_harbor_in(bed: Bed, release: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    host = bed.boot("moves")
    introduce(host, authority, host.address)
    with ExitStack() as stack:
        hub = host.inside(lambda: Hub(tmp_path / "upstream"))
        stack.callback(hub.close)
        # It listens on the host's own address.
        server = host.inside(lambda: stack.enter_context(postgres()))
        url, digest, layer = host.inside(lambda: _filled(server.database(), tmp_path / "harbor"))
        _send(host, tmp_path / "harbor")
        settings = _with_harbor(variables(host, authority, release, hub, bed), url)
        inventory = Inventory("single", tmp_path, {"registry1": settings})
        made = inventory.play("site.yml")
        assert made.status == 0, made.output[-6000:]
        people: dict[str, Any] = {"move_in_people": "{username}@example.org"}
        looked = inventory.play("move-in.yml", move_in_dry_run=True, **people)
        assert (looked.status, looked.changed) == (0, 0), looked.output[-6000:]
        assert "projects: 1 new" in looked.output
        moved = inventory.play("move-in.yml", **people)
        assert moved.status == 0, moved.output[-6000:]
        assert "Nothing differs." in moved.output
        where = ("--resolve", f"{NAME}:443:{host.address}", "--cacert", str(authority.file))
        login = ("--user", f"robot$lab+ci:{_SECRET}")
        said = _curl(*where, *login, f"https://{NAME}/service/token?scope=repository:lab/app:pull")
        bearer = ("--header", f"Authorization: Bearer {json.loads(said)['token']}")
        assert digest_of(_curl(*where, *bearer, f"https://{NAME}/v2/lab/app/manifests/v1")) == digest
        answer = _curl(*where, *bearer, "--include", f"https://{NAME}/v2/lab/app/blobs/{layer}")
        assert answer.endswith(b"layer of one")
        assert b"last-modified:" in answer.lower(), "nginx has sent the file"
        final = inventory.play("move-in.yml", move_in_final=True)
        assert final.status == 0, final.output[-6000:]
        assert "the move is final" in final.output


def _with_harbor(settings: dict[str, Any], url: str) -> dict[str, Any]:
    secrets = {f"harbor-{name}": value for name, value in (("database", url), ("key", KEY))}
    place = {
        "driver": "filesystem", "folder": _FOLDER, "database_url_file": "${CREDENTIALS_DIRECTORY}/harbor-database",
        "secret_key_file": "${CREDENTIALS_DIRECTORY}/harbor-key",
    }  # fmt: skip
    config = {**settings["registry_config"], "harbor": place}
    return {**settings, "registry_config": config, "registry_credentials": secrets}


def _filled(url: str, folder: Path) -> tuple[str, str, str]:
    """Fill a Harbor; give the URL of its database, the digest of an image and that of its own layer."""
    harbor = Harbor(url, Folder(folder))
    lab = harbor.add_project("lab", owner=harbor.add_user("mari"))
    digest = harbor.image(lab, "lab/app", "one", "v1")
    harbor.add_robot("lab+ci", _SECRET, [(f"/project/{lab}", "repository:pull")], project=lab)
    harbor.close()
    return url, digest, digest_of(b"layer of one")


def _send(host: Host, folder: Path) -> None:
    """Put Harbor's folder on the host, where everybody can read it, as Harbor leaves it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(folder, arcname=".")
    text = base64.b64encode(packed.getvalue()).decode()
    host.ssh(f"mkdir -p {_FOLDER} && base64 --decode <<'END' | tar --extract --gzip --directory={_FOLDER}\n{text}\nEND")
    host.ssh(f"chmod --recursive a+rX {_FOLDER}")


def _curl(*arguments: str) -> bytes:
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "60", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout
