"""Attributes, scopes and rules: who somebody is, who gets in, who is an admin."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pytest

from app.access.people import Identity
from app.access.saml.refused import Refused
from app.access.saml.rules import Rules, Scope
from app.config import Saml, SamlAttributes, SamlRule

EPPN, AFFILIATION = "urn:oid:1.3.6.1.4.1.5923.1.1.1.6", "urn:oid:1.3.6.1.4.1.5923.1.1.1.9"
MAIL, NAME = "urn:oid:0.9.2342.19200300.100.1.3", "urn:oid:2.16.840.1.113730.3.1.241"
GROUPS = "urn:oid:1.3.6.1.4.1.5923.1.5.1.1"
UT = (Scope("ut.ee"),)
Values = Mapping[str, Sequence[str]]


def identify(
    by_name: Values, config: Saml | None = None, scopes: Collection[Scope] = UT, friendly: Values | None = None
) -> Identity:
    return Rules(config or Saml()).identify(by_name, friendly or {}, scopes)


def test_the_usual_attributes_are_read() -> None:
    by_name = {
        EPPN: ["Mari@UT.ee"],
        MAIL: ["mari.m@ut.ee", "m@ut.ee"],
        NAME: ["Mari Maasikas"],
        GROUPS: ["b", "a", "b"],
    }
    assert identify(by_name) == Identity("mari@ut.ee", "Mari Maasikas", "mari.m@ut.ee", ("a", "b"), None, ())


def test_friendly_names_will_do() -> None:
    friendly = {"eduPersonPrincipalName": ["mari@ut.ee"], "displayName": ["Mari"], "isMemberOf": ["staff"]}
    assert identify({}, friendly=friendly) == Identity("mari@ut.ee", "Mari", "", ("staff",), None, ())


def test_the_first_name_that_is_found_counts() -> None:
    config = Saml(attributes=SamlAttributes(identity=("first", "second")))
    assert identify({"second": ["b"], "first": ["a"]}, config).username == "a"
    assert identify({"second": ["b"], "first": []}, config).username == "b"


def test_texts_are_made_fit_for_a_page() -> None:
    identity = identify(
        {EPPN: ["mari@ut.ee"], NAME: ["  Mari\n\x00\u202eMaasikas " + "x" * 999], GROUPS: ["\n", "staff"]}
    )
    assert identity.full_name.startswith("MariMaasikas")
    assert len(identity.full_name) <= 255
    assert identity.groups == ("staff",)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "has no identity attribute"),
        (["mari@ut.ee", "juri@ut.ee"], "has 2 values"),
        (["mari@elsewhere.example"], "has no scope of this identity provider"),
        (["mari@evil.ut.ee"], "has no scope"),
        (["mari@ut.ee.evil"], "has no scope"),
        (["mari@ut.ee@evil"], "has no scope"),
        (["mari@evil@ut.ee"], "has no scope"),
        (["mari@"], "has no scope"),
        (["mari"], "has no scope"),
        (["@ut.ee"], "cannot be a user name"),
        (["ma/ri@ut.ee"], "cannot be a user name"),
        (["ma:ri@ut.ee"], "cannot be a user name"),
        (["m\u0430ri@ut.ee"], "cannot be a user name"),
        (["mari\u212a@ut.ee"], "cannot be a user name"),
        (["mari@ut.ee\n"], "has no scope"),
        (["m" * 200 + "@ut.ee"], "cannot be a user name"),
    ],
)
def test_who_is_not_clear_or_not_ours_is_refused(values: Sequence[str], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        identify({EPPN: values})


def test_one_value_said_twice_is_one() -> None:
    assert identify({EPPN: ["mari@ut.ee", "mari@ut.ee"]}).username == "mari@ut.ee"


def test_where_nothing_is_known_of_scopes_nobody_gets_in() -> None:
    with pytest.raises(Refused, match="none known: set saml"):
        identify({EPPN: ["mari@ut.ee"]}, scopes=())


def test_configured_scopes_count_instead_of_announced_ones() -> None:
    config = Saml(scopes=("taltech.ee",))
    assert identify({EPPN: ["juri@TalTech.ee"]}, config).username == "juri@taltech.ee"
    with pytest.raises(Refused):
        identify({EPPN: ["mari@ut.ee"]}, config)


def test_a_scope_may_be_a_pattern_that_matches_as_a_whole() -> None:
    scopes = (Scope(r"(cs|math)\.ut\.ee", is_pattern=True),)
    assert identify({EPPN: ["mari@cs.ut.ee"]}, scopes=scopes)
    for scope in ("xcs.ut.ee", "cs.ut.ee.evil", "csXut.ee", "c\u017f.ut.ee"):
        with pytest.raises(Refused):
            identify({EPPN: [f"mari@{scope}"]}, scopes=scopes)


def test_an_identity_of_another_kind_needs_no_scope_but_none_that_is_foreign() -> None:
    config = Saml(attributes=SamlAttributes(identity=("uid",)))
    assert identify({"uid": ["mari"]}, config, ()).username == "mari"
    with pytest.raises(Refused):
        identify({"uid": ["mari@elsewhere.example"]}, config)


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (SamlRule("affiliation", ("employee@ut.ee",)), True),
        (SamlRule("affiliation", ("student@ut.ee", "employee@*")), True),
        (SamlRule(AFFILIATION, ("employee@*",)), True),
        (SamlRule("groups", ("hpc-*",)), True),
        (SamlRule("mail", ("*@ut.ee",)), True),
        (SamlRule("identity", ("mari@ut.ee",)), True),
        (SamlRule("urn:oid:custom", ("*",)), True),
        (SamlRule("affiliation", ("employee",)), False),
        (SamlRule("affiliation", ("employee@ut.e.",)), False),
        # Said of somewhere else, by somebody who cannot know.
        (SamlRule("affiliation", ("*@elsewhere.example",)), False),
        (SamlRule(AFFILIATION, ("admin@*",)), False),
        (SamlRule("groups", ("*hp",)), False),
        (SamlRule("groups", ("h*c*u*s",)), True),
        (SamlRule("groups", ("**hpc-users**",)), True),
        (SamlRule("groups", ("hpc-us*sers",)), False),
        (SamlRule("groups", ("h*u*c*",)), False),
        (SamlRule("groups", ("hpc.*",)), False),
        (SamlRule("urn:oid:missing", ("*",)), False),
        (SamlRule("affiliation", ()), False),
    ],
)
def test_rules_say_who_gets_in_and_who_is_an_admin(rule: SamlRule, holds: bool) -> None:
    by_name = {
        EPPN: ["mari@ut.ee"], MAIL: ["mari@ut.ee"], GROUPS: ["hpc-users"], "urn:oid:custom": ["x"],
        AFFILIATION: ["employee@ut.ee", "admin@elsewhere.example", "member"],
    }  # fmt: skip
    assert identify(by_name, Saml(admins=(rule,))).is_admin is holds
    if holds:
        assert identify(by_name, Saml(allow=(SamlRule("groups", ("none",)), rule)))
    else:
        with pytest.raises(Refused, match=r"no rule of saml\.allow holds for 'mari@ut\.ee'"):
            identify(by_name, Saml(allow=(SamlRule("groups", ("none",)), rule)))


PAIRWISE, SUBJECT = ("urn:oasis:names:tc:SAML:attribute:" + name for name in ("pairwise-id", "subject-id"))


def test_all_lasting_ids_are_read() -> None:
    by_name = {EPPN: ["mari@ut.ee"], SUBJECT: ["Mari77@UT.ee"], PAIRWISE: ["ABC@ut.ee", "abc@ut.ee"]}
    assert identify(by_name).lasting == (f"{PAIRWISE} abc@ut.ee", f"{SUBJECT} mari77@ut.ee")
    assert identify(by_name, Saml(lasting_ids=())).lasting is None
    # Other attributes may differ by capitals alone, and need no scope.
    assert identify(by_name | {"uid": ["aB"]}, Saml(lasting_ids=("uid",))).lasting == ("uid aB",)


@pytest.mark.parametrize(
    "values", [["a@ut.ee", "b@ut.ee"], ["a@elsewhere.example"], ["a"], ["x" * 250 + "@ut.ee"], ["a\n@ut.ee"]]
)
def test_a_lasting_id_that_is_not_one_is_refused(values: list[str]) -> None:
    with pytest.raises(Refused, match="lasting id") as refused:
        identify({EPPN: ["mari@ut.ee"], PAIRWISE: values})
    assert refused.value.code == "identity"
