"""Every method of every route of the distribution API, without credentials: refused."""

from __future__ import annotations

import pytest

from tests.api.client import Registry, digest_of, refused
from tests.unit.web.test_routes import table

EXAMPLES = {
    "manifests": "/v2/lab/app/manifests/latest",
    "uploads": "/v2/lab/app/blobs/uploads/",
    "upload": "/v2/lab/app/blobs/uploads/0",
    "blobs": f"/v2/lab/app/blobs/{digest_of(b'')}",
    "tags": "/v2/lab/app/tags/list",
    "referrers": f"/v2/lab/app/referrers/{digest_of(b'')}",
    "catalogue": "/v2/_catalog",
    "root": "/v2/",
}
DOORS = [(route.noun, method) for route in table() for method in route.methods]


@pytest.mark.parametrize(("noun", "method"), DOORS)
def test_nobody_is_let_in(outsider: Registry, noun: str, method: str) -> None:
    body = b"" if method in ("PUT", "POST", "PATCH") else None
    answer = outsider.call(method, EXAMPLES[noun], body, token="")
    assert answer.status == 401
    assert answer["WWW-Authenticate"].startswith("Bearer realm=")
    assert method == "HEAD" or refused(answer, 401, "UNAUTHORIZED")


@pytest.mark.parametrize(("noun", "method"), DOORS)
def test_an_outsider_may_read_what_is_public_and_no_more(outsider: Registry, noun: str, method: str) -> None:
    body = b"" if method in ("PUT", "POST", "PATCH") else None
    answer = outsider.call(method, EXAMPLES[noun], body)
    reads = method in ("GET", "HEAD") and noun != "upload"
    assert (answer.status != 401) == reads, answer
