"""`make outdated`: an answer that is missing is never taken for a good one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import outdated

_PACKAGE = {"name": "one", "version": "1.0", "vulns": []}
_KNOWN = {"id": "PYSEC-1", "fix_versions": ["1.1"]}


class Tools:
    """Stands in for uv and pip-audit, because a unit test asks no index and no database."""

    def __init__(self, **answers: tuple[str, str, int]) -> None:
        self._answers = answers

    def run(self, command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        said, fault, status = self._answers[Path(command[0]).name.replace("-", "_")]
        return subprocess.CompletedProcess(command, status, said, fault)


def report(**package: Any) -> str:
    return json.dumps({"dependencies": [_PACKAGE | package], "fixes": []})


@pytest.mark.parametrize(
    ("index", "database", "status", "words"),
    [
        (("one==1.0\n", "", 0), (report(), "", 0), 0, ["no newer versions", "no known vulnerabilities"]),
        (("one==1.1\n", "", 0), (report(), "", 0), 0, ["one 1.0, newest 1.1"]),
        (("one==1.0\n", "", 0), (report(vulns=[_KNOWN]), "", 1), 1, ["one 1.0 has PYSEC-1, repaired in 1.1"]),
        (
            ("one==1.0\n", "", 0),
            (report(skip_reason="not found"), "", 0),
            2,
            ["NOT KNOWN whether vulnerable", "not found"],
        ),
        (("one==1.0\n", "", 0), ("", "Trace\n  no route", 1), 2, ["NOT KNOWN whether vulnerable", "no route"]),
        (("", "no such host", 2), (report(), "", 0), 2, ["NOT KNOWN whether outdated", "no such host"]),
        (("two==1.0\n", "", 0), (report(), "", 0), 2, ["NOT KNOWN whether outdated", "nothing about one, two"]),
        (("", "no such host", 2), (report(vulns=[_KNOWN]), "", 1), 1, ["NOT KNOWN whether outdated", "PYSEC-1"]),
    ],
)
def test_the_status_and_the_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    index: tuple[str, str, int],
    database: tuple[str, str, int],
    status: int,
    words: list[str],
) -> None:
    (tmp_path / "requirements.txt").write_text("One[extra]==1.0  # why\n")
    monkeypatch.setattr(outdated, "ROOT", tmp_path)
    monkeypatch.setattr(outdated, "LISTS", ("requirements.txt",))
    monkeypatch.setattr(subprocess, "run", Tools(uv=index, pip_audit=database).run)
    assert outdated.main() == status
    said = capsys.readouterr().out
    assert all(word in said for word in words), said
    assert ("no known vulnerabilities" in said) == ("NOT KNOWN whether vulnerable" not in said and "PYSEC" not in said)
