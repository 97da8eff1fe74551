"""The pages of the audit log: of a project, of the system, and as a spreadsheet."""

from __future__ import annotations

import csv
import io
from urllib.parse import urlencode

import pytest

from tests.parts.process import wait_for
from tests.parts.service import Service
from tests.web.http import Person
from tests.webapi.client import Api

pytestmark = pytest.mark.usefixtures("clean_log")

SCRIPT = "<script>alert('õ')</script>"
# What a spreadsheet would take for a formula, and how it stands in one instead.
FORMULAS = {
    "=1+1": "'=1+1",
    '=HYPERLINK("http://evil.example")': '\'=HYPERLINK("http://evil.example")',
    "+372 1234": "'+372 1234",
    "-1": "'-1",
    "@SUM(A1)": "'@SUM(A1)",
    "a;=1+1": "a;'=1+1",
    "a,-1": "a,'-1",
    "harmless - really=yes": "harmless - really=yes",
}
NAME = "looked-into"


@pytest.fixture(scope="module")
def admin(stage: Service) -> Person:
    return Person(stage.host).log_in(stage.username, stage.password)


@pytest.fixture(scope="module")
def logged(stage: Service, admin: Person) -> str:
    """A project whose log has names of every evil kind; the last test deletes it."""
    api = Api(stage.host, stage.username, stage.password)
    assert api.do("createProject", {"project_name": NAME}).status == 201
    for name in (SCRIPT, *FORMULAS):
        member = {"role_id": 3, "member_group": {"group_name": name}}
        assert api.do("createMember", member, project_name_or_id=NAME).status == 201
    wait_for(lambda: "harmless" in admin.get(f"/projects/{NAME}/logs").text, what="the audit log")
    return NAME


@pytest.mark.parametrize("path", [f"/projects/{NAME}/logs", f"/administration/audit?q={NAME}"])
def test_a_name_that_is_a_script_is_text(admin: Person, logged: str, path: str) -> None:
    text = admin.get(path).text
    assert SCRIPT not in text
    assert "&lt;script&gt;alert" in text


def test_a_search_for_a_script_is_text(admin: Person) -> None:
    for fields in ({"q": f'">{SCRIPT}'}, {"q": "x", "operation": f'">{SCRIPT}'}, {"q": "x", "before": SCRIPT}):
        answer = admin.get(f"/administration/audit?{urlencode(fields)}")
        assert answer.status == 200
        assert "<script>alert" not in answer.text


def exported(admin: Person, query: str) -> list[dict[str, str]]:
    answer = admin.get(f"/administration/audit.csv?{query}")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_no_name_becomes_a_formula(admin: Person, logged: str) -> None:
    rows = exported(admin, f"q={logged}")
    assert {row["what"] for row in rows if row["kind"] == "member"} == {SCRIPT, *FORMULAS.values()}


def test_every_entry_names_its_project(admin: Person, logged: str) -> None:
    rows = exported(admin, f"q={logged}")
    assert len(rows) == len(FORMULAS) + 2
    assert {(row["project"], row["times"]) for row in rows} == {(logged, "1")}
    page = admin.get("/administration/audit?operation=create&q=looked").text
    assert f'<a href="/administration/audit?operation=create&amp;q={logged}">{logged}</a>' in page


def test_a_project_that_is_gone_is_still_told_of(stage: Service, admin: Person, logged: str) -> None:
    before = exported(admin, f"q={logged}")
    assert Api(stage.host, stage.username, stage.password).do("deleteProject", project_name_or_id=logged).status == 200
    wait_for(lambda: len(exported(admin, f"q={logged}")) == len(before) + 1, what="the audit log")
    assert admin.get(f"/projects/{logged}/logs").status == 404
    assert "&lt;script&gt;alert" in admin.get(f"/administration/audit?q={logged}").text
