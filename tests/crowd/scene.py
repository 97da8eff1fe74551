"""A registry with one worker, its honest clients, and the crowd that attacks it."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.api.client import Registry
from tests.api.documents import EMPTY, OCI_MANIFEST, fresh, image
from tests.parts.process import ROOT, memory, python, reset_peak
from tests.parts.service import Service
from tests.webapi.client import Api

from .honest import Company, Door, Honest, Timed
from .hostile import Target, address_of, as_json

PASSWORD = "a-password-of-the-tests"
# One in so many honest clients has the address of a guesser.
_NEIGHBOURS = 5
_DEVELOPER = 2
_STOP_SECONDS = 30


@dataclass(frozen=True)
class Plan:
    """How long the crowd attacks how many ``honest`` clients; see `Target`.

    ``pause``: an honest client's seconds between rounds.
    """

    seconds: float
    honest: int
    clients: Mapping[str, int]
    addresses: int
    nice: int
    attack_pause: float
    pause: float


@dataclass(frozen=True)
class Outcome:
    """What came of it: sizes in KiB, ``memory`` once a second, outcomes of attacks by kind and status.

    ``busy``: the share of one core that the worker took.
    """

    honest: list[Timed]
    hostile: Mapping[str, Mapping[str, int]]
    ended: Mapping[str, float]
    before: int
    memory: list[int]
    peak: int
    after: int
    busy: float

    @property
    def failed(self) -> list[Timed]:
        """List the honest requests without the answer that they should have, or one to try again later."""
        return [answer for answer in self.honest if answer.status not in (answer.expected, 503)]

    def figures(self) -> str:
        """Spell the figures, for people."""
        kinds = defaultdict(list)
        for answer in self.honest:
            kinds["all"].append(answer.seconds)
            kinds[answer.what].append(answer.seconds)
        lines = [
            f"{kind}: {len(found)} answers, median {1000 * _at(found, 0.5):.0f} ms, "
            f"p99 {1000 * _at(found, 0.99):.0f} ms, longest {1000 * max(found):.0f} ms"
            for kind, found in kinds.items()
        ]
        mebibytes = [f"{size / 1024:.0f}" for size in (self.before, *self.memory[-1:], self.peak, self.after)]
        lines.append("memory in MiB before, at the end, at its peak, after: " + ", ".join(mebibytes))
        late = sum(answer.status == 503 for answer in self.honest)
        lines.append(f"the worker took {self.busy:.2f} cores; the machine's load was {os.getloadavg()[0]:.1f}")
        lines.append(f"honest requests that were told to come again later: {late}")
        lines.append(f"refused of the crowd: {dict(self.ended)}; its answers: {json.dumps(self.hostile)}")
        return "\n".join(lines)


class Scene:
    """A running service with everybody's accounts."""

    def __init__(self, service: Service, door: Door, honest: int) -> None:
        """``door``: where everybody enters it."""
        self._service, self._door = service, door
        (self._worker,) = service.pids()
        admin = Api(service.host, service.username, service.password)
        self._names = tuple(f"honest-{number}" for number in range(honest))
        for name in (*self._names, "mallory"):
            assert admin.do("createUser", {"username": name, "password": PASSWORD}).status == 201
        for name in self._names:
            member = {"role_id": _DEVELOPER, "member_user": {"username": name}}
            assert admin.do("createMember", member, project_name_or_id="lab").status == 201
        mallory = Api(service.host, "mallory", PASSWORD)
        assert mallory.do("createProject", {"project_name": "mallory", "public": True}).status == 201
        registry = Registry(service.host, service.username, service.password)
        layers = fresh(100_000), fresh(1_000_000)
        for data in (EMPTY, *layers):
            registry.push_blob("lab/app", data)
        registry.push_manifest("lab/app", "warm", image(*layers), OCI_MANIFEST)
        self._blob = "/v2/mallory/large/blobs/" + registry.push_blob("mallory/large", fresh(20_000_000))

    def play(self, plan: Plan) -> Outcome:
        """Have the crowd attack while the honest clients work."""
        neighbours, others = self._honest(plan)
        for client in neighbours:
            # They have logged in lately.
            client.work(push=False)
            client.answers.clear()
        before, ended = memory(self._worker, "VmRSS"), self._ended()
        reset_peak(self._worker)
        sizes = []
        with _crowd(self._target(plan)) as hostile:
            time.sleep(plan.seconds / 6)
            company = Company([*neighbours, *others])
            began, cpu = time.monotonic(), _cpu_seconds(self._worker)
            with company:
                end = time.monotonic() + plan.seconds
                while time.monotonic() < end:
                    time.sleep(1)
                    sizes.append(memory(self._worker, "VmRSS"))
            busy = (_cpu_seconds(self._worker) - cpu) / (time.monotonic() - began)
        # Those who were cut off are forgotten.
        time.sleep(3)
        grown = {reason: count - ended.get(reason, 0) for reason, count in self._ended().items()}
        peak, after = memory(self._worker, "VmHWM"), memory(self._worker, "VmRSS")
        return Outcome(company.answers(), hostile, grown, before, sizes, peak, after, busy)

    def _honest(self, plan: Plan) -> tuple[list[Honest], list[Honest]]:
        """Make those behind the address of a guesser, and the others, who have addresses of their own."""
        clients = [
            Honest(
                number,
                self._door,
                address_of("guess") if number % _NEIGHBOURS == 0 else f"127.1.0.{1 + number}",
                name,
                PASSWORD,
                "lab/app",
                plan.pause,
            )
            for number, name in enumerate(self._names)
        ]
        return clients[::_NEIGHBOURS], [client for client in clients if client not in clients[::_NEIGHBOURS]]

    def _target(self, plan: Plan) -> Target:
        host = f"localhost:{self._door.port}" if self._door.authority else self._service.host
        authority = str(self._door.authority) if self._door.authority else None
        return Target(
            self._door.port, host, authority, plan.clients, plan.addresses, plan.nice, plan.attack_pause,
            ("mallory", PASSWORD), "mallory/large", self._blob, (*self._names, self._service.username),
        )  # fmt: skip

    def _ended(self) -> dict[str, float]:
        """Read how many clients were cut off or refused so far, by the reason."""
        with urllib.request.urlopen(f"{self._service.url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        found = re.findall(r'^registry_ended_clients_total\{.*?reason="(\w+)".*?\} (\S+)$', text, re.MULTILINE)
        return {reason: float(count) for reason, count in found}


@contextmanager
def _crowd(target: Target) -> Iterator[dict[str, dict[str, int]]]:
    """Run the attackers; the mapping has their outcomes afterwards."""
    outcomes: dict[str, dict[str, int]] = {}
    process = subprocess.Popen(
        python("-m", "tests.crowd.hostile"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(as_json(target))
        process.stdin.close()
        process.stdin = None
        yield outcomes
        assert process.poll() is None, "the attackers ended"
        process.terminate()
        said, _ = process.communicate(timeout=_STOP_SECONDS)
        outcomes |= json.loads(said)
    finally:
        process.kill()
        process.wait()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _at(values: list[float], share: float) -> float:
    """Return the value below which this share of the values is."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
