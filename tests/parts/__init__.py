"""Real parts for the suites: each module starts one, as a context manager, in a folder of its own and on free ports.

Every module has `missing() -> str | None`: why the part cannot be had here, in words, or None where it can.
"""
