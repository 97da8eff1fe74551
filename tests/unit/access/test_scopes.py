from __future__ import annotations

import pytest

from app.access.scopes import ALL_ACTIONS, MAX_SCOPES, Scopes, parse_scopes
from app.oci.errors import Unsupported
from app.oci.reference import MAX_NAME, Name


@pytest.mark.parametrize(
    ("values", "repositories"),
    [
        (["repository:lab/app:pull"], {"lab/app": {"pull"}}),
        (["repository:lab/app:pull,push"], {"lab/app": {"pull", "push"}}),
        (["repository(plugin):lab/app:pull"], {"lab/app": {"pull"}}),
        (["repository:a/b:pull", "repository:c/d:push"], {"a/b": {"pull"}, "c/d": {"push"}}),
        (["repository:a/b:pull repository:c/d:push"], {"a/b": {"pull"}, "c/d": {"push"}}),
        (["repository:a/b:pull", "repository:a/b:push"], {"a/b": {"pull", "push"}}),
        (["repository:a/b:*"], {"a/b": set(ALL_ACTIONS)}),
        (["repository:a/b:pull,fly"], {"a/b": {"pull"}}),
        (["repository:redis:pull"], {"redis": {"pull"}}),
    ],
)
def test_scopes_are_read_and_merged(values: list[str], repositories: dict[str, set[str]]) -> None:
    assert {str(name): set(actions) for name, actions in parse_scopes(values).repositories.items()} == repositories


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        ":::",
        "repository",
        "repository:a/b",
        "repository:a/b:",
        "repository:a/b:fly",
        "repository:a/b:PULL",
        "repository::pull",
        "repository:A/b:pull",
        "repository:a/../b:pull",
        "repository:a/b\0:pull",
        'repository:a/b":pull',
        "repository:a/b/:pull",
        "repository:registry.example.org:5000/a/b:pull",
        "repository(PLUGIN):a/b:pull",
        "repository(plugin:a/b:pull",
        "repositories:a/b:pull",
        f"repository:{'a' * (MAX_NAME + 1)}:pull",
        "registry:catalog:pull",
        "registry:other:*",
        "registry:catalog",
    ],
)
def test_what_breaks_the_grammar_is_left_out_and_costs_the_rest_nothing(value: str) -> None:
    assert parse_scopes([value]) == Scopes()
    assert parse_scopes([value, "repository:a/b:pull"]) == Scopes({Name("a/b"): frozenset({"pull"})})


def test_the_catalogue_is_a_scope_of_its_own() -> None:
    assert parse_scopes(["registry:catalog:*"]) == Scopes(catalogue=True)
    assert parse_scopes(["repository:catalog:*"]).catalogue is False
    assert parse_scopes(["registry:catalog:*", "registry:other:*"]).catalogue is True


def test_scopes_are_bounded_in_number() -> None:
    many = [f"repository:a/b{number}:pull" for number in range(MAX_SCOPES)]
    for values in (many, [" ".join(many)]):
        assert len(parse_scopes(values).repositories) == MAX_SCOPES
        # One more is told, even if it grants nothing: the client would wait for what its token does not have.
        with pytest.raises(Unsupported) as raised:
            parse_scopes([*values, "bad"])
        assert raised.value.answer_status == 400
        assert f"{MAX_SCOPES} at most" in raised.value.message
