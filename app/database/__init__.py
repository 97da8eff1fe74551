"""Store everything of record in PostgreSQL or SQLite, with one module of queries for each noun."""

from .engine import Database, Transaction

__all__ = ["Database", "Transaction"]
