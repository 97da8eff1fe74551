"""The release after this one, made up: the tree's own service with one more step of the schema."""

from __future__ import annotations

import shutil
from pathlib import Path

from alembic.script import ScriptDirectory

from .process import ROOT

VERSIONS = Path("app/database/migrations/versions")
REVISION = "9001"

# What a step may do: to tables that every request reads, columns that may be left out; a table of its own, with rows.
EXPANDS = """
def upgrade() -> None:
    op.add_column("project", sa.Column("colour", sa.String(), nullable=True))
    op.add_column("manifest", sa.Column("note", sa.Text(), server_default="none", nullable=False))
    op.add_column("robot", sa.Column("purpose", sa.Text(), nullable=True))
    op.create_table("badge", sa.Column("project", sa.String(), primary_key=True), sa.Column("text", sa.String()))
    op.execute("INSERT INTO badge (project, text) SELECT name, 'new' FROM project")
    op.execute("UPDATE project SET colour = 'blue'")
"""
# What a step may do once no release in use reads the column any more.
CONTRACTS = """
def upgrade() -> None:
    op.drop_column("manifest", "note")
"""


def head() -> str:
    """Name the newest revision of the tree."""
    revision = ScriptDirectory(str(ROOT / "app/database/migrations")).get_current_head()
    assert revision is not None
    return revision


def copy(folder: Path) -> Path:
    """Copy the service into ``folder``, from which `python -m app` then runs it."""
    shutil.copytree(ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def add_step(
    folder: Path, body: str = EXPANDS, *, revision: str = REVISION, after: str | None = None, oldest: str | None = None
) -> None:
    """Write a step into the service in ``folder``, ``after`` the tree's newest unless another is named."""
    lines = [
        '"""A step of the tests."""', "import sqlalchemy as sa", "from alembic import op", f'revision = "{revision}"',
        f'down_revision = "{after or head()}"', *([f'oldest = "{oldest}"'] if oldest else []),
    ]  # fmt: skip
    (folder / VERSIONS / f"{revision}_made_up.py").write_text("\n".join(lines) + "\n" + body)
