"""Every link and copy button of every page, each search, pager, choice and right: what it does when somebody uses it.

That each page has a control for each form that its reader may send, and that each form is sent, `test_who_may_what`
shows.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import SplitResult, parse_qs, urljoin, urlsplit

import pytest
from lxml import html
from playwright.sync_api import Browser, expect

from tests.api.client import Registry, basic, exchange
from tests.parts.service import Service
from tests.web.conftest import opening
from tests.web.http import Answer, Person
from tests.web.person import Opener, Visitor
from tests.web.plenty import MANY, Plenty, make_plenty
from tests.web.scene import PASSWORD

pytestmark = pytest.mark.usefixtures("clean_log")

PAGE = 25
CHAPTERS = ("/help", *(f"/help/{name}" for name in
            ("login", "cache", "projects", "robots", "pushing", "clusters", "trouble")))  # fmt: skip
OPEN_TO_ALL = (
    "/",
    "/projects",
    "/mirror",
    "/mirror?after=a",
    "/mirror?after=zzzz",
    "/search?q=no-such",
    "/login",
    "/no/such/page",
    "/help/personal-data",
)
OF_A_PROJECT = (
    "/projects/PROJECT", "/projects/PROJECT/repositories", "/projects/PROJECT/members", "/projects/PROJECT/robots",
    "/projects/PROJECT/labels", "/projects/PROJECT/logs", "/projects/PROJECT/configuration",
    "/projects/PROJECT/policy", "/projects/PROJECT/webhooks", "/projects/PROJECT/webhooks/new",
)  # fmt: skip
WITHIN_A_PROJECT = (
    "/projects/PROJECT/robots/new", "/projects/PROJECT/repositories/part-00",
    "/projects/PROJECT/repositories/part-01:1", "/projects/PROJECT/repositories?q=no-such",
    "/projects/PROJECT/repositories/part-00?q=no-such", "/projects/EMPTY", "/projects/EMPTY/repositories",
    "/projects/EMPTY/robots", "/projects/PROJECT/robots/BOT", "/search?q=PROJECT",
    "/search?q=part-&after=PROJECT/part-10",
)  # fmt: skip
OF_THE_MIRROR = ("/projects/mirror", "/projects/mirror/cache", "/projects/mirror/repositories/library/redis:7")
OF_ADMINS = (
    "/mine", "/mine/keys", "/mine/sessions", "/new-project", "/administration/users", "/administration/projects",
    "/administration/upstreams", "/administration/robots", "/administration/robots/new", "/administration/audit",
    "/administration/robots/SYSTEM", "/administration", "/administration/requests",
    "/administration/requests?show=failed", "/administration/unattended",
)  # fmt: skip


@pytest.fixture(scope="module")
def arrive(chromium: Browser, stage: Service) -> Iterator[Opener]:
    """Open browsers that stay open: everybody logs in once."""
    with opening(chromium, stage) as open_one:
        yield open_one


@pytest.fixture(scope="module")
def visitor(arrive: Opener) -> Visitor:
    return arrive()


@pytest.fixture(scope="module")
def admin(arrive: Opener, stage: Service) -> Visitor:
    return arrive().log_in(stage.username, stage.password)


@pytest.fixture(scope="module")
def mari(arrive: Opener) -> Visitor:
    return arrive().log_in("mari.tamm", PASSWORD)


@pytest.fixture(scope="module")
def jaan(arrive: Opener) -> Visitor:
    return arrive().log_in("jaan.saar", PASSWORD)


@pytest.fixture(scope="module")
def plenty(stage: Service) -> Plenty:
    return make_plenty(stage, f"m{uuid.uuid4().hex[:6]}")


@pytest.fixture(scope="module")
def mark(plenty: Plenty) -> str:
    """What the names of people, projects and system robots begin with."""
    return plenty.project.removeprefix("plenty-")


def paths(plenty: Plenty, pages: Sequence[str]) -> list[str]:
    names = {"PROJECT": plenty.project, "EMPTY": plenty.empty, "BOT": str(plenty.bot), "SYSTEM": str(plenty.system_bot)}
    return [re.sub("|".join(names), lambda found: names[found[0]], path) for path in pages]


# -- links and copies, wherever they are


@pytest.fixture(scope="module")
def readers(stage: Service) -> Mapping[str, Person]:
    """Everybody as the server sees them: what is on a page needs no browser to be read."""
    return {
        "visitor": Person(stage.host),
        "admin": Person(stage.host).log_in(stage.username, stage.password),
        "mari": Person(stage.host).log_in("mari.tamm", PASSWORD),
    }


@pytest.fixture(scope="module")
def followed() -> set[tuple[str, str]]:
    """Who has followed which link: a page of dozens has the same menu."""
    return set()


def read(reader: Person, path: str) -> Answer:
    """Open a page as a browser would, which follows a redirect; none is heavy, however long its lists are."""
    answer = reader.get(path)
    answer = reader.get(answer.location) if answer.status == 303 else answer
    assert len(answer.text.encode()) < 100_000 or not answer.text.startswith("<!doctype html>"), path
    return answer


GROUPS = {
    "visitor": ("visitor", OPEN_TO_ALL),
    "guide": ("visitor", CHAPTERS),
    "admin": ("admin", OPEN_TO_ALL),
    "administration": ("admin", OF_ADMINS),
    "project": ("mari", OF_A_PROJECT),
    "inside": ("mari", WITHIN_A_PROJECT),
    "mirror": ("admin", OF_THE_MIRROR),
}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("each", [False, pytest.param(True, marks=pytest.mark.long)], ids=["one of each kind", "each"])
def test_every_link_leads_where_it_says(
    readers: Mapping[str, Person], followed: set[tuple[str, str]], plenty: Plenty, group: str, each: bool
) -> None:
    """Links to one page are of one kind if their queries have the same names, as those that sort a list."""
    who, pages = GROUPS[group]
    for path in paths(plenty, pages):
        page = html.document_fromstring(read(readers[who], path).text)
        for link in page.iterfind(".//a[@href]"):
            target = urlsplit(urljoin(path, link.get("href", "")))
            query = target.query if each else " ".join(parse_qs(target.query, keep_blank_values=True))
            if target.netloc or (who, target.path + query) in followed:
                continue
            if (target.path, target.query) == urlsplit(path)[2:4]:
                assert page.xpath("//*[@id=$id]", id=target.fragment or "content"), (path, target.fragment)
                continue
            followed.add((who, target.path + query))
            follow(readers[who], path, link, target)


def follow(reader: Person, path: str, link: html.HtmlElement, target: SplitResult) -> None:
    """Open what a link of the page at ``path`` leads to; something is there, and a tab says that it is open."""
    place = f"{path}: {target.geturl()}"
    answer = read(reader, target._replace(fragment="").geturl())
    assert answer.status == 200, place
    if target.path.endswith(".csv"):
        assert answer.headers["Content-Type"].startswith("text/csv"), place
        return
    there = html.document_fromstring(answer.text)
    assert there.xpath("//main//h1"), place
    assert not there.find_class("error-code"), place
    if target.fragment:
        assert there.xpath("//*[@id=$id]", id=target.fragment), place
    if link.xpath("ancestor::*[contains(@class, 'tabs') or contains(@class, 'guide-contents')]"):
        assert there.xpath("//a[@href=$path][@aria-current='page']", path=target.path), place


@pytest.mark.parametrize("group", GROUPS)
def test_every_copy_button_has_what_it_copies(readers: Mapping[str, Person], plenty: Plenty, group: str) -> None:
    """That a press of one puts it on the clipboard, `test_pages` and the secrets below show in a browser."""
    who, pages = GROUPS[group]
    for path in paths(plenty, pages):
        page = html.document_fromstring(read(readers[who], path).text)
        for button in page.find_class("copy"):
            source = button.get("data-copy-from")
            (named,) = page.xpath("//*[@id=$id]", id=source) if source else [None]
            wanted = button.get("data-copy") if named is None else named.text_content()
            assert wanted, (path, html.tostring(button))


def copy_here(visitor: Visitor) -> None:
    """Press the copy buttons of the page as it is; what each is for is on the clipboard then."""
    page = visitor.page
    for button in page.locator("button.copy:visible").all():
        source = button.get_attribute("data-copy-from")
        wanted = page.locator(f"#{source}").text_content() if source else button.get_attribute("data-copy")
        page.evaluate("navigator.clipboard.writeText('')")
        button.click()
        expect(page.locator("#announce")).to_have_text("Copied")
        assert wanted
        assert page.evaluate("navigator.clipboard.readText()") == wanted


# -- lists


def shown(person: Visitor) -> list[str]:
    """Name what the list on the page has."""
    names = person.page.locator("table.list tbody td.name").all_inner_texts()
    return [name.split("\n")[0].strip() for name in names]


@pytest.mark.parametrize(
    ("path", "label", "wanted", "found"),
    [
        ("/projects", "Search by name", "MARK-1", [f"MARK-{number}" for number in range(10, 20)]),
        (
            "/projects/PROJECT/repositories",
            "Search by name",
            "part-2",
            [f"part-{number}" for number in range(20, MANY)],
        ),
        ("/projects/PROJECT/members", "Search by name", "group-07", ["group-07"]),
        ("/projects/PROJECT/robots", "Search by name", "bot-13", ["robot-PROJECT+bot-13"]),
        ("/administration/users", "Search by name or address", "MARK-05", ["MARK-05"]),
        ("/administration/projects", "Search by name", "MARK-05", ["MARK-05"]),
        ("/administration/robots", "Search by name", "MARK-05", ["robot-MARK-05"]),
    ],
)
@pytest.mark.long
def test_a_search_finds_what_has_the_word_in_it(
    admin: Visitor, plenty: Plenty, mark: str, path: str, label: str, wanted: str, found: list[str]
) -> None:
    def named(text: str) -> str:
        return text.replace("PROJECT", plenty.project).replace("MARK", mark)

    admin.go(named(path)).fill(label, named(wanted)).page.keyboard.press("Enter")
    admin.page.wait_for_url(f"**?q={named(wanted)}")
    assert shown(admin) == [named(one) for one in found]
    admin.fill(label, "nothing-like-it").page.keyboard.press("Enter")
    admin.page.wait_for_url("**?q=nothing-like-it")
    assert shown(admin) == []


@pytest.mark.long
def test_artifacts_are_searched_by_tag(mari: Visitor, plenty: Plenty) -> None:
    mari.go(f"/projects/{plenty.project}/repositories/part-00")
    mari.fill("Search by tag", "v07").page.keyboard.press("Enter")
    mari.page.wait_for_url("**?q=v07")
    assert len(shown(mari)) == 1
    expect(mari.page.locator("table.list tbody")).to_contain_text("v07")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/projects?q=MARK-", "MARK"),
        ("/projects/PROJECT/repositories", "part"),
        ("/projects/PROJECT/repositories/part-00", ""),
        ("/projects/PROJECT/members?q=group", "group"),
        ("/projects/PROJECT/robots", "robot-PROJECT+bot"),
        ("/projects/PROJECT/labels", "label"),
        ("/administration/users?q=MARK-", "MARK"),
        ("/administration/projects?q=MARK-", "MARK"),
        ("/administration/robots?q=MARK-", "robot-MARK"),
    ],
)
@pytest.mark.long
def test_a_long_list_is_turned_and_turned_back(
    admin: Visitor, plenty: Plenty, mark: str, path: str, names: str
) -> None:
    def named(text: str) -> str:
        return text.replace("PROJECT", plenty.project).replace("MARK", mark)

    first = shown(admin.go(named(path)))
    assert len(first) == PAGE
    admin.click("Next", role="link").page.wait_for_url("**after=**")
    both = first + shown(admin)
    assert both == plenty.numbered(named(names)) if names else len(set(both)) == MANY
    if admin.page.get_by_role("link", name="Previous", exact=True).count():
        admin.click("Previous", role="link").page.wait_for_url("**before=**")
        assert shown(admin) == first
        admin.click("First page", role="link").page.wait_for_url(lambda url: "before=" not in url)
        admin.click("Next", role="link").page.wait_for_url("**after=**")
    admin.click("First page", role="link").page.wait_for_url(lambda url: "after=" not in url)
    assert shown(admin) == first


@pytest.mark.parametrize("path", ["/projects/PROJECT/logs", "/administration/audit"])
@pytest.mark.long
def test_a_long_log_is_turned_and_turned_back(admin: Visitor, plenty: Plenty, path: str) -> None:
    admin.go(path.replace("PROJECT", plenty.project))
    rows = admin.page.locator("table.list tbody tr")
    expect(rows).to_have_count(PAGE)
    admin.click("Next", role="link").page.wait_for_url("**before=**")
    expect(rows.first).to_be_visible()
    admin.click("First page", role="link").page.wait_for_url(lambda url: "before=" not in url)
    expect(rows).to_have_count(PAGE)


@pytest.mark.long
def test_the_tags_of_an_artifact_are_turned(mari: Visitor, plenty: Plenty) -> None:
    mari.go(f"/projects/{plenty.project}/repositories/part-01:1")
    tags = mari.page.locator(".plain-list li b")
    expect(tags).to_have_count(PAGE)
    mari.click("Next", role="link")
    expect(tags).to_have_text(["t24", "t25", "t26"])


# -- rights and roles


def tick_everything(person: Visitor, suffix: str = "") -> list[str]:
    """Take every tick off and put each one on again, with the rarer rights unfolded; gives the rights."""
    boxes = person.page.locator(f"input[name='right{suffix}']").all()
    fold = (
        person.page.locator("details:not(.field)").filter(has=person.page.locator(f"input[name='right{suffix}']")).first
    )
    if fold.get_attribute("open") is None:
        fold.locator("summary").click()
    for box in boxes:
        box.uncheck() if box.is_checked() else None
        box.check()
    return sorted(str(box.get_attribute("value")) for box in boxes)


def secret_of(person: Visitor, back: str) -> tuple[str, str]:
    """Read the secret's page and use all that is on it; gives the user name and the secret."""
    page = person.page
    username, secret = (page.locator(f"#secret-{what}").inner_text() for what in ("name", "text"))
    copy_here(person)
    with page.expect_download() as download:
        person.click("Download", role="link")
    assert json.loads(download.value.path().read_text())["secret"] == secret
    person.click("Done", role="link").page.wait_for_url(f"**{back}")
    return username, secret


def given(stage: Service, path: str, name: str) -> tuple[list[str], dict[str, object]]:
    """Ask the REST API what a robot account or an access key was given; gives its rights and all about it."""
    headers = {"Authorization": basic(*login(stage, path))}
    answer = exchange(stage.host, "GET", f"/api/v2.0{path}", None, headers)
    (found,) = [one for one in json.loads(answer.body) if one["name"] == name]
    rights = [f"{one['resource']}:{one['action']}" for part in found["permissions"] for one in part["access"]]
    return sorted(rights), found


def login(stage: Service, path: str) -> tuple[str, str]:
    return ("jaan.saar", PASSWORD) if "current" in path else (stage.username, stage.password)


@pytest.mark.long
def test_a_robot_is_given_what_was_ticked(mari: Visitor, stage: Service, plenty: Plenty) -> None:
    mari.go(f"/projects/{plenty.empty}/robots/new").fill("Name", "all").fill("Description (optional)", "does it all")
    rights = tick_everything(mari)
    mari.fill("Expires after", "12").click("Create robot account")
    username, _ = secret_of(mari, f"/projects/{plenty.empty}/robots")
    number = json.loads(
        exchange(stage.host, "GET", f"/api/v2.0/projects/{plenty.empty}", None,
                 {"Authorization": basic(stage.username, stage.password)}).body
    )["project_id"]  # fmt: skip
    found, about = given(stage, f"/robots?q=Level%3Dproject%2CProjectID%3D{number}", username)
    assert found == rights
    assert about["description"] == "does it all"
    expect(mari.row("all").locator("time").first).to_have_text("in 12 days")


@pytest.mark.long
def test_a_system_robot_is_given_what_was_ticked(admin: Visitor, stage: Service, plenty: Plenty, mark: str) -> None:
    admin.go("/administration/robots/new").fill("Name", f"{mark}-all").fill("Description (optional)", "does it all")
    rights = tick_everything(admin)
    admin.open("Other rights in other projects").fill("Other projects", plenty.empty)
    others = tick_everything(admin, "-2")
    admin.fill("Expires after", "12").click("Create robot account")
    username, secret = secret_of(admin, "/administration/robots")
    found, about = given(stage, "/robots?page_size=100", username)
    assert found == sorted(rights + others)
    assert about["description"] == "does it all"
    assert Registry(stage.host, username, secret).ask_token().status == 200
    admin.go(f"/administration/robots?q={mark}-all").act_on(f"{mark}-all", "Refresh secret")
    _, fresh = secret_of(admin, f"/administration/robots?q={mark}-all")
    assert Registry(stage.host, username, secret).ask_token().status == 401
    assert Registry(stage.host, username, fresh).ask_token().status == 200


@pytest.mark.long
def test_a_robot_is_changed_on_its_page(mari: Visitor, stage: Service, plenty: Plenty) -> None:
    page = mari.go(f"/projects/{plenty.project}/robots/{plenty.bot}").page
    rights = tick_everything(mari)
    mari.fill("Description (optional)", "may it all").click("Save")
    assert "The robot account is changed" in mari.told()
    ticked = page.locator("input[name=right]:checked").evaluate_all("boxes => boxes.map(box => box.value)")
    assert sorted(ticked) == rights


@pytest.mark.long
def test_a_system_robot_is_changed_on_its_page(admin: Visitor, stage: Service, plenty: Plenty, mark: str) -> None:
    home = "/administration/robots"
    admin.go(f"{home}/{plenty.system_bot}")
    rights = tick_everything(admin)
    admin.fill("Projects", plenty.project).open("Other rights in other projects").fill("Other projects", plenty.empty)
    others = tick_everything(admin, "-2")
    admin.fill("Description (optional)", "may it all").click("Save")
    assert "The robot account is changed" in admin.told()
    found, about = given(stage, "/robots?page_size=100", f"robot-{mark}-05")
    assert (found, about["description"]) == (sorted(rights + others), "may it all")
    admin.fill("Expires after, counted from now", "44").click("Change expiry")
    expect(admin.page.locator(".facts")).to_contain_text("in 44 days")
    for act, name, says in ((admin.confirm, "Disable", "is disabled."), (admin.click, "Enable", "is enabled.")):
        act(name)
        assert says in admin.told()
    admin.confirm("Refresh secret")
    robot = secret_of(admin, f"{home}/{plenty.system_bot}")
    assert Registry(stage.host, *robot).ask_token().status == 200
    admin.open("Delete robot account").click("Delete for good")
    assert "The robot account is deleted" in admin.told()
    assert Registry(stage.host, *robot).ask_token().status == 401


@pytest.mark.long
def test_a_project_s_robot_gets_a_new_secret(mari: Visitor, stage: Service, plenty: Plenty) -> None:
    mari.go(f"/projects/{plenty.project}/robots?q=bot-03").act_on("bot-03", "Refresh secret")
    username, secret = secret_of(mari, f"/projects/{plenty.project}/robots?q=bot-03")
    assert Registry(stage.host, username, secret).ask_token().status == 200


@pytest.mark.long
def test_an_access_key_is_given_what_was_ticked(jaan: Visitor, stage: Service) -> None:
    name = f"own-{uuid.uuid4().hex[:6]}"
    jaan.go("/new-project").fill("Project name", name).fill("Storage quota", "1").click("Create project")
    jaan.go("/mine/keys").fill("Name", name).fill("Expires after", "12")
    jaan.page.get_by_label("For", exact=True).select_option(name)
    rights = tick_everything(jaan)
    jaan.click("Create access key")
    _, secret = secret_of(jaan, "/mine/keys")
    row = jaan.row(name)
    expect(row.locator(".under").first).to_contain_text(f"{name}: ")
    expect(row.locator("time").first).to_have_text("in 12 days")
    found, _ = given(stage, "/users/current/access-keys", name)
    assert found == rights
    own, other = (Registry(stage.host, "jaan.saar", secret).ask_token(f"repository:{x}/app:push") for x in (name, "x"))
    assert own.status == other.status == 200
    row.locator("summary").click()
    row.get_by_role("button", name="Delete").click()
    assert "The access key is deleted" in jaan.told()


@pytest.mark.long
def test_a_key_that_ends_soon_is_told_of_on_the_other_pages(jaan: Visitor) -> None:
    name = f"ending-{uuid.uuid4().hex[:6]}"
    jaan.go("/mine/keys").fill("Name", name).fill("Expires after", "3").click("Create access key")
    jaan.go("/mine/sessions").click("Create another key before then", role="link").page.wait_for_url("**/mine/keys")
    row = jaan.row(name)
    row.locator("summary").click()
    row.get_by_role("button", name="Delete").click()
    assert "The access key is deleted" in jaan.told()


@pytest.mark.parametrize(
    ("fold", "label", "name"), [("USER", "User name", "liis.kask"), ("GROUP", "The group's name", "one-group")]
)
@pytest.mark.long
def test_a_member_is_given_the_role_that_was_chosen(
    mari: Visitor, plenty: Plenty, fold: str, label: str, name: str
) -> None:
    mari.go(f"/projects/{plenty.empty}/members")
    for role in ("limited guest", "guest", "developer", "maintainer", "project admin"):
        mari.open(fold).fill(label, name)
        if role == "developer":
            # It is chosen already.
            mari.page.locator("input[name=role][value=guest]").locator("visible=true").check()
        mari.page.locator(f"input[name=role][value='{role}']").locator("visible=true").check()
        mari.click("Add member")
        expect(mari.row(name).get_by_label("Role of")).to_have_value(role)
        mari.row(name).locator("summary").click()
        mari.row(name).get_by_role("button", name="Remove").click()
        assert "The member is removed." in mari.told()
    mari.open(fold).fill(label, name).click("Add member")
    mari.row(name).get_by_label("Role of").select_option("maintainer")
    mari.click(f"Save {name}")
    expect(mari.page.locator(".note")).to_contain_text("The role is changed.")
    expect(mari.row(name).get_by_label("Role of")).to_have_value("maintainer")


# -- choices of forms


@pytest.mark.long
def test_a_project_is_as_it_was_asked_for(mari: Visitor, visitor: Visitor) -> None:
    name = f"open-{uuid.uuid4().hex[:6]}"
    mari.go("/new-project").fill("Project name", name).fill("Storage quota", "300").fill("Description (optional)", "x")
    mari.page.get_by_label("Unit").first.select_option("MiB")
    mari.page.get_by_label("Public").check()
    mari.page.get_by_label("Private").check()
    mari.page.get_by_label("Public").check()
    mari.click("Create project")
    visitor.go(f"/projects/{name}")
    mari.go(f"/projects/{name}/configuration")
    assert mari.page.get_by_label("Storage quota").input_value() == "300"
    assert mari.page.get_by_label("Unit").first.input_value() == "MiB"
    mari.fill("Storage quota", "2").page.get_by_label("Unit").first.select_option("GiB")
    mari.page.get_by_label("Private").check()
    mari.click("Save")
    expect(mari.go(f"/projects/{name}").page.locator(".card", has_text="Storage")).to_contain_text("of 2 GiB used")
    visitor.go(f"/projects/{name}")
    assert "/login" in visitor.page.url


@pytest.mark.long
def test_a_cache_is_as_it_was_asked_for(admin: Visitor) -> None:
    name = f"cache-{uuid.uuid4().hex[:6]}"
    admin.go("/new-project").fill("Project name", name).page.get_by_label("Proxy cache").check()
    admin.page.get_by_label("Upstream", exact=True).select_option("docker.io")
    admin.fill("User name there", "hub-user").fill("Password or token", "hub-password").fill("Cache size", "700")
    admin.page.get_by_label("Unit").last.select_option("MiB")
    admin.click("Create project")
    expect(admin.page.get_by_text("Cache of docker.io")).to_be_visible()
    admin.go(f"/projects/{name}/configuration")
    size, unit = admin.page.get_by_label("Cache size"), admin.page.get_by_label("Unit")
    assert (size.input_value(), unit.input_value()) == ("700", "MiB")
    expect(admin.page.get_by_label("Remove the stored account")).to_be_visible()
    admin.page.get_by_label("Upstream", exact=True).select_option("docker.io")
    admin.page.get_by_label("Image names without library/").select_option("alias")
    unit.select_option("GiB")
    admin.click("Save")
    assert (size.input_value(), unit.input_value()) == ("700", "GiB")
    expect(admin.page.get_by_label("Image names without library/")).to_have_value("alias")


@pytest.mark.long
def test_an_admin_sets_a_quota_in_any_unit(admin: Visitor, mark: str) -> None:
    admin.go(f"/administration/projects?q={mark}-04")
    row = admin.row(f"{mark}-04")
    row.get_by_label("Quota of").fill("3")
    row.get_by_label("Unit").select_option("TiB")
    row.get_by_role("button", name="Set").click()
    assert "The quota is set." in admin.told()
    expect(admin.go(f"/administration/projects?q={mark}-04").row(f"{mark}-04")).to_contain_text("of 3 TiB used")


@pytest.mark.long
def test_a_label_has_its_colour_and_description(mari: Visitor, plenty: Plenty) -> None:
    mari.go(f"/projects/{plenty.empty}/labels").fill("Name", "red").fill("Description", "to be looked at")
    mari.fill("Colour", "#ff0000").click("Create label")
    expect(mari.row("red")).to_contain_text("to be looked at")
    assert mari.row("red").locator("circle").get_attribute("fill") == "#ff0000"


@pytest.mark.long
def test_a_label_is_chosen_for_an_artifact(mari: Visitor, plenty: Plenty) -> None:
    mari.go(f"/projects/{plenty.project}/repositories/part-02:1")
    mari.page.get_by_label("Label", exact=True).select_option("label-11")
    mari.click("Add label")
    expect(mari.page.locator(".plain-list", has_text="label-11")).to_be_visible()


@pytest.mark.long
def test_the_audit_log_is_narrowed_to_what_was_done(admin: Visitor, plenty: Plenty) -> None:
    admin.go(f"/administration/audit?q={plenty.project}")
    admin.page.get_by_label("Action").select_option("push")
    admin.page.locator("form.filter").get_by_role("button", name="Search").click()
    admin.page.wait_for_url("**operation=push**")
    said = admin.page.locator("table.list tbody tr .mark").all_inner_texts()
    assert said
    assert all(one.startswith("pushed") for one in said)


@pytest.mark.long
def test_the_log_in_page_changes_its_language_and_colours(open_context: Opener) -> None:
    visitor = open_context()
    visitor.go("/login").click("Eesti")
    expect(visitor.page.get_by_role("heading", name="Logi sisse")).to_be_visible()
    visitor.click("Tume kujundus")
    assert visitor.page.evaluate("document.documentElement.dataset.bsTheme") == "dark"
    visitor.click("English")
    expect(visitor.page.get_by_role("heading", name="Log in")).to_be_visible()


@pytest.mark.long
def test_the_manifest_is_unfolded(mari: Visitor, plenty: Plenty) -> None:
    mari.go(f"/projects/{plenty.project}/repositories/part-02:1")
    expect(mari.page.locator("#payload")).to_be_hidden()
    mari.open("Raw manifest")
    assert json.loads(mari.page.locator("#payload").inner_text())["schemaVersion"] == 2
