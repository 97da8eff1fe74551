"""The versions of the database server and of the schema."""

from __future__ import annotations

from sqlalchemy import text

from .engine import Transaction


async def of(transaction: Transaction) -> tuple[str, str]:
    """Return the server's name with its version, and the schema's revision."""
    dialect = transaction.dialect
    server = ".".join(str(number) for number in getattr(dialect, "server_version_info", None) or ())
    schema = (await transaction.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
    return f"{'SQLite' if dialect.name == 'sqlite' else 'PostgreSQL'} {server}".strip(), str(schema or "–")
