"""Runs the service with its longest time-outs cut, for tests that would otherwise wait for them to pass.

As ``impatient``, it has little patience with slow clients and takes few connections; else the mirror's waits are short.
What a time-out leads to is the same; how long it is, `tests/unit/test_docs_figures.py` compares with the documents.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial

import app.__main__ as program
from app.config import Config


def cut() -> None:
    """Cut them in this process, and in those that it forks."""
    # Metrics must be prepared before the modules that define them are imported.
    from app.mirror import ledger, manifests, transport, upstream, upstream_access, upstream_lists
    from app.mirror.budget import Budget

    vars(upstream)["Timeouts"] = partial(transport.Timeouts, answer=5, idle=10)
    manifests._SPARE_SECONDS = upstream_access._SPARE_SECONDS = upstream_lists._SPARE_SECONDS = 3.0
    defaults = inspect.unwrap(Budget.spend).__kwdefaults__
    assert defaults is not None
    ledger._RULES["hold"], defaults["wait"] = 1, 6.0


def lose_patience() -> None:
    """Cut the patience with clients, and what one address may hold."""
    from app.web import crowds, stream

    stream.PATIENCE_SECONDS = 3
    crowds.MOST_CONNECTIONS = 30
    crowds.MOST_BYTES = 8_000_000


def main() -> int:
    """Run a command of the service; ``impatient`` may stand before it."""
    prepare = program._prepare_metrics
    impatient = sys.argv[1] == "impatient"
    if impatient:
        del sys.argv[1]

    def prepare_and_cut(config: Config) -> None:
        prepare(config)
        lose_patience() if impatient else cut()

    program._prepare_metrics = prepare_and_cut
    return program.main()


if __name__ == "__main__":
    sys.exit(main())
