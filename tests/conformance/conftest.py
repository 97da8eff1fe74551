"""The suite's program, or the reason why there is none."""

from __future__ import annotations

import pytest

from .suite import NotBuilt, program


@pytest.fixture(scope="session", autouse=True)
def _program() -> None:
    try:
        program()
    except NotBuilt as reason:
        # The one kind of suite that may stay away with CI=true too, so it does not go through `require`.
        pytest.skip(f"needs Go: {reason}")
