"""Each lock fits its requirements, and has a hash of everything and the address of nothing."""

from __future__ import annotations

import re

import pytest

from tests.outdated import LISTS, ROOT

LOCKS = [file.replace(".txt", ".lock") for file in LISTS]
# These are installed into one environment.
_TOGETHER = LOCKS[:3]

_PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[\w+\])?==(\S+)")
_ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[\w.!+]+)(?: ; (?P<marker>[^\\\n]+?))?"
    r"(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    r"(?P<via>(?: +#.*\n)*)"
)
_TITLE = re.compile(r"(?:#.*\n)*")


def pins(requirements: str) -> dict[str, str]:
    """Return the version of each package that a list of requirements names."""
    found = _PIN.findall(re.sub(r"#.*", "", requirements))
    return {re.sub(r"[._-]+", "-", name).lower(): version for name, version in found}


def entries(lock: str) -> list[re.Match[str]]:
    """Return the entries of a lock; raise ValueError at the first line that is part of none."""
    title = _TITLE.match(lock)
    at, found = title.end() if title else 0, []
    while at < len(lock):
        entry = _ENTRY.match(lock, at)
        if entry is None:
            raise ValueError(f"not an entry with hashes: {lock[at:].partition(chr(10))[0]}")
        found.append(entry)
        at = entry.end()
    return found


def check(requirements: str, lock: str) -> None:
    """Raise ValueError if the lock does not fit the requirements, or tells pip anything besides versions and hashes."""
    if "://" in lock:
        raise ValueError("an address")
    found = entries(lock)
    asked = {entry["name"]: entry["version"] for entry in found if re.search(r"-r \S*requirements\.txt", entry["via"])}
    if asked != pins(requirements):
        raise ValueError(f"run make lock: {sorted(asked.items() ^ pins(requirements).items())}")


def test_each_requirements_file_has_a_lock_that_is_checked_here() -> None:
    tracked = (path for folder in (".", "tests", "ansible") for path in (ROOT / folder).glob("*requirements.txt"))
    assert {str(path.with_suffix(".lock").relative_to(ROOT)) for path in tracked} == set(LOCKS)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_fits_its_requirements(name: str) -> None:
    lock = ROOT / name
    check(lock.with_suffix(".txt").read_text(), lock.read_text())


def test_locks_of_one_environment_agree() -> None:
    chosen: dict[str, set[str]] = {}
    for name in _TOGETHER:
        for entry in entries((ROOT / name).read_text()):
            chosen.setdefault(entry["name"], set()).add(entry["version"])
    assert {name: versions for name, versions in chosen.items() if len(versions) > 1} == {}


def test_what_hosts_install_is_the_same_for_each_python_3_11() -> None:
    """A release is made by another Python 3.11 than the hosts', and only gets what this one asks for."""
    markers = {entry["name"]: entry["marker"] for entry in entries((ROOT / "requirements.lock").read_text())}
    assert {name: marker for name, marker in markers.items() if marker and "'3.11." in marker} == {}


def test_pip_is_called_only_with_locks() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"-m pip .*", makefile) == re.findall(r"(?<=INSTALL := )-m pip .* --require-hashes .*", makefile)
    installed = re.findall(r"\$\(INSTALL\) -r (\S+)", makefile)
    assert sorted(installed) == sorted(LOCKS)
    (role,) = re.findall(r"requirements: .*/(\S+)\"", (ROOT / "ansible/roles/registry/tasks/release.yml").read_text())
    assert role == "wheels.lock"


_HASH = f"--hash=sha256:{'0' * 64}"
_GOOD = f"one==1.0 \\\n    {_HASH}\n    # via -r requirements.txt\n"


@pytest.mark.parametrize(
    ("lock", "fault"),
    [
        (_GOOD.replace("1.0", "1.1"), "run make lock"),
        (_GOOD.replace("one", "two"), "run make lock"),
        (_GOOD + _GOOD.replace("one", "two"), "run make lock"),
        (_GOOD + "two==2.0\n    # via one\n", "not an entry with hashes: two==2.0"),
        (_GOOD + f"two>=2.0 \\\n    {_HASH}\n    # via one\n", "not an entry with hashes: two>=2.0"),
        (_GOOD.replace("sha256", "md5"), "not an entry with hashes: one==1.0"),
        (f"--find-links wheels\n{_GOOD}", "not an entry with hashes: --find-links wheels"),
        (f"--index-url packages.example.org\n{_GOOD}", "not an entry with hashes: --index-url"),
        (f"{_GOOD}    # from https://packages.example.org\n", "an address"),
        ("# Made by a tool\n", "run make lock"),
    ],
)
def test_a_lock_that_does_not_fit_is_refused(lock: str, fault: str) -> None:
    check("one==1.0  # why\n", f"# Made by a tool\n{_GOOD}")
    with pytest.raises(ValueError, match=re.escape(fault)):
        check("one==1.0  # why\n", lock)
