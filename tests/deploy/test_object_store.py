"""The command of the role `object_store`, against a real S3 server."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.parts.process import ROOT
from tests.parts.weed import ObjectStore

_COMMAND = ROOT / "ansible/roles/object_store/files/usr/local/sbin/registry-bucket"


def test_rule_is_made_once_and_leaves_others(object_store: ObjectStore) -> None:
    client = object_store.client()
    client.create_bucket(Bucket="rules")
    other = {"ID": "other", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}
    client.put_bucket_lifecycle_configuration(Bucket="rules", LifecycleConfiguration={"Rules": [other]})
    checked = _run(object_store, "--check", bucket="rules")
    assert (checked.returncode, checked.stdout) == (0, "changed\n"), checked.stderr
    assert [rule["ID"] for rule in _rules(client, "rules")] == ["other"]
    assert _run(object_store, bucket="rules").stdout == "changed\n"
    assert _run(object_store, bucket="rules").stdout == "as it was\n"
    assert {rule["ID"] for rule in _rules(client, "rules")} == {"other", "registry-unfinished-uploads"}
    assert "Contents" not in client.list_objects_v2(Bucket="rules")


def test_bucket_that_cannot_be_used(object_store: ObjectStore) -> None:
    for wrong in ({"bucket": "nowhere"}, {"secret_access_key": "wrong"}, {"endpoint": "http://127.0.0.1:9"}):
        refused = _run(object_store, **wrong)
        assert refused.returncode == 2
        assert "cannot be used" in refused.stderr
        assert object_store.secret_access_key not in refused.stderr


def _run(store: ObjectStore, *arguments: str, **changed: Any) -> subprocess.CompletedProcess[str]:
    settings = {
        "endpoint": store.endpoint_url, "region": store.region, "bucket": "ready", "prefix": "x/", "days": 7,
        "access_key_id": store.access_key_id, "secret_access_key": store.secret_access_key,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, str(_COMMAND), *arguments],
        input=json.dumps({**settings, **changed}), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def _rules(client: Any, bucket: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    return rules
