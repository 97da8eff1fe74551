"""Queries on all that is kept of a person beside their account, its keys and the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, FromClause, Select, Table, delete, select, update

from .engine import Transaction
from .tables import (
    immutable_rule,
    letter,
    member,
    plan,
    project,
    repository,
    request,
    review,
    robot,
    tag,
    tag_history,
    upload,
    webhook,
)
from .text import is_kept

Rows = Sequence[Mapping[str, Any]]


class Trace(NamedTuple):
    """A column that names whoever did something: ``who`` holds a principal's subject, or only the name of a person.

    ``at`` tells when, in Unix seconds. ``told`` are the columns that tell what was done, ``source`` the tables that
    they come from.
    """

    who: Column[Any]
    at: Column[Any]
    told: tuple[Any, ...]
    source: FromClause
    only_name: bool = False


def _in_project(table: Table) -> FromClause:
    return table.join(project, project.c.id == table.c.project_id)


def _in_repository(table: Table) -> FromClause:
    within = table.join(repository, repository.c.id == table.c.repository_id)
    return within.join(project, project.c.id == repository.c.project_id)


_PROJECT = project.c.name.label("project")
_REPOSITORY = repository.c.name.label("repository")

# By the name that each has in an export. The audit log has functions of its own.
TRACES: Mapping[str, Trace] = {
    "robot_accounts_made": Trace(
        robot.c.created_by,
        robot.c.created_at,
        (robot.c.name, robot.c.description, robot.c.created_at, robot.c.expires_at),
        robot,
    ),
    "immutability_rules_made": Trace(
        immutable_rule.c.created_by,
        immutable_rule.c.created_at,
        (_PROJECT, immutable_rule.c.repositories, immutable_rule.c.tags, immutable_rule.c.created_at),
        _in_project(immutable_rule),
    ),
    "webhooks_made": Trace(
        webhook.c.created_by,
        webhook.c.created_at,
        (_PROJECT, webhook.c.name, webhook.c.url, webhook.c.created_at),
        _in_project(webhook),
        only_name=True,
    ),
    "plans_made": Trace(
        plan.c.owner, plan.c.created_at, (plan.c.title, plan.c.created_at, plan.c.due_at), plan, only_name=True
    ),
    "tags_pushed": Trace(
        tag.c.pointed_by,
        tag.c.pointed_at,
        (_PROJECT, _REPOSITORY, tag.c.name, tag.c.digest, tag.c.pointed_at),
        _in_repository(tag),
    ),
    "tags_pushed_before": Trace(
        tag_history.c.pointed_by,
        tag_history.c.since,
        (_PROJECT, _REPOSITORY, tag_history.c.name, tag_history.c.digest, tag_history.c.since, tag_history.c.until),
        _in_repository(tag_history),
    ),
    "uploads_open": Trace(
        upload.c.opened_by,
        upload.c.updated_at,
        (_PROJECT, _REPOSITORY, upload.c.id, upload.c.updated_at),
        _in_repository(upload),
    ),
    "blobs_pushed": Trace(
        review.c.pushed_by, review.c.review_at, (_PROJECT, _REPOSITORY, review.c.digest), _in_repository(review)
    ),
    "projects_in_the_bin": Trace(
        project.c.deleted_by, project.c.deleted_at, (project.c.old_name.label("name"), project.c.deleted_at), project
    ),
    "repositories_in_the_bin": Trace(
        repository.c.deleted_by,
        repository.c.deleted_at,
        (_PROJECT, repository.c.old_name.label("name"), repository.c.deleted_at),
        _in_project(repository),
    ),
}


async def memberships(transaction: Transaction, account_id: int) -> Rows:
    """List the projects in which a person has a role of their own."""
    columns = (project.c.name.label("project"), member.c.role, member.c.created_at)
    joined = select(*columns).join_from(member, project, member.c.project_id == project.c.id)
    return await _read(transaction, joined.where(member.c.account_id == account_id, is_kept(project.c.name)))


async def owned(transaction: Transaction, account_id: int) -> Rows:
    """List the projects that a person owns."""
    here = (project.c.owner_id == account_id, is_kept(project.c.name))
    return await _read(transaction, select(project.c.name, project.c.created_at).where(*here))


async def traces(transaction: Transaction, subject: str, name: str, until: float) -> dict[str, Rows]:
    """List what a person had made, pushed and deleted under a name before ``until``, by the names in `TRACES`."""
    found: dict[str, Rows] = {}
    for key, trace in TRACES.items():
        here = (trace.who == (name if trace.only_name else subject), trace.at < until)
        found[key] = await _read(transaction, select(*trace.told).select_from(trace.source).where(*here))
    return found


async def requests_of(transaction: Transaction, subject: str) -> Rows:
    """List the requests of a person that are kept for operators."""
    columns = [column for column in request.c if column.name not in ("id", "who")]
    return await _read(transaction, select(*columns).where(request.c.who == subject).order_by(request.c.id))


async def letters_to(transaction: Transaction, address: str) -> Rows:
    """List the letters to an address that wait for the mail server."""
    columns = (letter.c.subject, letter.c.text, letter.c.made_at)
    return await _read(transaction, select(*columns).where(letter.c.address == address))


async def erase(transaction: Transaction, subject: str, address: str) -> None:
    """Remove a person's requests, and the letters to their address."""
    await transaction.execute(delete(request).where(request.c.who == subject))
    if address:
        await transaction.execute(delete(letter).where(letter.c.address == address))


async def hide(transaction: Transaction, trace: Trace, person: str, hidden: str, until: float) -> None:
    """Put ``hidden`` in a person's place in a trace of before ``until``; both are subjects, or both are names."""
    here = (trace.who == person, trace.at < until)
    await transaction.execute(update(trace.who.table).where(*here).values({trace.who: hidden}))


async def _read(transaction: Transaction, statement: Select[Any]) -> Rows:
    return [dict(row) for row in (await transaction.execute(statement)).mappings()]
