"""What forms and pages take and what not, asked as a browser asks; who may what is in test_who_may_what."""

from __future__ import annotations

import inspect
import re
import uuid
from typing import Any, cast

import pytest

from app.access.roles import ALL_RIGHTS
from app.web.access_control import WORDS
from app.web.pages import routes as table
from app.web.pages.base import PageHandler
from tests.api.client import Registry, digest_of
from tests.api.documents import OCI_INDEX, OCI_MANIFEST, buildkit_cache, descriptor, document, image
from tests.images import Image, single
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.web.http import Person
from tests.web.scene import PASSWORD

pytestmark = pytest.mark.usefixtures("clean_log")

PAGES = [(pattern, handler) for pattern, handler in table._PAGES]
DIGEST = "sha256:" + "0" * 64
SCRIPT = "<script>alert(1)</script>"


def path_of(pattern: str, project: str) -> str:
    """Spell a path that a pattern takes."""
    path = pattern.replace(table._PROJECT, f"/projects/{project}").replace(table._DIGEST, f"@{DIGEST}")
    path = path.replace(table._TAG, ":none").replace(table._REPOSITORY, "app").replace(table._ROBOT, "1")
    path = path.replace(table._RUN, "1").replace(table._WEBHOOK, "1")
    path = path.replace(table._PLAN, "1")
    return path.replace("\\", "")


@pytest.fixture(scope="module")
def project(stage: Service) -> str:
    """A private project of mari.tamm."""
    name = f"walk-{uuid.uuid4().hex[:6]}"
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    assert mari.post("/new-project", {"name": name, "quota": "1", "unit": "GiB", "access": "private"}).status == 303
    return name


@pytest.mark.parametrize(("pattern", "handler"), PAGES, ids=lambda one: one if isinstance(one, str) else "")
def test_every_page_says_for_itself_what_it_needs(pattern: str, handler: type[PageHandler]) -> None:
    assert "needs" in vars(handler), f"{handler.__name__} leaves it to a base class to say who may call it"
    assert {handler.needs, handler.needs_to_send or handler.needs} <= WORDS | ALL_RIGHTS
    assert handler.needs_to_send is None or "needs_to_send" in vars(handler), handler.__name__
    for needs in {handler.needs, handler.needs_to_send or handler.needs}:
        in_project = "(?P<project>" in pattern
        assert (needs in ALL_RIGHTS) == (in_project or pattern.startswith("/administration/robots")), pattern
    assert inspect.getdoc(handler) or issubclass(handler, PageHandler)


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in PAGES])
def test_nothing_is_taken_without_its_token(stage: Service, project: str, pattern: str) -> None:
    person = Person(stage.host).log_in("mari.tamm", PASSWORD)
    for token in ("", "2|12345678|0123456789abcdef0123456789abcdef|1700000000"):
        answer = person.post(path_of(pattern, project), token=token)
        assert answer.status == 403
        assert "You may not do this" in answer.text


def test_an_outsider_is_told_the_same_of_a_private_project_as_of_none(stage: Service, project: str) -> None:
    liis = Person(stage.host).log_in("liis.kask", PASSWORD)
    there, nowhere = liis.get(f"/projects/{project}"), liis.get("/projects/no-such-project")
    assert there.status == nowhere.status == 404
    strip = re.compile(rf"{project}|no-such-project|{re.escape('value=')}\"[^\"]+\"")
    assert strip.sub("", there.text) == strip.sub("", nowhere.text)


def test_a_robot_of_another_project_is_not_to_be_touched(stage: Service, project: str) -> None:
    """Its id is guessed, in a form of one's own project."""
    mari, liis = (Person(stage.host).log_in(name, PASSWORD) for name in ("mari.tamm", "liis.kask"))
    form = {"name": "own", "days": "5", "right": "repository:pull"}
    assert mari.post(f"/projects/{project}/robots/new", form).status == 303
    robot = re.search(r'name="robot" value="(\d+)"', mari.get(f"/projects/{project}/robots").text)
    assert robot
    other = f"other-{uuid.uuid4().hex[:6]}"
    assert liis.post("/new-project", {"name": other, "quota": "1", "unit": "GiB"}).status == 303
    for action in ("delete", "switch", "prolong"):
        fields = {"robot": robot[1], "days": "5", "disabled": "yes"}
        assert "danger" in liis.message(liis.post(f"/projects/{other}/robots/{action}", fields))
    assert liis.post(f"/projects/{other}/robots/refresh", {"robot": robot[1]}).status == 404
    assert "robot-" in mari.get(f"/projects/{project}/robots").text


def test_nobody_gives_a_robot_what_they_lack_or_nobody_may_have(stage: Service, project: str) -> None:
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    for right in ("robot:create", "member:create", "nonsense", SCRIPT):
        answer = mari.post(f"/projects/{project}/robots/new", {"name": "x", "days": "5", "right": right})
        assert answer.status in (400, 403)
        assert SCRIPT not in answer.text
    for days in ("0", "9999", "-1", "x", ""):
        form = {"name": "x", "days": days, "right": "repository:pull"}
        assert mari.post(f"/projects/{project}/robots/new", form).status == 400


def test_what_people_type_is_never_markup(stage: Service, project: str) -> None:
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    owner = Registry(stage.host, stage.username, stage.password)
    image = single("escaped", sizes=(1_000,))
    owner.push_image(f"{project}/app", "1", image)
    fields = {"access": "private", "quota": "1", "unit": "GiB", "description": SCRIPT}
    assert "success" in mari.message(mari.post(f"/projects/{project}/configuration", fields))
    assert "success" in mari.message(
        mari.post(f"/projects/{project}/labels", {"name": SCRIPT, "description": SCRIPT, "color": "#123456"})
    )
    mari.message(mari.post(f"/projects/{project}/describe-repository/app", {"description": SCRIPT}))
    mari.message(mari.post(f"/projects/{project}/members/add", {"name": SCRIPT, "kind": "group", "role": "guest"}))
    mari.post("/mine/keys", {"name": SCRIPT, "days": "5", "scope": "*", "right": "repository:pull"})
    seen = 0
    for path in (
        f"/projects/{project}", f"/projects/{project}/members", f"/projects/{project}/labels", "/projects?show=mine",
        f"/projects/{project}/repositories", f"/projects/{project}/repositories/app", f"/projects/{project}/logs",
        f"/projects/{project}/configuration", f"/projects/{project}/repositories/app@{image.digest}", "/mine/keys",
        f"/projects?q={SCRIPT}", f"/projects/{project}/logs?q={SCRIPT}", f"/{SCRIPT}",
    ):  # fmt: skip
        text = mari.get(path).text
        assert SCRIPT not in text, path
        seen += "&lt;script&gt;" in text
    assert seen >= 10


def test_a_label_s_colour_is_a_colour(stage: Service, project: str) -> None:
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    answer = mari.post(f"/projects/{project}/labels", {"name": "odd", "color": '"/><script>'})
    assert "danger" in mari.message(answer)


def test_every_answer_forbids_what_is_not_ours(stage: Service) -> None:
    person = Person(stage.host)
    for path in ("/", "/projects", "/no/such", "/login", "/static/page.js"):
        headers = person.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "script-src 'unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_what_a_page_loads_is_there_and_kept(stage: Service) -> None:
    person = Person(stage.host)
    loaded = set(re.findall(r'(?:href|src)="(/static/[^"#]+)', person.get("/").text))
    assert any("/static/bootstrap/" in address for address in loaded)
    for address in loaded:
        answer = person.get(address)
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert person.get(address.partition("?")[0]).headers["Cache-Control"] == "no-cache"
    for path in ("/static/../base.py", "/static/%2e%2e/base.py", "/static/bootstrap/../__init__.py", "/static/"):
        assert person.get(path).status == 404


@pytest.mark.parametrize(
    "address",
    ["//evil.example/", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "", "/a\r\nb: c", "//[x"],
)
def test_no_form_sends_a_browser_elsewhere(stage: Service, address: str) -> None:
    person = Person(stage.host)
    person.get("/help")
    assert person.post("/language", {"language": "et", "next": address}).location == "/"


def test_a_page_s_head_is_its_answer_without_the_body(stage: Service) -> None:
    person = Person(stage.host)
    answer = person.ask("HEAD", "/")
    assert (answer.status, answer.text) == (200, "")
    assert answer.headers["Content-Type"] == person.get("/").headers["Content-Type"]
    assert person.ask("HEAD", "/mine").status == 303


def test_a_quota_below_what_is_used_is_refused(stage: Service, project: str) -> None:
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    Registry(stage.host, stage.username, stage.password).push_image(
        f"{project}/big", "1", single("big", sizes=(2_500_000,))
    )
    fields = {"access": "private", "quota": "1", "unit": "MiB"}
    assert "danger" in mari.message(mari.post(f"/projects/{project}/configuration", fields))
    for quota in ("-1", "nan", "inf", "1e30", "many"):
        fields["quota"] = quota
        assert "danger" in mari.message(mari.post(f"/projects/{project}/configuration", fields)), quota


@pytest.mark.parametrize("form", ["members/role", "members/remove", "robots/delete", "labels/delete"])
@pytest.mark.parametrize("number", ["", "x", "-1", "0", "9" * 30, "½"])
def test_numbers_that_are_none_are_refused(stage: Service, project: str, form: str, number: str) -> None:
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    field = form.partition("/")[0].removesuffix("s")
    answer = mari.post(f"/projects/{project}/{form}", {field: number, "role": "guest"})
    assert "danger" in mari.message(answer)


@pytest.mark.parametrize(
    "query",
    [
        *("after=%00", "after=%F0%9F%92%A9", "after=%C2%BD", "after=99999999999999999999"),
        *("before=99999999999999999999", "q=%25_%5C", "q=%00"),
    ],
)
def test_lists_take_any_key(stage: Service, project: str, query: str) -> None:
    admin = Person(stage.host).log_in(stage.username, stage.password)
    for path in (
        "/projects", f"/projects/{project}/repositories", f"/projects/{project}/members", f"/projects/{project}/robots",
        f"/projects/{project}/logs", f"/projects/{project}/repositories/app", "/administration/users",
        "/administration/projects", "/administration/robots", "/administration/audit",
    ):  # fmt: skip
        assert admin.get(f"{path}?{query}").status in (200, 400, 404), path


def test_long_lists_are_paged_by_key(stage: Service) -> None:
    liis = Person(stage.host).log_in("liis.kask", PASSWORD)
    project = f"many-{uuid.uuid4().hex[:6]}"
    assert liis.post("/new-project", {"name": project, "quota": "1", "unit": "GiB"}).status == 303
    owner = Registry(stage.host, stage.username, stage.password)
    image = single("many", sizes=(500,))
    owner.push_image(f"{project}/app", "t000", image)
    tags = [f"t{number:03}" for number in range(1, 60)]
    for tag in tags:
        owner.put_manifest(f"{project}/app", tag, image.payload, image.media_type)
    path, seen = f"/projects/{project}/repositories/app@{image.digest}", []
    for _ in range(5):
        text = liis.get(path).text
        seen += re.findall(r">(t\d{3})</a></b>", text)
        following = re.search(r'href="([^"]+after=[^"]+)"', text)
        if following is None:
            break
        path = following[1].replace("&amp;", "&")
    assert seen == ["t000", *tags]


def test_the_application_adds_no_page_of_its_own() -> None:
    """The walk above sees every page there is."""
    found = table.routes(cast("Any", _Nothing()))
    assert len(found) == len(PAGES) + 2


class _Nothing:
    observer = None


ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
ODD_PAYLOADS = {
    "a cache of BuildKit": (buildkit_cache(b"a layer", config=b"the config"), OCI_INDEX),
    "null annotations": (image(b"a layer", config=b"the config", annotations={"a": None}), OCI_MANIFEST),
    "layers without sizes": (
        image(config=b"the config", layers=[{"digest": digest_of(b"a layer")}]),
        OCI_MANIFEST,
    ),
    "manifests null": (b'{"schemaVersion": 2, "manifests": null}', OCI_INDEX),
    "an artifact of ORAS": (
        document(mediaType=ARTIFACT, artifactType="a/b", blobs=[descriptor(b"a layer"), {"digest": "blake3:x"}, None]),
        ARTIFACT,
    ),
    "nothing that is understood": (
        b'\xef\xbb\xbf{"config": 1, "layers": "x", "annotations": [], "subject": 5}',
        OCI_MANIFEST,
    ),
}


@pytest.mark.parametrize(("payload", "media_type"), ODD_PAYLOADS.values(), ids=ODD_PAYLOADS)
def test_odd_artifacts_have_pages(stage: Service, hub_process: Hub, payload: bytes, media_type: str) -> None:
    """As a mirror has them, in the page and in the API."""
    digest, name = digest_of(payload), f"odd/{uuid.uuid4().hex[:6]}"
    blobs = {digest_of(blob): blob for blob in (b"a layer", b"the config")}
    hub_process.add(Image(blobs, {digest: (media_type, payload)}, digest), name, "odd")
    assert Registry(stage.host).manifest(f"mirror/{name}", "odd").body == payload
    person = Person(stage.host)
    page = f"/projects/mirror/repositories/{name}"
    artifact = f"/api/v2.0/projects/mirror/repositories/{name.replace('/', '%252F')}/artifacts"
    for path in (page, f"{page}@{digest}", artifact, f"{artifact}/{digest}"):
        assert person.get(path).status == 200, path
