"""What services refuse is said in the language of whoever reads the page, and what somebody typed stays text in it."""

from __future__ import annotations

import html
import re
import uuid
from collections.abc import Mapping

import pytest

from tests.parts.service import Service
from tests.web.http import Answer, Person
from tests.web.scene import PASSWORD

pytestmark = pytest.mark.usefixtures("clean_log")

NOTE = re.compile(r'class="note note-danger[^>]*>.*?<span>(.*?)</span>', re.DOTALL)
ROBOT = {"name": "ci", "days": "5", "right": "repository:pull"}


@pytest.fixture(scope="module")
def project(stage: Service) -> str:
    """A project of mari.tamm with a label in it."""
    name = f"keel-{uuid.uuid4().hex[:6]}"
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    assert mari.post("/new-project", {"name": name, "quota": "1", "unit": "GiB"}).status == 303
    assert "success" in mari.message(mari.post(f"/projects/{name}/labels", {"name": "vana"}))
    return name


@pytest.fixture
def mari(stage: Service) -> Person:
    """Somebody who chose Estonian."""
    person = Person(stage.host).log_in("mari.tamm", PASSWORD)
    person.post("/language", {"language": "et", "next": "/"})
    return person


def complaint(person: Person, answer: Answer) -> str:
    """Read what went wrong, on the page itself or on the one that the form led to."""
    page = person.get(answer.location) if answer.status == 303 else answer
    found = NOTE.search(page.text)
    assert found, (answer.status, page.text[:800])
    assert "<" not in found[1]
    return html.unescape(found[1])


@pytest.mark.parametrize(
    ("form", "fields", "said"),
    [
        ("/new-project", {"name": "PROJECT", "quota": "1"}, "Projekt 'PROJECT' on juba olemas; valige teine nimi."),
        ("/new-project", {"name": "admin", "quota": "1"}, "Nimi 'admin' on reserveeritud; valige teine."),
        ("/new-project", {"name": "<b>", "quota": "1"}, "'<b>' ei ole projekti nimi: väiketähed ja numbrid"),
        ("/new-project", {"name": "suur", "quota": "9000", "unit": "TiB"}, "Kvoot on kuni 100.0 GiB"),
        ("/new-project", {"name": "suur", "quota": "palju"}, "palju ei ole maht; kirjutage arv"),
        ("/new-project", {"name": "suur", "quota": "-1"}, "mahu kvoot: baitide arv, vähemalt 0."),
        ("/projects/PROJECT/members/add", {"name": "<i>x", "role": "guest"}, "Kedagi nimega '<i>x' siin ei tunta"),
        ("/projects/PROJECT/members/add", {"name": "mari.tamm", "role": "guest"}, "mari.tamm on juba liige"),
        ("/projects/PROJECT/members/add", {"name": "x", "role": "tsaar"}, "Valige üks loendist."),
        ("/projects/PROJECT/members/add", {"name": "a\nb", "kind": "group", "role": "guest"}, "rühm: üks kuni 255"),
        ("/projects/PROJECT/members/remove", {"member": "999"}, "Sellist liiget selles projektis ei ole."),
        ("/projects/PROJECT/robots/new", {**ROBOT, "days": "0"}, "Kehtivus peab olema 1 kuni 365 päeva."),
        ("/projects/PROJECT/robots/new", {**ROBOT, "days": "x"}, "Kirjutage päevade arv."),
        ("/projects/PROJECT/robots/new", {**ROBOT, "name": "CI"}, "Kirjutage roboti nimi väiketähtede ja numbritega"),
        ("/projects/PROJECT/robots/new", {"name": "ci", "days": "5"}, "Valige iga projekti jaoks vähemalt"),
        ("/projects/PROJECT/robots/delete", {"robot": "999"}, "Sellist robotikontot siin ei ole."),
        ("/projects/PROJECT/labels", {"name": "vana"}, "Silt 'vana' on siin juba olemas; valige muu nimi."),
        ("/projects/PROJECT/labels", {"name": "uus", "color": "sinine"}, "Värv: #rrggbb, mitte 'sinine'."),
        ("/projects/PROJECT/labels/delete", {"label": "999"}, "Sellist silti siin ei ole."),
        ("/projects/PROJECT/configuration", {"description": "x" * 4001}, "kirjeldus: kuni 4000 märki"),
        ("/mine/keys", {"days": "5", "right": "repository:pull"}, "Andke võtmele nimi, mis ütleb"),
        ("/mine/keys", {"name": "x", "days": "9999", "right": "repository:pull"}, "Kehtivus peab olema 1 kuni"),
        ("/mine/keys/delete", {"key": "999"}, "Teil ei ole sellist pääsuvõtit."),
        ("/mine/sessions/revoke", {"session": "x"}, "See seanss on juba lõppenud."),
    ],
)
def test_a_refused_form_says_why_in_estonian(
    mari: Person, project: str, form: str, fields: Mapping[str, str], said: str
) -> None:
    sent = {name: value.replace("PROJECT", project) for name, value in fields.items()}
    answer = mari.post(form.replace("PROJECT", project), sent)
    assert complaint(mari, answer).startswith(said.replace("PROJECT", project))


def test_the_last_project_admin_is_told_so(mari: Person, project: str) -> None:
    member = re.search(r'name="member" value="(\d+)"', mari.get(f"/projects/{project}/members").text)
    assert member
    answer = mari.post(f"/projects/{project}/members/role", {"member": member[1], "role": "guest"})
    assert complaint(mari, answer).startswith("mari.tamm on viimane projekti haldur; ")


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/projects/pole-olemas", 404, "Projekti 'pole-olemas' ei ole või te pole selle liige."),
        ("/projects/PROJECT/repositories/pole", 404, "Hoidlat 'pole' selles projektis ei ole."),
        ("/projects/PROJECT/cache", 404, "Sellist asja ei ole."),
        ("/administration/users", 403, "Seda tohib teha ainult haldur."),
        ("/projects/mirror/configuration", 403, "Teil pole selleks projektis mirror õigust: vaja on õigust"),
        ("/projects/mirror/repositories/library/redis:pole", 404, "Märgendit pole siin ei ole."),
    ],
)
def test_an_error_page_says_why_in_estonian(mari: Person, project: str, path: str, status: int, said: str) -> None:
    answer = mari.get(path.replace("PROJECT", project))
    assert answer.status == status
    assert said in html.unescape(answer.text)


def test_a_refused_log_in_says_why_in_estonian(stage: Service) -> None:
    person = Person(stage.host)
    person.cookies["language"] = "et"
    person.get("/login")
    answer = person.post("/login", {"username": "mari.tamm", "password": "vale"})
    assert complaint(person, answer) == "Vale kasutajanimi või parool; kontrollige mõlemat ja logige uuesti sisse."
    stale = person.post("/login", {"username": "mari.tamm", "password": "vale"}, token="")
    assert complaint(person, stale).startswith("See vorm oli liiga kaua avatud")


def test_in_english_it_is_said_as_the_api_says_it(stage: Service, project: str) -> None:
    person = Person(stage.host).log_in("mari.tamm", PASSWORD)
    answer = person.post("/new-project", {"name": project, "quota": "1", "unit": "GiB"})
    assert complaint(person, answer) == f"there is a project '{project}' already; choose another name"
