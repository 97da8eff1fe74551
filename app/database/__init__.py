"""Everything of record, in PostgreSQL or SQLite; one module of queries per noun."""

from .engine import Database, Transaction

__all__ = ["Database", "Transaction"]
