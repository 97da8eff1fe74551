"""What a form does when it is sent, and above all what nothing but sending it does."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from lxml import html
from playwright.sync_api import Browser, Request, expect

from tests.api.client import Registry
from tests.images import single
from tests.parts.service import Service
from tests.web.conftest import opening
from tests.web.http import Person
from tests.web.person import Opener, Visitor
from tests.web.plenty import Plenty, make_plenty
from tests.web.scene import PASSWORD

pytestmark = pytest.mark.usefixtures("clean_log")

# What may be done by one click: it takes nothing from anybody, and one more click undoes it.
AT_ONCE = {"/logout", "/language"}


@pytest.fixture(scope="module")
def plenty(stage: Service) -> Iterator[Plenty]:
    """A project with more of everything than a page shows; its owner may have no more than ten."""
    made = make_plenty(stage, f"x{uuid.uuid4().hex[:6]}")
    owner = Registry(stage.host, stage.username, stage.password)
    owner.push_image(f"{made.project}/part-02", "2", single("forms", sizes=(300,)))
    yield made
    admin = Person(stage.host).log_in(stage.username, stage.password)
    for name in (made.project, made.empty):
        assert admin.post(f"/projects/{name}/delete", {"name": name}).status == 303


@pytest.fixture(scope="module")
def arrive(chromium: Browser, stage: Service) -> Iterator[Opener]:
    with opening(chromium, stage) as open_one:
        yield open_one


@pytest.fixture(scope="module")
def mari(arrive: Opener) -> Visitor:
    return arrive().log_in("mari.tamm", PASSWORD)


@pytest.fixture(scope="module")
def admin(arrive: Opener, stage: Service) -> Visitor:
    return arrive().log_in(stage.username, stage.password)


def in_project(plenty: Plenty) -> tuple[str, ...]:
    at = f"/projects/{plenty.project}"
    return (
        at, f"{at}/repositories", f"{at}/repositories/part-02", f"{at}/repositories/part-02:1", f"{at}/members",
        f"{at}/robots", f"{at}/robots/{plenty.bot}", f"{at}/robots/new", f"{at}/labels", f"{at}/logs",
        f"{at}/configuration",
    )  # fmt: skip


OF_ADMINS = (
    "/", "/new-project", "/mine", "/mine/keys", "/mine/sessions", "/administration/users", "/administration/projects",
    "/administration/upstreams", "/administration/robots", "/administration/audit", "/administration",
)  # fmt: skip


# What a browser says of a field while somebody chooses with an arrow key.
_CHOOSE = """(fields) => {
  const key = { key: "ArrowDown", bubbles: true };
  for (const one of fields) {
    one.focus();
    one.dispatchEvent(new KeyboardEvent("keydown", key));
    for (const name of ["input", "change"]) one.dispatchEvent(new Event(name, { bubbles: true }));
    one.dispatchEvent(new KeyboardEvent("keyup", key));
    one.blur();
  }
  return fields.length;
}"""


def test_choosing_does_nothing_by_itself(admin: Visitor, plenty: Plenty) -> None:
    """WCAG 2.2, 3.2.2: an arrow key on a list of choices is not yet a decision."""
    sent: list[Request] = []
    admin.page.on("request", lambda request: sent.append(request) if request.is_navigation_request() else None)
    seen = 0
    for path in (*in_project(plenty), *OF_ADMINS):
        admin.go(path)
        sent.clear()
        fields = admin.page.locator("select:visible, input[type=radio]:visible, input[type=checkbox]:visible")
        if fields.count():
            fields.first.focus()
            admin.page.keyboard.press("ArrowDown")
            admin.page.keyboard.press("ArrowUp")
        seen += fields.evaluate_all(_CHOOSE)
        admin.page.wait_for_timeout(50)
        assert [request.url for request in sent] == [], path
    assert seen > 50


def test_a_role_is_changed_by_its_button(mari: Visitor, plenty: Plenty) -> None:
    mari.go(f"/projects/{plenty.project}/members?q=group-03")
    role = mari.page.get_by_label("Role of group-03")
    role.focus()
    mari.page.keyboard.press("ArrowDown")
    mari.page.reload()
    expect(role).to_have_value("guest")
    role.focus()
    mari.page.keyboard.press("ArrowDown")
    mari.page.keyboard.press("Tab")
    mari.page.keyboard.press("Enter")
    expect(mari.page.locator(".note")).to_contain_text("The role is changed.")
    expect(role).to_have_value("developer")


def test_what_acts_at_one_click_asks_first(stage: Service, plenty: Plenty) -> None:
    """A form without a field is a button that acts. It is in a fold that says what will happen."""
    admin = Person(stage.host).log_in(stage.username, stage.password)
    Person(stage.host).log_in(stage.username, stage.password)
    asked = set()
    for path in (*in_project(plenty), *OF_ADMINS):
        answer = admin.get(path)
        page = html.document_fromstring((admin.get(answer.location) if answer.status == 303 else answer).text)
        for form in page.xpath("//form[@method='post']"):
            fields = form.xpath(".//input[not(@type='hidden')] | .//select | .//textarea")
            enables = form.xpath(".//*[@value='enable'] | .//input[@name='disabled'][@value='no']")
            if fields or enables or form.get("action") in AT_ONCE:
                continue
            assert form.xpath("ancestor::details"), (path, form.get("action"))
            assert form.xpath(".//p[normalize-space()]"), (path, form.get("action"))
            asked.add(form.get("action").rpartition("/")[2])
    assert asked >= {"refresh", "switch", "delete", "change", "revoke", "remove"}


def test_a_list_is_where_it_was_after_an_action(admin: Visitor, mari: Visitor, plenty: Plenty) -> None:
    at = f"/projects/{plenty.project}"
    for path, row, act in (
        (f"{at}/labels", "label-26", "Delete"),
        (f"{at}/members?q=group", "group-26", "Remove"),
    ):
        mari.go(path).click("Next", role="link").page.wait_for_url("**after=**")
        place = mari.page.url
        mari.row(row).locator("summary").click()
        mari.row(row).get_by_role("button", name=act).click()
        expect(mari.page.locator(".note-success")).to_be_visible()
        assert mari.page.url == place
        expect(mari.row(row)).to_have_count(0)
        expect(mari.page.locator("table.list tbody tr").first).to_be_visible()
    mari.go(f"{at}/robots?q=bot-1").act_on("bot-14", "Disable")
    assert mari.page.url.endswith("/robots?q=bot-1")
    mari.act_on("bot-15", "Refresh secret")
    mari.click("Done", role="link").page.wait_for_url("**/robots?q=bot-1")
    mark = plenty.project.removeprefix("plenty-")
    admin.go(f"/administration/users?q={mark}").act_on(f"{mark}-03", "Disable")
    assert admin.page.url.endswith(f"?q={mark}")
    admin.go(f"/administration/projects?q={mark}").row(f"{mark}-02").get_by_role("button", name="Set").click()
    assert "The quota is set." in admin.told()
    assert admin.page.url.endswith(f"?q={mark}")


def test_a_page_that_was_emptied_shows_the_first_one(mari: Visitor, plenty: Plenty) -> None:
    """Its only entries are deleted, one after another: the list is not said to be empty."""
    mari.go(f"/projects/{plenty.project}/robots").click("Next", role="link").page.wait_for_url("**after=**")
    for row in ("bot-25", "bot-26"):
        mari.act_on(row, "Delete")
        assert "The robot account is deleted" in mari.told()
    expect(mari.row("bot-00")).to_be_visible()
    assert "No robot accounts yet" not in mari.text()


def test_another_page_is_no_way_to_a_redirect(stage: Service, plenty: Plenty) -> None:
    """The page that a form was sent from is believed only if it is the one where the redirect leads anyway."""
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    at = f"/projects/{plenty.project}/labels"
    for referer, location in (
        (f"http://{stage.host}{at}?after=label-03", f"{at}?after=label-03"),
        (f"http://{stage.host}/projects?q=x", at),
        (f"http://evil.example.org{at}?after=x", at),
        ("http://[", at),
        ("", at),
    ):
        mari.headers = {"Referer": referer}
        assert mari.post(f"{at}/delete", {"label": "999999"}).location == location
    for referer, location in (
        (f"http://{stage.host}/new-project?a=b", "/login?next=%2Fnew-project%3Fa%3Db"),
        ("http://evil.example.org/new-project", "/login?next=%2F"),
        (f"http://{stage.host}//evil.example.org", "/login?next=%2F"),
    ):
        nobody = Person(stage.host)
        nobody.get("/")
        nobody.headers = {"Referer": referer}
        assert nobody.post("/new-project", {"name": "x"}).location == location


# -- a session that has ended


def log_in_here(person: Visitor, username: str) -> None:
    person.page.get_by_label("User name").fill(username)
    person.page.get_by_label("Password").fill(PASSWORD)
    person.page.get_by_role("button", name="Log in", exact=True).click()
    person.page.wait_for_url(lambda url: "/login" not in url)


def test_a_form_is_as_it_was_typed_after_the_session_has_ended(open_context: Opener) -> None:
    jaan = open_context().log_in("jaan.saar", PASSWORD)
    name = f"typed-{uuid.uuid4().hex[:6]}"
    jaan.go("/new-project").fill("Project name", name).fill("Storage quota", "3")
    jaan.fill("Description (optional)", "typed for ten minutes").page.get_by_label("Public").check()
    jaan.page.context.clear_cookies(name="session")
    jaan.click("Create project").page.wait_for_url("**/login?next=%2Fnew-project")
    assert "log in" in jaan.text().lower()
    log_in_here(jaan, "jaan.saar")
    assert jaan.page.url.endswith("/new-project")
    assert jaan.page.get_by_label("Project name").input_value() == name
    assert jaan.page.get_by_label("Description (optional)").input_value() == "typed for ten minutes"
    assert jaan.page.get_by_label("Public").is_checked()
    jaan.click("Create project")
    assert f"The project {name} is created." in jaan.told()
    jaan.go("/new-project")
    assert jaan.page.get_by_label("Project name").input_value() == ""


def test_nothing_secret_is_kept_of_a_form_and_nothing_for_another_person(open_context: Opener, stage: Service) -> None:
    admin = open_context().log_in(stage.username, stage.password)
    admin.go("/new-project").fill("Project name", "of-the-admin").page.get_by_label("Proxy cache").check()
    admin.fill("User name there", "hub-user").fill("Password or token", "a-secret-of-the-hub")
    admin.page.context.clear_cookies(name="session")
    admin.click("Create project").page.wait_for_url("**/login?next=**")
    kept = admin.page.evaluate("JSON.stringify(sessionStorage)")
    assert "of-the-admin" in kept
    assert "a-secret-of-the-hub" not in kept
    assert "_xsrf" not in kept
    log_in_here(admin, "jaan.saar")
    assert admin.page.get_by_label("Project name").input_value() == ""
    assert admin.page.evaluate("sessionStorage.length") == 0


def test_a_form_in_another_tab_goes_on_after_a_new_log_in(open_context: Opener) -> None:
    jaan = open_context().log_in("jaan.saar", PASSWORD)
    name = f"tab-{uuid.uuid4().hex[:6]}"
    jaan.go("/new-project").fill("Project name", name).fill("Storage quota", "1")
    other = Visitor(jaan.page.context.new_page(), None)
    other.go("/").open("jaan.saar").click("Log out")
    log_in_here(other.go("/login"), "jaan.saar")
    jaan.click("Create project")
    assert f"The project {name} is created." in jaan.told()


def test_two_clicks_send_a_form_once(open_context: Opener) -> None:
    jaan = open_context().log_in("jaan.saar", PASSWORD)
    name = f"twice-{uuid.uuid4().hex[:6]}"
    jaan.go("/mine/keys").fill("Name", name)
    jaan.page.get_by_role("button", name="Create access key").dblclick()
    expect(jaan.page.locator("#secret-text")).to_contain_text("hpcr_")
    jaan.go("/mine/keys")
    assert jaan.page.locator("table.list tbody tr", has_text=name).count() == 1


# -- a new secret


def test_the_secret_s_page_can_be_reloaded(open_context: Opener, stage: Service) -> None:
    jaan = open_context().log_in("jaan.saar", PASSWORD)
    name = f"again-{uuid.uuid4().hex[:6]}"
    jaan.go("/mine/keys").fill("Name", name).click("Create access key")
    secret = jaan.page.locator("#secret-text").inner_text()
    jaan.page.reload()
    assert jaan.page.locator("#secret-text").inner_text() == secret
    assert Registry(stage.host, "jaan.saar", secret).ask_token().status == 200
    jaan.click("Done", role="link")
    assert jaan.page.locator("table.list tbody tr", has_text=name).count() == 1
    assert secret not in jaan.page.content()


def test_a_secret_is_seen_in_its_own_session_only(stage: Service) -> None:
    jaan = Person(stage.host).log_in("jaan.saar", PASSWORD)
    form = {"name": f"sealed-{uuid.uuid4().hex[:6]}", "days": "3", "scope": "*", "right": "repository:pull"}
    assert jaan.post("/mine/keys", form).location == "/secret"
    page = jaan.get("/secret")
    assert "hpcr_" in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert "hpcr_" not in jaan.cookies["shown"]
    other = Person(stage.host).log_in("jaan.saar", PASSWORD)
    other.cookies["shown"] = jaan.cookies["shown"]
    assert "hpcr_" not in other.get("/secret").text
    assert "no longer shown" in other.get("/secret").text
    jaan.cookies.pop("session")
    assert jaan.get("/secret").location.startswith("/login")


def test_no_line_has_a_secret_that_would_stay_in_the_history(mari: Visitor, plenty: Plenty) -> None:
    mari.go(f"/projects/{plenty.project}/robots/{plenty.bot}").confirm("Refresh secret")
    secret = mari.page.locator("#secret-text").inner_text()
    lines = [line for line in mari.page.locator(".copy-line code").all_inner_texts() if line != secret]
    assert sum("docker login" in line for line in lines) == 2
    assert any(line.endswith("--password-stdin < secret.txt") for line in lines)
    assert not any(secret in line for line in lines)


# -- words


def test_a_refused_log_in_says_what_to_do(visitor: Visitor) -> None:
    visitor.go("/login").fill("User name", "mari.tamm").fill("Password", "wrong").click("Log in")
    expect(visitor.page.get_by_role("alert")).to_contain_text("check both")
    expect(visitor.page.get_by_text("can be replaced by the operators")).to_be_visible()
    visitor.click("Help with logging in", role="link").page.wait_for_url("**/help/login")


def test_an_empty_repository_claims_nothing(mari: Visitor, stage: Service, plenty: Plenty) -> None:
    owner = Registry(stage.host, stage.username, stage.password)
    name = f"{plenty.empty}/emptied"
    image = single("emptied", sizes=(200,))
    owner.push_image(name, "1", image)
    at = f"/projects/{plenty.empty}/repositories/emptied"
    mari.go(f"{at}:1").open("Delete").click("Delete artifact")
    expect(mari.page.locator(".empty")).to_contain_text("No push to it is complete, or everything")
    mari.open("Delete")
    expect(mari.page.locator(".drop[open]")).to_contain_text("The repository has no artifacts.")
