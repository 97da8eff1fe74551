"""The schema's history, one file a step, forwards only; `tables.py` is where it has arrived.

A new step is a file in ``versions/`` that names the one before it as ``down_revision``. The contract tests say
what still differs from `tables.py`, on both databases. SQLite rebuilds a table for most changes other than an
added column, and dropping the old one cascades to what refers to it: such a step moves those rows aside first.
"""
