"""Say of each project whether it may use an upstream's configured accounts: those that operators made may."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

# A project of config.yaml has no owner. The start of the service marks it. Nor has one whose maker's account is gone.
# Mirrors are a handful, and until they are marked they would pull without the account. So this is done here, and is no
# back-fill: a member who makes a project public meanwhile takes its right away, which nothing may give back later.
_FILL_IN = """
UPDATE project SET uses_configured_account = true
 WHERE upstream IS NOT NULL AND owner_id IN (SELECT id FROM account WHERE is_admin)
"""


def upgrade() -> None:
    op.add_column(
        "project", sa.Column("uses_configured_account", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.execute(_FILL_IN)
