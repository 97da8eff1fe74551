"""What people may type."""

from __future__ import annotations

import pytest

from app.access import errors
from app.access.errors import Conflict, Invalid
from app.access.principal import ANONYMOUS, Principal, PrincipalKind
from app.access.roles import PULL, READ_PROJECT, Role
from app.database.projects import Viewer
from app.oci.errors import NameInvalid, OCIError, Term
from app.oci.reference import Name
from app.projects import checks
from app.projects.viewers import highest, viewer_of


@pytest.mark.parametrize("name", ["a", "0a", "a-b", "a_b", "a.b", "a1.b2-c3_d4", "a" * 128])
def test_names(name: str) -> None:
    assert checks.project_name(name, by_admin=False) == name
    Name.parse(f"{name}/app")


@pytest.mark.parametrize("name", ["", "A", "a--b", "a.-b", ".a", "a.", "a/b", "õ", "a" * 129, "a ", "~5", "a\n"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(Invalid):
        checks.project_name(name, by_admin=True)


@pytest.mark.parametrize("name", ["0", "2026", "9" * 30])
def test_names_of_digits_are_for_administrators(name: str) -> None:
    """Programs name a project by its number, too."""
    assert checks.project_name(name, by_admin=True) == name
    with pytest.raises(Invalid):
        checks.project_name(name, by_admin=False)


@pytest.mark.parametrize("part", ["v2", "service", "api", "saml", "login", "logout", "metrics", "healthz", "readyz"])
def test_what_the_service_answers_itself_is_no_name(part: str) -> None:
    with pytest.raises(Conflict):
        checks.project_name(part, by_admin=True)


@pytest.mark.parametrize("name", ["library", "mirror"])
def test_official_names_are_for_administrators(name: str) -> None:
    with pytest.raises(Conflict):
        checks.project_name(name, by_admin=False)
    assert checks.project_name(name, by_admin=True) == name


@pytest.mark.parametrize("name", ["a--b", "a__b"])
def test_the_specification_allows_more(name: str) -> None:
    try:
        Name.parse(name)
    except NameInvalid:
        pytest.fail("then the check above shows nothing")


@pytest.mark.parametrize("value", ["", " ", "a\tb", "a\x00", "\ud800", "\u202e", "x" * 256])
def test_words_that_cannot_be(value: str) -> None:
    with pytest.raises(Invalid):
        checks.word(value, Term("name"))


def test_a_word_loses_the_spaces_around_it() -> None:
    assert checks.word("  Tõravere  observatory ", Term("name")) == "Tõravere  observatory"


def test_every_error_is_rendered_in_harbors_words() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, OCIError) and kind is not OCIError
    ]
    assert {(kind.code, kind.status) for kind in kinds} == {
        ("BAD_REQUEST", 400),
        ("FORBIDDEN", 403),
        ("NOT_FOUND", 404),
        ("CONFLICT", 409),
        ("PRECONDITION", 412),
    }


def test_the_highest_role() -> None:
    assert highest([]) is None
    assert highest(["guest", "maintainer", "limited guest"]) is Role.MAINTAINER


@pytest.mark.parametrize(
    ("principal", "viewer"),
    [
        (ANONYMOUS, Viewer()),
        (Principal(PrincipalKind.PERSON, "mari", id=5), Viewer(account_id=5)),
        (Principal(PrincipalKind.PERSON, "admin", is_admin=True, id=5), Viewer(everything=True, account_id=5)),
        (
            Principal(
                PrincipalKind.PERSON, "mari", id=5, limits={"7": frozenset({READ_PROJECT}), "8": frozenset({PULL})}
            ),
            Viewer(account_id=5, only=frozenset({7})),
        ),
        (Principal(PrincipalKind.PERSON, "mari", id=5, limits={"*": frozenset({READ_PROJECT})}), Viewer(account_id=5)),
        (Principal(PrincipalKind.ROBOT, "robot-a", id=5, limits={}), Viewer(everything=True, only=frozenset())),
        (Principal(PrincipalKind.ROBOT, "robot-a"), Viewer(everything=True, only=frozenset())),
    ],
)
def test_whose_list_it_is(principal: Principal, viewer: Viewer) -> None:
    assert viewer_of(principal) == viewer
