"""The event of a request: one line of JSON, the word for how it went, and what is kept of it."""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.kit import facts
from app.kit.facts import Facts, spending
from app.kit.journal import priority
from app.oci.errors import ManifestUnknown, TooManyRequests, Unauthorized
from app.web import events
from app.web.events import line, outcome, part
from app.web.observe import JsonFormatter
from tests.parts.process import ROOT


@dataclass
class Call:
    """A request as the observer sees it."""

    method: str = "GET"
    path: str = "/v2/lab/app/manifests/1"
    route: str = "manifests"
    status: int = 200
    bytes_in: int = 0
    bytes_out: int = 100
    started: float = 0.0
    waited: float = 0.0
    request_id: str = "id-00001"
    subject: str = "anonymous"
    client_address: str = "192.0.2.1"
    facts: Facts = field(default_factory=Facts)
    tells: bool = False
    challenged: bool = False


def failed(error: BaseException, status: int, **more: Any) -> Call:
    call = Call(status=status, **more)
    call.facts.error = error
    return call


def test_an_event_is_one_line_of_json_with_texts_of_any_kind() -> None:
    call = Call(subject='person:"ä\n', path='/v2/"\\\x01')
    call.facts.repository, call.facts.reference = 'a"b', "x" * 10_000
    text = line(call, 0.25)
    assert text.count("\n") == 1
    assert text.isascii()
    told = json.loads(text)
    assert (told["who"], told["path"], told["repository"]) == (call.subject, call.path, 'a"b')
    assert (len(told["reference"]), told["seconds"], told["outcome"]) == (500, 0.25, "hit")


def test_what_holds_for_one_request_comes_from_the_outcome_on() -> None:
    call = failed(TooManyRequests("not now"), 429)
    call.facts.pulls = 2
    call.facts.spend("queue", 1.5)
    names = list(json.loads("{" + part(call) + "}"))
    assert names == [
        "route", "who", "repository", "reference", "digest", "outcome", "pulls", "code", "cause", "why", "queue_ms",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (Call(), "hit"),
        (Call(status=304), "hit"),
        (Call(method="PUT", status=201), "done"),
        (Call(route="ProjectsPage"), "done"),
        (Call(status=401, challenged=True), "challenged"),
        (failed(Unauthorized(), 401), "refused"),
        (failed(ManifestUnknown(), 404, method="HEAD"), "absent"),
        (failed(ManifestUnknown(), 404), "refused"),
        (failed(ValueError("a secret"), 500), "failed"),
        (failed(TooManyRequests(), 200), "failed"),
        (Call(status=499), "left"),
    ],
)
def test_how_it_went(call: Call, word: str) -> None:
    assert outcome(call) == word


def test_an_unforeseen_failure_is_named_and_not_quoted() -> None:
    told = json.loads("{" + part(failed(ValueError("a secret"), 500)) + "}")
    assert (told["code"], told["cause"], told["why"]) == ("UNKNOWN", "fault", "ValueError")


def test_a_log_line_has_the_id_of_the_request_that_it_works_for() -> None:
    record = logging.LogRecord("tests", logging.WARNING, "", 0, "late", None, None)
    facts.begin("id-00002")
    assert json.loads(JsonFormatter().format(record))["request_id"] == "id-00002"
    with spending("db"):
        pass
    assert list(facts.current().phases or {}) == ["db"]


def test_lines_for_the_journal_have_a_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert priority(logging.WARNING) == ""
    there = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{there.st_dev}:{there.st_ino}")
    assert [priority(level) for level in (logging.INFO, logging.WARNING, logging.ERROR)] == ["<6>", "<4>", "<3>"]


def test_probes_are_not_logged() -> None:
    assert {"HealthHandler", "ReadyHandler", "MetricsHandler"} == events.PROBES


def test_the_runbooks_look_for_what_is_written() -> None:
    """Each pattern that the runbooks look for in the log is in an event."""
    refused = TooManyRequests("not now")
    written = []
    for cause in ("budget spent", "upstream down"):
        refused.cause = cause
        for call in (failed(refused, 429), failed(refused, 503)):
            call.facts.pulls = 1
            written.append(line(call, 0.1))
    document = "".join((ROOT / name).read_text() for name in ("docs/operations.md", "docs/guide/alerts.md"))
    patterns = re.findall(r"grep '([^']+)' /var/log/nginx/registry\.log", document)
    assert len(patterns) > 4
    assert [pattern for pattern in patterns if not any(pattern in text for text in written)] == []
