"""Who may do what, and that a token holds no more than that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.access.permissions import NOTHING, Permissions
from app.access.principal import ANONYMOUS, Principal, PrincipalKind
from app.access.scopes import ALL_ACTIONS, NO_PROJECT, PULL, Access, parse_scopes
from app.access.service import TokenService
from app.access.signing_keys import SigningKeys
from app.access.tokens import Tokens
from app.database import Database, projects
from app.oci.reference import Name

from .conftest import SECRETS, on_both_databases

ADMIN = Principal(PrincipalKind.PERSON, "admin", is_admin=True)
MARI = Principal(PrincipalKind.PERSON, "mari")
ROBOT = Principal(PrincipalKind.ROBOT, "robot$ci+pull")
# The ids of the two projects that `database` has.
OPEN, SECRET = 1, 2


@pytest.fixture
def tokens(database: Database) -> Tokens:
    return Tokens(SigningKeys(database, SECRETS), "http://127.0.0.1:8080")


@pytest.fixture
def service(database: Database, tokens: Tokens) -> TokenService:
    return TokenService(Permissions(database), tokens)


@on_both_databases
@pytest.mark.parametrize("principal", [ANONYMOUS, MARI, ROBOT])
async def test_outsiders_pull_what_is_public_and_cannot_tell_private_from_missing(
    database: Database, principal: Principal
) -> None:
    permissions = Permissions(database)
    assert await permissions.access(principal, "open") == Access(PULL, OPEN)
    assert (await permissions.access(principal, "secret")).actions == NOTHING
    assert (await permissions.access(principal, "missing")).actions == NOTHING


@pytest.mark.parametrize(("project", "number"), [("open", OPEN), ("secret", SECRET), ("missing", NO_PROJECT)])
async def test_the_admin_may_do_everything(database: Database, project: str, number: int) -> None:
    assert await Permissions(database).access(ADMIN, project) == Access(ALL_ACTIONS, number)


async def test_a_project_made_private_shows_at_once(database: Database) -> None:
    permissions = Permissions(database)
    assert (await permissions.access(ANONYMOUS, "open")).actions == PULL
    async with database.transaction() as transaction:
        await projects.change(transaction, "open", public=False)
    assert (await permissions.access(ANONYMOUS, "open")).actions == NOTHING


async def test_a_token_is_cut_down_to_what_is_allowed(service: TokenService, tokens: Tokens) -> None:
    asked = parse_scopes(["repository:open/app:pull,push,delete repository:secret/app:pull", "repository:open/b:push"])
    grant = await tokens.verify((await service.grant(ANONYMOUS, asked)).token)
    assert grant.access == {"open/app": Access(PULL, OPEN)}
    assert grant.allows("open/app", "pull")
    for name, action in [
        ("open/app", "push"),
        ("open/app", "delete"),
        ("secret/app", "pull"),
        ("open/b", "pull"),
        ("open", "pull"),
        ("open/app/more", "pull"),
        ("open/app", ""),
    ]:
        assert not grant.allows(name, action)


async def test_the_admin_gets_what_was_asked_for_and_no_more(service: TokenService, tokens: Tokens) -> None:
    grant = await tokens.verify((await service.grant(ADMIN, parse_scopes(["repository:secret/app:push"]))).token)
    assert grant.access == {"secret/app": Access(frozenset({"push"}), SECRET)}
    assert not grant.catalogue
    assert not grant.may_list_everything


async def test_tokens_for_private_and_missing_projects_are_the_same(service: TokenService, tokens: Tokens) -> None:
    for name in ("secret/app", "missing/app"):
        issued = await service.grant(ANONYMOUS, parse_scopes([f"repository:{name}:pull"]))
        assert (await tokens.verify(issued.token)).access == {}


async def test_only_the_admin_lists_private_projects(service: TokenService, tokens: Tokens) -> None:
    asked = parse_scopes(["registry:catalog:*"])
    everybody = await tokens.verify((await service.grant(ANONYMOUS, asked)).token)
    admin = await tokens.verify((await service.grant(ADMIN, asked)).token)
    assert everybody.catalogue
    assert not everybody.may_list_everything
    assert admin.may_list_everything
    assert (await service.basic_grant(ADMIN)).may_list_everything
    key = replace(ADMIN, limits={"*": frozenset({"repository:pull"})})
    assert not (await service.basic_grant(key)).may_list_everything
    assert not (await tokens.verify((await service.grant(key, asked)).token)).may_list_everything


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ("repository:cache/a/b:pull", True),
        ("repository:cache/a/b:pull repository:cache/c/d:pull", True),
        # containerd: the mirror's name and the upstream's, whatever project may be called so here.
        ("repository:a/b:pull repository:cache/a/b:pull", True),
        ("repository:secret/b:pull repository:cache/secret/b:pull", True),
        ("repository:cache/a/b:pull repository:a/c:pull", False),
        ("repository:cache/a/b:pull repository:secret/b:pull", False),
        ("repository:cache/a/b:pull repository:missing/b:pull", False),
        ("repository:cache/a/b:pull repository:open/b:pull", False),
        ("repository:cache/a/b:pull repository:a/b:pull,push", False),
        ("repository:cache/a/b:pull,push", False),
        ("repository:cache/a/b:*", False),
        ("repository:cache/a/b:pull registry:catalog:*", False),
        ("repository:own/a/b:pull", False),
        ("repository:open/b:pull", False),
        ("repository:missing/b:pull", False),
        ("registry:catalog:*", False),
        ("", False),
    ],
)
async def test_pull_from_public_mirrors_alone_is_for_anybody(
    database: Database, service: TokenService, scopes: str, expected: bool
) -> None:
    async with database.transaction() as transaction:
        await projects.create(transaction, "cache", public=True, upstream="docker.io", settings={})
        await projects.create(transaction, "own", public=False, upstream="docker.io", settings={})
    assert await service.is_for_anybody(parse_scopes([scopes]), None) is expected
    assert await service.is_for_anybody(parse_scopes([scopes]), "own") is expected
    pushes = "push" in scopes or "*" in scopes.replace("catalog:*", "")
    assert await service.is_for_anybody(parse_scopes([scopes]), "cache") is not pushes


async def test_basic_grants_for_one_request_and_its_repositories_alone(service: TokenService) -> None:
    grant = await service.basic_grant(ADMIN, Name.parse("secret/app"), Name.parse("open/base"))
    assert grant.allows("secret/app", "push")
    assert grant.allows("open/base", "pull")
    assert not grant.allows("open/other", "pull")
    nobody = await service.basic_grant(ANONYMOUS, Name.parse("secret/app"), Name.parse("open/base"))
    assert nobody.access == {"open/base": Access(PULL, OPEN)}
    assert nobody.is_anonymous
