"""Add to each audit entry its project's name and the number of times."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# Older entries get the project's present name, or else the name under which it was made or deleted.
_FILL_IN = """
UPDATE audit SET project_name = COALESCE(
    (SELECT name FROM project WHERE project.id = audit.project_id AND name NOT LIKE '~%'),
    (SELECT told.resource FROM audit AS told
      WHERE told.project_id = audit.project_id AND told.resource_type = 'project' ORDER BY told.id DESC LIMIT 1),
    '')
 WHERE project_id IS NOT NULL
"""


def upgrade() -> None:
    op.add_column("audit", sa.Column("project_name", sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column("audit", sa.Column("times", sa.BigInteger(), server_default="1", nullable=False))
    op.create_index("ix_audit_project_name_id", "audit", ["project_name", "id"], unique=False)
    op.execute(_FILL_IN)
