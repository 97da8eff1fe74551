"""Which answers are compressed: pages, files and JSON that hold no secret, and nothing of /v2."""

from __future__ import annotations

import gzip
import http.client
import json

import pytest

from tests.api.client import Registry, basic
from tests.images import single
from tests.parts.service import Service
from tests.web.http import Person
from tests.web.scene import PASSWORD

pytestmark = pytest.mark.usefixtures("clean_log")


def ask(
    stage: Service,
    path: str,
    encoding: str = "gzip",
    *,
    method: str = "GET",
    body: str | None = None,
    status: int = 200,
    **headers: str,
) -> tuple[http.client.HTTPMessage, bytes]:
    """Ask for something as it is sent, without unpacking it; fails where it is answered otherwise."""
    connection = http.client.HTTPConnection(stage.host, timeout=30)
    sent = {"Accept": "text/html", "Accept-Encoding": encoding, **headers}
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in sent.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    assert response.status == status, (path, response.status)
    return response.headers, content


@pytest.mark.parametrize(
    "path",
    ["/", "/projects", "/help", "/static/style.css", "/static/bootstrap/css/bootstrap.min.css", "/static/page.js",
     "/static/icons.svg", "/api/v2.0/openapi.json", "/mirror"],
)  # fmt: skip
def test_pages_files_and_json_are_compressed(stage: Service, path: str) -> None:
    plain_headers, plain = ask(stage, path, "identity")
    headers, packed = ask(stage, path)
    assert headers["Content-Encoding"] == "gzip"
    assert plain_headers["Content-Encoding"] is None
    assert int(headers["Content-Length"]) == len(packed)
    # A page has another token each time, and that of the mirror the numbers of the moment.
    assert abs(len(gzip.decompress(packed)) - len(plain)) < max(200, len(plain) // 20)
    assert len(packed) < len(plain) / 2
    # A cache between us and the browser keeps both.
    assert "Accept-Encoding" in headers["Vary"]
    assert "Accept-Encoding" in plain_headers["Vary"]


def test_what_is_compressed_already_is_sent_as_it_is(stage: Service) -> None:
    headers, body = ask(stage, "/help/images/login.png")
    assert headers["Content-Encoding"] is None
    assert body.startswith(b"\x89PNG")


def test_a_file_that_is_known_is_not_sent_again(stage: Service) -> None:
    headers, _ = ask(stage, "/static/style.css")
    _, body = ask(stage, "/static/style.css", status=304, If_None_Match=headers["Etag"])
    assert body == b""


def test_nothing_that_holds_a_secret_is_compressed(stage: Service) -> None:
    """A secret beside a text that somebody else chooses could be guessed from the size: the BREACH attack."""
    jaan = Person(stage.host).log_in("jaan.saar", PASSWORD)
    form = {"name": "packed", "days": "3", "scope": "*", "right": "repository:pull"}
    assert jaan.post("/mine/keys", form).location == "/secret"
    jaan.headers = {"Accept-Encoding": "gzip"}
    page = jaan.get("/secret")
    assert "hpcr_" in page.text
    assert page.headers["Content-Encoding"] is None
    known = basic(stage.username, stage.password)
    token = f"/service/token?service={stage.host}&scope=repository:mirror/x:pull"
    headers, body = ask(stage, token, Authorization=known)
    assert headers["Content-Encoding"] is None
    assert json.loads(body)["token"]
    right = {"resource": "repository", "action": "pull"}
    robot = {"name": "packed", "level": "system", "duration": 3,
             "permissions": [{"kind": "project", "namespace": "*", "access": [right]}]}  # fmt: skip
    headers, body = ask(
        stage, "/api/v2.0/robots", method="POST", body=json.dumps(robot), status=201, Authorization=known,
        Content_Type="application/json",
    )  # fmt: skip
    assert headers["Content-Encoding"] is None
    assert json.loads(body)["secret"]


def test_manifests_and_blobs_are_sent_byte_for_byte(stage: Service) -> None:
    owner = Registry(stage.host, stage.username, stage.password)
    admin = Person(stage.host).log_in(stage.username, stage.password)
    assert admin.post("/new-project", {"name": "packed", "access": "public"}).status == 303
    image = single("packed", sizes=(5_000,), incompressible=False)
    owner.push_image("packed/app", "1", image)
    known = f"Bearer {owner.token('repository:packed/app:pull')}"
    for path, wanted in (
        (f"/v2/packed/app/manifests/{image.digest}", image.payload),
        (f"/v2/packed/app/blobs/{image.layers[0]}", image.blobs[image.layers[0]]),
    ):
        headers, body = ask(stage, path, Accept=image.media_type, Authorization=known)
        assert headers["Content-Encoding"] is None
        assert body == wanted
