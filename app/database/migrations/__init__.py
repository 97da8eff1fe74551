"""The schema's history, one file for each step, forwards only; `tables.py` is the result.

A new step is a file in ``versions/`` that names the previous step as ``down_revision``. On both databases, contract
tests compare the result of all steps with `tables.py`. SQLite rebuilds a table for most changes except an added column,
and dropping the old table cascades to the rows that refer to it. Such a step moves those rows to another place first.
"""
