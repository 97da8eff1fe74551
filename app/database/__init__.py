"""Store everything of record in PostgreSQL or SQLite, with one module of queries for each noun."""

from .deadline import JOB_SECONDS
from .engine import Database, Transaction
from .trouble import DatabaseUnavailable

__all__ = ["JOB_SECONDS", "Database", "DatabaseUnavailable", "Transaction"]
