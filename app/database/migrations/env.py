"""Run the steps for Alembic, inside the transaction that `app.database.migrate` has begun."""

from __future__ import annotations

from alembic import context

from app.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
