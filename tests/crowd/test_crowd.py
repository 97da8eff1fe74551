"""Honest clients beside hostile ones, on one worker: directly, and behind nginx as the role configures it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.deploy import webserver as nginx_part
from tests.deploy.authority import Authority
from tests.deploy.webserver import webserver
from tests.parts.postgres import Postgres
from tests.parts.service import Service
from tests.parts.valkey import Valkey
from tests.sso.forge import Forger

from .honest import Door
from .scene import Outcome, Plan, Scene

# In KiB: two hashes of passwords, one manifest of 4 MiB that is read, and the manifests that a worker remembers.
ROOM = 2 * 19_456 + 128 * 1024 + 32 * 1024
# What one address may hold in bodies, here and in `tests.parts.hurried`.
BODIES, FEW_BODIES = 16 * 1024, 8_000
# What 1,500 connections take, and 50 uploads with two pieces in memory.
CONNECTIONS = 96 * 1024 + 50 * 1024
# The answers that each kind of attack may get. The others are none of the service's, or give it away.
ALLOWED = {
    "guess": {"401", "403", "429"},
    "idle": {"200", "429", "cut"},
    "slow head": {"cut", "408", "429", "400"},
    "slow body": {"400", "401", "403", "404", "408", "413", "415", "429", "cut"},
    "slow reader": {"200", "429", "cut"},
    "large JSON": {"401", "413", "400", "429", "cut"},
    "large manifest": {"201", "400", "404", "429", "cut"},
    "bait": {"200", "403", "429", "cut"},
    "XML": {"303", "403", "429", "cut"},
    "upload": {"202", "429", "403", "cut"},
    "slow upload": {"202", "429", "403", "cut"},
}
FEW = Plan(
    seconds=5,
    honest=8,
    clients={"guess": 12, "idle": 80, "slow head": 20, "slow body": 40, "slow reader": 10, "large JSON": 3, "bait": 3,
             "large manifest": 1, "XML": 3, "upload": 2, "slow upload": 10},
    addresses=2,
    # On a busy machine, nice attackers would not attack.
    nice=0,
    attack_pause=0.5,
    pause=1.0,
)  # fmt: skip
MANY = Plan(
    seconds=60,
    honest=20,
    clients={"guess": 40, "idle": 1000, "slow head": 200, "slow body": 200, "slow reader": 100, "large JSON": 10,
             "bait": 10, "large manifest": 4, "XML": 10, "upload": 10,
             "slow upload": 50},
    addresses=2,
    nice=19,
    attack_pause=0.1,
    pause=0.5,
)  # fmt: skip


@pytest.fixture(params=["directly", pytest.param("behind nginx", marks=pytest.mark.long)])
def behind(request: pytest.FixtureRequest) -> bool:
    if request.param == "behind nginx":
        require(nginx_part)
    return bool(request.param == "behind nginx")


@pytest.fixture
def parts(postgres: Postgres, valkey: Valkey) -> dict[str, Any]:
    """SQL and Redis as in production."""
    return {"database": postgres.database(), "redis": valkey.url}


def play(folder: Path, plan: Plan, parts: Mapping[str, Any], *, behind: bool, impatient: bool) -> Outcome:
    """Start the service, and nginx if it is ``behind`` it, and let everybody in."""
    saml = {"enabled": True, "idp_metadata_url": Forger(folder).metadata_url}
    overrides: dict[str, Any] = {"saml": saml, "projects": {"lab": {"public": True}}, "server": {"drain_seconds": 1}}
    if behind:
        overrides["server"]["trusted_proxies"] = ["127.0.0.1"]
        overrides["storage"] = {"delivery": "accel"}
    with ExitStack() as stack:
        service = stack.enter_context(
            Service(folder / "service", impatient=impatient, preload=False, overrides=overrides, **parts)
        )
        door = Door(int(service.host.rpartition(":")[2]))
        if behind:
            authority = Authority(folder)
            variables = {"nginx_data_dir": str(folder / "service/data")}
            nginx = stack.enter_context(webserver(folder / "nginx", authority, service.host, **variables))
            door = Door(nginx.port, authority.file)
        outcome = Scene(service, door, plan.honest).play(plan)
        print(outcome.figures())
        # A worker that gets no time from a busy machine finds Redis and SQL late.
        assert service.faults(foreseen={503}) == []
    return outcome


def check(outcome: Outcome, room: int) -> None:
    """Check what holds for every crowd; ``room`` is what the worker may grow by, in KiB."""
    assert outcome.failed == []
    for kind, counts in outcome.hostile.items():
        assert set(counts) <= ALLOWED[kind] | {"503"}, (kind, counts)
    assert outcome.peak - outcome.before < room


def test_nobody_honest_notices_a_crowd(tmp_path: Path, parts: Mapping[str, Any], behind: bool) -> None:
    """With little patience, so that a few seconds show how the slow ones end."""
    outcome = play(tmp_path, FEW, parts, behind=behind, impatient=True)
    check(outcome, ROOM + FEW.addresses * FEW_BODIES)
    # Behind nginx, its own limits may be first to refuse connections.
    assert ({"slow"} if behind else {"slow", "crowd"}) <= set(outcome.ended)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_nobody_honest_notices_a_large_crowd(tmp_path: Path, parts: Mapping[str, Any], behind: bool) -> None:
    """Twice a thousand connections, as the service ships."""
    outcome = play(tmp_path, MANY, parts, behind=behind, impatient=False)
    check(outcome, ROOM + MANY.addresses * BODIES + CONNECTIONS)
    # On a busy machine, manifests to remember and slow uploads still come in the last third.
    third = len(outcome.memory) // 3
    assert max(outcome.memory[2 * third :]) < max(outcome.memory[third : 2 * third]) + 64 * 1024
