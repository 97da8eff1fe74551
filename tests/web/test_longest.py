"""The longest legal value of every field, at every width: nothing sticks out, and a list stays a list."""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import dataclass

import pytest
from sqlalchemy import update

from app.database import Transaction, accounts
from app.database.tables import delivery
from app.database.webhooks import DeliveryStatus, EventType
from tests.api.client import Registry
from tests.images import OCI_MANIFEST, Image, digest_of
from tests.parts.service import Service
from tests.web.http import Person
from tests.web.person import Opener
from tests.web.scene import PASSWORD, add_person, within
from tests.web.test_looks import make_webhook, remove_project
from tests.web.test_operations import keep, kept

pytestmark = pytest.mark.usefixtures("clean_log")

WIDTHS = (320, 390, 820, 1440)
# The narrowest, and one of a tablet. The others are for `-m long`.
FEW_WIDTHS = (320, 820)
RIGHTS = ("repository:pull", "repository:push", "artifact:delete", "repository:list", "artifact:read", "tag:create")

# What is drawn and sticks out of the window to a side, except in a part that scrolls by itself or is for the ear only.
_STICKS_OUT = """() => {
  const width = document.documentElement.clientWidth + 1, found = [];
  const scrolls = (one) => one && (["auto", "scroll"].includes(getComputedStyle(one).overflowX)
    || getComputedStyle(one).clipPath !== "none" || one.matches(".visually-hidden") || scrolls(one.parentElement));
  for (const one of document.querySelectorAll("h1, h2")) {
    // A name that has a few letters in each line.
    if (one.checkVisibility() && one.textContent.trim().length > 40 && one.clientWidth < 150) {
      found.push(`${one.clientWidth} wide: ${one.outerHTML.slice(0, 80)}`);
    }
  }
  if (document.documentElement.scrollWidth >= width) found.push(`page: ${document.documentElement.scrollWidth}`);
  for (const one of document.body.querySelectorAll("*")) {
    const box = one.getBoundingClientRect();
    if (box.width && (box.right > width || box.left < -1) && one.checkVisibility() && !scrolls(one)) {
      found.push(`${Math.round(box.left)} to ${Math.round(box.right)}: ${one.outerHTML.slice(0, 200)}`);
    }
  }
  return found.slice(0, 3);
}"""
_UNFOLD_ROWS = "() => document.querySelectorAll('table.list details:not(.drop)').forEach((one) => { one.open = true; })"
_HEIGHT = "() => [...document.querySelectorAll('table.list')].map((one) => one.offsetHeight)"


@dataclass(frozen=True)
class Long:
    """Names that are as long as they may be; ``pages`` show them."""

    project: str
    user: str
    pages: tuple[str, ...]


def artifact(seed: str, **more: object) -> Image:
    """Make an image in which every text that a page shows is one long word."""
    word = seed * 600
    platform = {"architecture": seed * 60, "os": seed * 60, "variant": seed * 60}
    run: dict[str, object] = {
        "User": word,
        "WorkingDir": word,
        "Entrypoint": [word],
        "Cmd": [word],
        "Env": [f"{word}={word}"],
    }
    run |= {"Labels": {word: word, "org.opencontainers.image.source": f"https://{word}.example.org/{word}"}}
    run |= {"ExposedPorts": {word: {}}}
    history = [{"created_by": word, "comment": word, "empty_layer": True}, {"created_by": word}]
    config = json.dumps({**platform, "author": word, "created": word, "config": run, "history": history}).encode()
    layer = seed.encode() * 900
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **_sized(config)},
        "layers": [{"mediaType": f"application/{seed * 243}", **_sized(layer)}],
        "annotations": {word: word, "org.opencontainers.image.title": word},
        **more,
    }
    payload = json.dumps(document).encode()
    blobs = {digest_of(data): data for data in (config, layer)}
    return Image(blobs, {digest_of(payload): (OCI_MANIFEST, payload)}, digest_of(payload))


def _sized(data: bytes) -> dict[str, object]:
    return {"digest": digest_of(data), "size": len(data)}


def answered(stage: Service, answer: str) -> None:
    """Let the targets of all deliveries have answered so at last."""
    values = {"answer": answer, "attempts": 9, "status": DeliveryStatus.ERROR, "next_at": None, "ended_at": time.time()}

    async def note(transaction: Transaction) -> None:
        await transaction.execute(update(delivery).values(values))

    within(stage.folder, note)


@pytest.fixture(scope="module")
def long(stage: Service) -> Long:
    """Have somebody with a long name make one of each thing, with long names."""
    mark = uuid.uuid4().hex[:6]
    # With the slash between them, project and repository have 255 characters.
    project, repository = f"p{mark}" + "p" * 121, "/".join(("r" * 60, "s" * 65))
    user, other = f"u{mark}" + "u" * 248, f"v{mark}" + "v" * 248
    add_person(stage.folder, user, other)

    async def name(transaction: Transaction) -> None:
        for username in (user, other):
            found = await accounts.find(transaction, username)
            assert found is not None
            await accounts.change(transaction, found.id, full_name="f" * 255, email="e" * 255)

    within(stage.folder, name)
    someone = Person(stage.host).log_in(user, PASSWORD)
    someone.headers = {"User-Agent": "b" * 200}
    someone.log_in(user, PASSWORD)
    admin = Person(stage.host).log_in(stage.username, stage.password)
    at, rights = f"/projects/{project}", list(RIGHTS)
    forms: tuple[tuple[Person, str, dict[str, str | list[str]]], ...] = (
        (someone, "/new-project", {"name": project, "quota": "1", "unit": "GiB", "description": "d" * 4000}),
        (someone, f"{at}/members/add", {"name": other, "role": "project admin"}),
        (someone, f"{at}/members/add", {"name": "g" * 255, "kind": "group", "role": "limited guest"}),
        (someone, f"{at}/labels", {"name": "l" * 128, "description": "m" * 255}),
        (someone, f"{at}/robots/new", {"name": "b" * 64, "description": "n" * 1000, "days": "5", "right": rights}),
        (someone, "/mine/keys", {"name": "k" * 64, "days": "3", "scope": "*", "right": rights}),
        (admin, "/administration/robots/new",
         {"name": f"{mark}{'c' * 58}", "description": "o" * 1000, "days": "5", "right": rights}),
    )  # fmt: skip
    for person, form, fields in forms:
        answer = person.post(form, fields)
        assert answer.status == 303, (form, answer.text[:2000])
        assert "danger" not in person.message(answer)
    hook = make_webhook(
        someone, project, name="h" * 255, description="q" * 4000, url=f"http://hooks.test/{'w' * 1978}",
        header="x" * 1000, event=list(EventType),
    )  # fmt: skip
    image = artifact("i")
    registry = Registry(stage.host, stage.username, stage.password)
    registry.push_image(f"{project}/{repository}", "t" * 128, image)
    subject = {"mediaType": OCI_MANIFEST, "digest": image.digest, "size": len(image.payload)}
    signature = artifact("j", artifactType=f"application/{'j' * 243}", subject=subject)
    for data in signature.blobs.values():
        registry.push_blob(f"{project}/{repository}", data)
    registry.push_manifest(f"{project}/{repository}", signature.digest, signature.payload, signature.media_type)
    registry.push_image(f"{project}/{repository}", image.digest.replace(":", "-") + ".sig", artifact("k"))
    deleted = artifact("m")
    registry.push_image(f"{project}/{repository}", "y" * 128, deleted)
    assert someone.post(f"{at}/delete-artifact/{repository}@{deleted.digest}").status == 303
    remove_project(someone, f"g{mark}" + "g" * 121)
    until = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 30 * 86400))
    pinned = admin.post("/projects/mirror/pin-tag/library/nginx", {"tag": "v" * 128, "until": until})
    assert admin.message(pinned).startswith("success")
    assert someone.post(f"{at}/describe-repository/{repository}", {"description": "z" * 4000}).status == 303
    label = re.search(r'name="label" value="(\d+)"', someone.get(f"{at}/labels").text)
    assert label
    assert someone.post(f"{at}/attach-label/{repository}@{image.digest}", {"label": label[1]}).status == 303
    robot = re.search(r'href="(/projects/[^"]+/robots/\d+)"', someone.get(f"{at}/robots").text)
    system = re.search(r'href="(/administration/robots/\d+)"', admin.get(f"/administration/robots?q={mark}").text)
    assert robot
    assert system
    answered(stage, f"500 {'e' * 4000}")
    keep(stage, kept(who=f"person:{user}", client="2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", why="w" * 500,
                     method="M" * 500, repository=f"{project}/{repository}", reference="t" * 128, host="h" * 64,
                     request_id="i" * 64))  # fmt: skip
    there = f"{at}/repositories/{repository}"
    pages = (
        f"/projects?q={mark}", f"/search?q={mark}", at, f"{at}/repositories", there, f"{there}:{'t' * 128}",
        f"{there}@{signature.digest}", f"{at}/members", f"{at}/robots", robot[1], f"{at}/labels", f"{at}/logs",
        f"{at}/configuration", "/administration/users?q=" + mark, f"/administration/projects?q={mark}",
        f"/administration/robots?q={mark}", system[1], f"/administration/audit?q={mark}", f"/search?q={'q' * 300}",
        f"/projects?q={'q' * 300}", f"/{'x' * 800}", f"{there}?q={'q' * 128}",
        f"{at}/storage", f"{at}/compare/{repository}?from={'t' * 128}&to={signature.digest}",
        f"/search?q={'t' * 20}&in=tags", f"/search?q=u{mark}&in=people", f"/search?q={image.digest}",
        "/administration", f"/administration/requests?q={project}/{repository}", hook, f"{at}/webhooks",
        f"{at}/webhooks/new", f"{at}/bin", "/mine/deleted", f"{at}/policy",
        "/projects/mirror/repositories/library/nginx", f"{at}/tags/{repository}:{'t' * 128}",
    )  # fmt: skip
    return Long(project, user, pages)


@pytest.mark.parametrize(
    ("theme", "widths", "one_of"),
    [
        ("light", FEW_WIDTHS, 2),
        *(pytest.param(theme, WIDTHS, 1, marks=pytest.mark.long) for theme in ("light", "dark")),
    ],
    ids=["few", "light", "dark"],
)
def test_nothing_sticks_out_of_a_page(
    open_context: Opener, stage: Service, long: Long, theme: str, widths: tuple[int, ...], one_of: int
) -> None:
    """An administrator sees every control; the person with the long name has the pages of an account."""
    admin = open_context(theme=theme).log_in(stage.username, stage.password)
    someone = open_context(theme=theme).log_in(long.user, PASSWORD)
    wrong = {}
    for person, paths in ((admin, long.pages[::one_of]), (someone, ("/", "/mine", "/mine/keys", "/mine/sessions"))):
        for number, path in enumerate(paths):
            person.page.goto(path)
            person.page.evaluate(_UNFOLD_ROWS)
            for width in widths:
                person.page.set_viewport_size({"width": width, "height": 860})
                if found := person.page.evaluate(_STICKS_OUT):
                    wrong[f"{path[:80]} at {width}"] = found
                person.screen(f"long-{theme}-{width}-{number if person is admin else path.replace('/', '-')}")
    assert wrong == {}


def test_no_page_is_heavy_with_the_longest_values(stage: Service, long: Long) -> None:
    admin = Person(stage.host).log_in(stage.username, stage.password)
    for path in (*long.pages, "/", "/mine/keys"):
        answer = admin.get(path)
        answer = admin.get(answer.location) if answer.status == 303 else answer
        assert len(answer.text.encode()) < 100_000, path


@pytest.mark.parametrize(
    ("width", "one_of"),
    [(WIDTHS[0], 3), *(pytest.param(width, 1, marks=pytest.mark.long) for width in (WIDTHS[0], WIDTHS[-1]))],
)
def test_nothing_sticks_out_of_an_open_menu(open_context: Opener, long: Long, width: int, one_of: int) -> None:
    someone = open_context().log_in(long.user, PASSWORD)
    wrong = {}
    # The narrowest and the widest: a menu is as wide as its words.
    someone.page.set_viewport_size({"width": width, "height": 860})
    of_project = [path for path in long.pages if path.startswith(f"/projects/{long.project}")]
    for path in (*of_project[::one_of], "/mine/keys"):
        someone.page.goto(path)
        for place, menu in enumerate(someone.page.locator("details.drop > summary").all()):
            if not menu.is_visible():
                continue
            menu.click()
            if found := someone.page.evaluate(_STICKS_OUT):
                wrong[f"{path[:80]}, menu {place}"] = found
            someone.page.keyboard.press("Escape")
    assert wrong == {}


def test_the_secret_and_the_answers_of_the_helper_fit(open_context: Opener, long: Long) -> None:
    someone = open_context().log_in(long.user, PASSWORD)
    someone.go("/mine/keys").fill("Name", "s" * 64).click("Create access key")
    someone.page.wait_for_url("**/secret")
    for width in WIDTHS:
        someone.page.set_viewport_size({"width": width, "height": 860})
        assert someone.page.evaluate(_STICKS_OUT) == [], width
    someone.go("/").fill("Images", f"FROM {'n' * 200}@sha256:{'0' * 64}\nFROM {'e' * 60}.example.org/{'m' * 180}")
    someone.page.locator("#answers li").nth(1).wait_for()
    for width in WIDTHS:
        someone.page.set_viewport_size({"width": width, "height": 860})
        assert someone.page.evaluate(_STICKS_OUT) == [], width


def test_a_list_is_as_long_on_a_tablet_as_on_a_desk(open_context: Opener, stage: Service) -> None:
    """A row stays a row down to 701 pixels, and does not take a line for each of its fields below that."""
    admin = open_context().log_in(stage.username, stage.password)
    for path in ("/projects?q=mirror", "/administration/users?q=saar", "/administration/projects?q=mirror",
                 "/projects/mirror/repositories", "/projects/mirror/cache"):  # fmt: skip
        admin.go(path)
        heights = {}
        for width in (1440, 820, 390):
            admin.page.set_viewport_size({"width": width, "height": 860})
            heights[width] = max(admin.page.evaluate(_HEIGHT))
        assert heights[820] < heights[1440] * 1.6, (path, heights)
        assert heights[390] < heights[1440] * 2.5, (path, heights)
