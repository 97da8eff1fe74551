"""Each part of a site is killed, stopped, frozen, filled or cut off in turn, while a class pulls and others push.

For each fault, a run prints what clients saw, which alert it raised, what the commands of the alert's runbook said, and
how long the site took to be whole again.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import require
from tests.mirror.test_database_away import IMAGE, MARGIN, PROMISED_SECONDS, TAG, UNPAID, WARM_UP_SECONDS
from tests.parts import weed
from tests.parts.process import ROOT, eventually

from . import hosts, playbook
from .alarms import ALARMS, WITHOUT
from .cluster import Cluster, cluster, single
from .conftest import NAME
from .faults import TROUBLES, Refused, Trouble, everybody, wait_until_ready

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

_MAKERS = {"single": single, "cluster": cluster}
_EACH = [(site, what) for site in _MAKERS for what, trouble in TROUBLES.items() if site in trouble.sites]
# A site is whole again within this time, in seconds, after the fault is over.
_BACK_SECONDS = 60
# In seconds: an alert is raised within this time, by rules that wait seconds where those of a site wait minutes.
_ALERT_SECONDS = 60
_RULES = "/etc/prometheus/registry.rules.yml"
_COMMANDS = ("systemctl ", "journalctl ", "registry-admin ", "grep ", "curl ", "df ", "timedatectl", "systemd-cgtop ")
# These do something, and say nothing if it went well.
_SILENT = ("systemctl reload ", "systemctl reset-failed")

Labels = Mapping[str, str]


@contextmanager
def _made(site: str, release: Path, factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    for part in (hosts, playbook, weed):
        require(part)
    with hosts.bed(factory.mktemp("chaos-bed")) as bed, _MAKERS[site](bed, release, factory.mktemp("chaos")) as running:
        _hurry(running)
        for name, hub in running.hubs.items():
            running.hosts[name].inside(partial(hub.add, IMAGE, "library/app", TAG))
        yield running


@pytest.fixture(scope="module")
def single_site(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with _made("single", release, tmp_path_factory) as running:
        yield running


@pytest.fixture(scope="module")
def cluster_site(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with _made("cluster", release, tmp_path_factory) as running:
        yield running


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Cluster:
    """The site of the kind that the test names, which all its faults share."""
    found: Cluster = request.getfixturevalue(f"{request.param}_site")
    return found


def _hurry(made: Cluster) -> None:
    """Shorten the times in the site's rules, and let a disk in memory count as one."""
    rules = made.services.ssh(f"cat {_RULES}")
    rules = re.sub(r"for: \d+[mh]", "for: 5s", rules)
    rules = re.sub(r"\[\d+m(:1m)?\]", lambda found: "[30s:5s]" if found[1] else "[30s]", rules)
    rules = rules.replace('fstype!~"tmpfs|ramfs"', 'fstype!~"ramfs"')
    made.services.ssh(f"cat > {_RULES} <<'END'\n{rules}\nEND")
    made.services.ssh(
        r"sed --in-place 's/\(scrape\|evaluation\)_interval: 15s/\1_interval: 5s/' /etc/prometheus/prometheus.yml"
        " && sed --in-place 's/group_wait: 30s/group_wait: 1s/' /etc/prometheus/alertmanager.yml"
        " && promtool check config /etc/prometheus/prometheus.yml"
        " && systemctl restart prometheus-alertmanager && systemctl reload prometheus"
    )
    # For a clock that is wrong for one worker only.
    made.hosts["registry1"].ssh("apt-get -qq install --yes --no-install-recommends libfaketime", timeout=300)


@pytest.mark.parametrize(("made", "what"), _EACH, indirect=["made"], ids=[f"{site}: {what}" for site, what in _EACH])
async def test_a_fault(made: Cluster, what: str) -> None:
    """Nothing fails that is warm, nothing old is shown, all else is refused in time, and after it nothing is lost."""
    trouble = TROUBLES[what]
    began = int(time.time())
    try:
        await _go_through(made, what, trouble)
    finally:
        crashes = _crashes(made, began)
        print(crashes)
    assert crashes == ""


def _crashes(made: Cluster, since: int) -> str:
    """Read what workers said of errors that nobody had thought of, which the client gets as 500."""
    said = f"journalctl --unit 'registry@*' --since @{since} --output cat --no-pager | grep -B2 -A40 Traceback || true"
    return "\n".join(filter(None, (made.hosts[name].ssh(said) for name in made.hubs)))


async def _go_through(made: Cluster, what: str, trouble: Trouble) -> None:
    async with everybody(made, cut=trouble.cut) as (seen, moved, crowd):
        await asyncio.sleep(WARM_UP_SECONDS)
        warm, quiet = len(seen.pulls), not seen.refused
        context = trouble.fault(made)
        await asyncio.to_thread(context.__enter__)
        try:
            alerted = asyncio.create_task(_alerted(made, trouble.alert_at(made)))
            await asyncio.sleep(trouble.seconds)
            raised = await alerted
            if raised is not None:
                await asyncio.to_thread(_follow, made, raised)
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)
        away = len(seen.pulls)
        back = await wait_until_ready(made, _BACK_SECONDS)
        moves, pushes = moved.written, crowd.pushes

        async def goes_on() -> bool:
            return moved.written > moves + 2 and crowd.pushes > pushes + 2

        try:
            await eventually(goes_on, what="pushes to go on", timeout=_BACK_SECONDS)
        except TimeoutError as error:
            error.add_note("\n".join(crowd.failures[-3:]))
            raise
    seen.report(what, warm, away)
    print(
        f"ready after {back:.1f} s; {moved.written} moves, {moved.seen} looks; {crowd.postponed} pushes postponed, "
        f"{len(crowd.failures)} failed; alert: {raised and raised['alertname']}"
    )
    assert quiet
    assert (raised is None) == (trouble.alert is None)
    if not trouble.cut:
        assert seen.failed == []
        assert seen.wrong == []
        assert crowd.failures == []
        assert away > warm or trouble.seconds == 0
        longest = MARGIN * (PROMISED_SECONDS + trouble.held)
        assert max(seen.pulls) < longest
        assert max((took for took, _ in seen.refused), default=0) < longest
    assert crowd.lost() == []
    psql = "runuser --user=postgres -- psql --tuples-only --command"
    assert made.services.ssh(f'{psql}="{" ".join(UNPAID.split())}" registry').strip() == ""


@pytest.mark.parametrize("alert", ALARMS)
async def test_an_alert_is_raised_by_what_it_is_for(single_site: Cluster, alert: str) -> None:
    """And each command of its runbook says something there."""
    fault, asks = ALARMS[alert]
    context = fault(single_site)
    await asyncio.to_thread(context.__enter__)
    until = asyncio.Event()
    asking = asyncio.create_task(_keep_asking(partial(asks, single_site), until))
    try:
        raised = await _alerted(single_site, alert)
        assert raised is not None
        await asyncio.to_thread(_follow, single_site, raised)
    finally:
        until.set()
        await asyncio.to_thread(context.__exit__, None, None, None)
        await asking
    await wait_until_ready(single_site, _BACK_SECONDS)


def test_every_alert_has_its_fault() -> None:
    listed = set(re.findall(r"- alert: (\w+)", (ROOT / f"ansible/roles/monitoring/files{_RULES}").read_text()))
    assert listed == {*ALARMS, *WITHOUT, *(trouble.alert for trouble in TROUBLES.values() if trouble.alert)}


async def _keep_asking(ask: Callable[[], None], until: asyncio.Event) -> None:
    while not until.is_set():
        # It may be refused or cut, as the fault has it.
        with suppress(OSError, http.client.HTTPException, AssertionError, Refused):
            await asyncio.to_thread(ask)
        await asyncio.sleep(0.5)


async def _alerted(made: Cluster, name: str | None) -> Labels | None:
    """Wait until Alertmanager has an alert; return its labels, None if it does not come in time."""
    if name is None:
        return None

    def labels() -> Labels | None:
        found = json.loads(made.services.ssh("curl --silent http://127.0.0.1:9093/api/v2/alerts"))
        return next((alert["labels"] for alert in found if alert["labels"]["alertname"] == name), None)

    for _ in range(_ALERT_SECONDS // 2):
        if (there := await asyncio.to_thread(labels)) is not None:
            return there
        await asyncio.sleep(2)
    return None


def _runbook(name: str) -> str:
    """Return the runbook of an alert, as one line."""
    text = (ROOT / "docs/guide/alerts.md").read_text()
    return " ".join(text.partition(f"## {name}\n")[2].partition("\n## ")[0].split())


def _follow(made: Cluster, labels: Labels) -> None:
    """Run the commands of an alert's runbook; each tells something.

    They are run on the host that the alert names. If it names the site, curl is run on the monitoring host, and the
    rest on a host of the registry. A runbook may say that another host has what it asks about.
    """
    instance = labels.get("instance")
    named = [host for name, host in made.hosts.items() if instance in (name, host.address)]
    stands = {"NAME": labels.get("name", ""), "N": labels.get("worker", "1"), "ADDRESS": f"https://{NAME}"}
    stands["REPOSITORY"] = "mirror/library/app"
    text = _runbook(labels["alertname"])
    for command in re.findall(r"`([^`]+)`", text):
        if not command.startswith(_COMMANDS):
            continue
        # So much that nothing is evicted of what the clients pull.
        command = command.replace("--cache-bytes N", f"--cache-bytes {100 << 20}")
        spelled = re.sub(r"\b(NAME|N|ADDRESS|REPOSITORY)\b", lambda found: stands[found[1]], command)
        host = next(iter(named), made.services if command.startswith("curl") else made.hosts["registry1"])
        if "on the host that has it" in text:
            host = made.services
        said = host.ssh(f"timeout 30 sh -c {shlex.quote(spelled)} 2>&1 || true", timeout=60)
        print(f"  {spelled}: {said.strip().splitlines()[-1][:150] if said.strip() else ''}")
        assert said.strip() or spelled.startswith(_SILENT), f"{labels['alertname']}: {spelled} says nothing"
        # Lines of a log may say anything; these are the shell's and the commands' own words.
        wrong = r"^(?:sh|grep|df|curl|systemctl|journalctl): |could not be found|^usage: "
        assert not re.search(wrong, said, re.MULTILINE), said[:1000]
        assert "No entries" not in said or "has no entries on a host" in text, said[:1000]
