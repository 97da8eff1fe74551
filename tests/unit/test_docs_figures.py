"""Figures and lists in the documents, held against the code: limits, time-outs, Redis keys, rooms, jobs."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from app.cache import keys
from app.mirror.ledger import _RULES as LEDGER
from app.mirror.transport import Timeouts
from app.oci.digest import ALGORITHMS
from app.oci.errors import OCIError

from .test_docs import rows

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
KIB, MIB, MINUTE, HOUR, DAY = 1024, 1024**2, 60, 3600, 86400
# Text of the code that looks like a key of Redis and is none: scopes of tokens, addresses of sockets.
NO_KEYS = {"repository", "unix"}


def section(text: str, heading: str) -> str:
    """Return the text between a heading and the next one of its level."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def in_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@cache
def trees() -> dict[Path, ast.Module]:
    return {path.relative_to(APP): ast.parse(path.read_text()) for path in sorted(APP.rglob("*.py"))}


def constant(room: str, name: str) -> float:
    """Return the number that a room or module calls ``name``; modules of one room must agree."""
    values = {
        eval(compile(ast.Expression(node.value), name, "eval"))
        for path, tree in trees().items()
        if path.is_relative_to(room) or path == Path(f"{room}.py")
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name
    }
    assert len(values) == 1, f"app/{room} has {values or 'no number'} as {name}"
    return float(values.pop())


def whole(number: float) -> str:
    assert abs(number - round(number)) < 1e-6, number
    return str(round(number))


# -- limits and time-outs ---------------------------------------------------------------------------------------------


def limits() -> list[list[str]]:
    """Write the table of limits from the constants of the code."""
    tag = re.search(r"\{0,(\d+)\}", (APP / "oci" / "reference.py").read_text())
    head = re.search(r"max_header_size=(\d+) \* 1024", (APP / "web" / "server.py").read_text())
    assert tag is not None
    lengths = f"{whole(constant('oci', 'MAX_NAME'))}, {int(tag[1]) + 1}, {whole(constant('oci', 'MAX_MEDIA_TYPE'))}"
    assert head is not None
    assert constant("registry", "GRACE_SECONDS") == constant("main", "_TRANSFER_SECONDS") == DAY
    return [
        ["a manifest", f"{whole(constant('oci', 'MAX_MANIFEST_BYTES') / MIB)} MiB, then 413"],
        ["a blob", "none; memory does not grow with it"],
        ["a page of tags, repositories or referrers", f"{whole(constant('web/v2', 'MOST'))}; follow `Link`"],
        [
            "annotations, labels, accessories of an artifact in a list",
            (
                f"{whole(constant('registry', '_ANNOTATION_BYTES_LISTED') / 1024)} KiB, "
                f"{whole(constant('registry', '_LABELS_LISTED'))}, {whole(constant('web/api', '_REFERRERS_SHOWN'))}; "
                f"none of a manifest over {whole(constant('database', 'LISTED_BYTES') / 1024)} KiB"
            ),
        ],
        [
            "a manifest or config whose contents are shown, on pages and in the API",
            (
                f"{whole(constant('database', 'DETAILED_BYTES') / KIB)} KiB; "
                "of a larger manifest, its layers and annotations"
            ),
        ],
        ["parts that the sizes of a list count", f"{constant('database', 'MOST_PARTS'):,.0f}"],
        ["entries of an index that are shown", whole(constant("registry", "_CHILDREN_SHOWN"))],
        ["labels on an artifact", whole(constant("projects", "_MOST_ON_ARTIFACT"))],
        [
            "open uploads in a project",
            (
                f"{whole(constant('registry', '_MOST_OF_ONE'))} of one person or robot account, "
                f"{whole(constant('registry', '_MOST_IN_PROJECT'))} in all; then those without a request for "
                f"{whole(constant('registry', '_GIVE_WAY_SECONDS') / HOUR)} hour give way, else 429"
            ),
        ],
        ["a count of a list", f"{whole(constant('database', 'MOST_COUNTED'))}, then it says that there are more"],
        [
            "the bytes of a bin",
            (
                f"of the first {whole(constant('database', 'MOST_COUNTED'))} rows of each kind, then it says that "
                "there are more"
            ),
        ],
        [
            "a search in a list",
            f"{constant('database', 'MOST_SEARCHED'):,.0f} entries, then it says so and goes on from there",
        ],
        ["tags in one push by digest", f"{whole(constant('web/v2', '_MOST_TAGS'))}, then 414"],
        ["a repository's full name, a tag, a media type", f"{lengths} characters"],
        ["digests", " and ".join(ALGORITHMS)],
        ["parameters of a query", whole(constant("web/v2", "_MOST_PARAMETERS"))],
        [
            "a text for the address helper; a line of it",
            (
                f"{whole(constant('web/pages', 'LONGEST_TEXT') / KIB)} Ki characters, the rest is not read; "
                f"{whole(constant('web/pages', '_LONGEST_LINE'))}"
            ),
        ],
        [
            "the extensions of chunks and the trailers of a body",
            f"{whole(constant('web', '_MOST_EXCESS') / KIB)} KiB more than twice its content",
        ],
        [
            "a request's head; a form for a token",
            f"{head[1]} KiB; {whole(constant('web', '_MOST_TOKEN_FORM') / KIB)} KiB",
        ],
        [
            "a form of somebody who is logged in; a body of the API",
            (
                f"{whole(constant('web', '_MOST_FORM') / MIB)} MiB; "
                f"{whole(constant('web/api', '_LONGEST_BODY') / KIB)} KiB"
            ),
        ],
        [
            "a form before the log-in; to the address helper; an answer of the university",
            (
                f"{whole(constant('web', 'MOST_OF_ANYBODY') / KIB)} KiB; "
                f"{whole(constant('web/pages', '_MOST_PASTED') / KIB)} KiB; "
                f"{whole(constant('web', '_MOST_ANSWER') / KIB)} KiB"
            ),
        ],
        [
            "scopes of a token; a token",
            f"{whole(constant('access', 'MAX_SCOPES'))}; {whole(constant('access', 'MAX_TOKEN') / KIB)} KiB",
        ],
        [
            "a user name; a password",
            f"{whole(constant('access', '_MAX_USERNAME'))}; {whole(constant('access', '_MAX_PASSWORD'))} characters",
        ],
        ["an upload without a request", "one day"],
        [
            "a presigned URL",
            f"{whole(constant('main', '_REDIRECT_SECONDS') / MINUTE)} minutes; with `accel`, for nginx alone, one day",
        ],
        ["a connection without a request", f"{whole(constant('web', '_IDLE_SECONDS') / MINUTE)} minutes"],
        [
            "a body to arrive, or an answer to be read",
            (
                f"at least {whole(constant('web', 'LEAST_RATE') / KIB)} KiB/s; silence for "
                f"{whole(constant('web', 'PATIENCE_SECONDS'))} s"
            ),
        ],
        [
            "connections of one address (of an IPv6 /64) in one worker",
            f"{whole(constant('web', 'MOST_CONNECTIONS'))}, then 429",
        ],
        [
            "bodies of one address in the memory of one worker",
            (
                f"{whole(constant('web', 'MOST_BYTES') / MIB)} MiB, and no more than the others leave free of "
                f"{whole(constant('web', 'MOST_BYTES_IN_ALL') / MIB)} MiB, then 429; "
                f"the first {whole(constant('web', '_FREE_BYTES') / KIB)} KiB of each are free"
            ),
        ],
        ["manifest payloads remembered by a worker", f"{whole(constant('registry', '_CACHE_BYTES') / MIB)} MiB"],
        ["redirects of an upstream or its token service", whole(constant("mirror", "MAX_REDIRECTS"))],
        ["one header of an upstream's answer", f"{whole(constant('mirror', '_MAX_HEADER_BYTES') / KIB)} KiB"],
        [
            "a list of an upstream",
            (
                f"{whole(constant('mirror', '_MOST_PAGES'))} pages, "
                f"{whole(constant('mirror', '_MOST_BYTES') / MIB)} MiB in memory: about 100,000 tags"
            ),
        ],
        ["lists of upstreams remembered by a worker", f"{whole(constant('mirror', '_PARSED_BYTES') / MIB)} MiB"],
    ]


def test_architecture_md_has_the_limits_of_the_code_and_no_other() -> None:
    assert [cells for cells in rows(section(ARCHITECTURE, "Limits")) if any(cells)] == limits()


FIGURES: list[tuple[str, str, str, float]] = [
    # The document, its words with {} for the figure, the constant as ROOM/NAME, and how many of it are one.
    ("architecture", "pieces of {} KiB", "registry/_PIECE_BYTES", KIB),
    ("architecture", "files on the local disk, {} MiB first", "storage/FIRST_PART", MIB),
    ("architecture", "no answer in {} s", "mirror/_HURRY_SECONDS", 1),
    ("architecture", "asks for no other tag that is here for {} s", "mirror/_SPARE_SECONDS", 1),
    ("architecture", "the reason: {} h by digest", "mirror/_UNUSABLE_SECONDS", HOUR),
    ("architecture", "{} min by tag", "mirror/_SPOILT_SECONDS", MINUTE),
    ("architecture", "For {} s no connection is reused", "mirror/_KEEP_ALIVE_SECONDS", 1),
    ("architecture", "looks at the part every {} ms", "mirror/_LOOK_EVERY", 0.001),
    ("architecture", "or {} s of silence", "mirror/FLIGHT_SECONDS", 1),
    ("architecture", "within {} minutes", "mirror/_ACTIVE_SECONDS", MINUTE),
    ("architecture", "from 1 s to {} h", "mirror/MAX_RETRY_AFTER", HOUR),
    ("architecture", "down to {} % of it", "mirror/_DOWN_TO", 0.01),
    ("architecture", "{} rows at a time", "registry/_BATCH", 1),
    ("architecture", "{} minutes ──", "database/OBJECT_GRACE_SECONDS", MINUTE),
    ("architecture", "is allowed, for {} minutes", "access/LIFETIME", MINUTE),
    ("architecture", "the same string for {} s", "access/_BUCKET", 1),
    ("architecture", "after {} days", "access/_ROTATE_AFTER", DAY),
    ("architecture", "for its first {} s", "access/_SETTLES_AFTER", 1),
    ("architecture", "for {} minutes more", "access/_VERIFIES_FOR", MINUTE),
    ("architecture", "uploads have {} s", "web/_END_SECONDS", 1),
    ("architecture", "has not ended {} s after", "processes/_EXIT_SECONDS", 1),
    ("architecture", "busy for {} s", "database/_SQLITE_BUSY_SECONDS", 1),
    ("architecture", "has no answer in {} s ──► in doubt", "database/LATE_SECONDS", 1),
    ("architecture", "alone has no answer ends after {} s", "database/DEADLINE_SECONDS", 1),
    ("decisions/0031-a-deadline-for-the-database", "**Late, {} s:**", "database/LATE_SECONDS", 1),
    ("decisions/0031-a-deadline-for-the-database", "its own deadline: {} s", "database/DEADLINE_SECONDS", 1),
    ("decisions/0031-a-deadline-for-the-database", "{} s for a transaction", "database/TRANSACTION_SECONDS", 1),
    ("decisions/0031-a-deadline-for-the-database", "no answer after {} ms", "database/PROBE_SECONDS", 0.001),
    ("architecture", "at most {} s ago", "database/_EPOCH_SECONDS", 1),
    ("architecture", "for {} minutes after the last", "database/_BRIDGE_SECONDS", MINUTE),
    ("decisions/0004-point-reads", "{} MiB of them", "registry/_CACHE_BYTES", MIB),
    ("decisions/0030-copies-of-rows", "A lease is {} ms", "database/_LEASE", 0.001),
    ("decisions/0030-copies-of-rows", "read at most {} s ago", "database/_EPOCH_SECONDS", 1),
    ("decisions/0030-copies-of-rows", "{} MiB of rows", "database/_MEMORY_BYTES", MIB),
    ("decisions/0030-copies-of-rows", "after {} minutes", "database/_AGE_SECONDS", MINUTE),
    ("decisions/0006-the-row-names-the-object", "{} minutes after their row", "database/OBJECT_GRACE_SECONDS", MINUTE),
    ("decisions/0012-digest-only-pushes-stay", "{} days after", "registry/UNPULLED_SECONDS", DAY),
    ("decisions/0014-tokens", "{} MiB of tokens", "access/tokens/_MAX_REMEMBERED", MIB),
    ("decisions/0015-uploads-to-s3", "start at {} MiB", "storage/FIRST_PART", MIB),
    ("decisions/0021-quota", "up to {} MiB", "registry/_AHEAD_BYTES", MIB),
    ("decisions/0021-quota", "the first {} MiB of a request", "registry/_FREE_BYTES", MIB),
    ("security", "{} failed log-ins a minute of an account at", "access/_PER_ACCOUNT_AND_ADDRESS", 1),
    ("security", "{} if the account has logged in there", "access/_PER_GOOD_ACCOUNT", 1),
    ("security", "in the last {} days", "access/_GOOD_SECONDS", DAY),
    ("security", "{} failed log-ins a minute of one address", "access/_PER_ADDRESS", 1),
    ("security", "{} passwords are hashed at a time", "access/_HASHES_AT_ONCE", 1),
    ("security", "a hash takes {} MiB", "access/_MEMORY_KIB", KIB),
    ("security", "{} log-ins of one address wait", "access/line/_MOST_WAITING", 1),
    ("security", "an API call: {} KiB", "web/_LONGEST_BODY", KIB),
    ("security", "the university: {} Ki characters", "access/_LONGEST_MESSAGE", KIB),
    ("security", "a worker has {} descriptors", "processes/_DESCRIPTORS", 1),
    ("guide/projects", "From {} % on", "database/WARN_FROM", 0.01),
]


@pytest.mark.parametrize(
    ("page", "words", "name", "unit"), FIGURES, ids=[f"{page}-{name}" for page, _, name, _ in FIGURES]
)
def test_a_figure_is_that_of_the_code(page: str, words: str, name: str, unit: float) -> None:
    expected = words.format(whole(constant(*name.rsplit("/", 1)) / unit))
    assert expected in in_one_line((ROOT / "docs" / f"{page}.md").read_text())


def test_architecture_md_has_the_time_outs_of_an_upstream() -> None:
    waits = Timeouts()
    expected = f"{waits.connect} s to connect, {waits.answer} s for an answer's head, {waits.idle} s without a byte"
    assert expected in in_one_line(ARCHITECTURE)
    assert f"A kept connection has {waits.reused} s for the head" in in_one_line(ARCHITECTURE)


def test_architecture_md_has_the_rules_of_the_ledger() -> None:
    for words in ("held {hold} s for the child", "for {known} s, and near the end ({near} left)"):
        assert words.format(**LEDGER) in in_one_line(ARCHITECTURE)


# -- lists ------------------------------------------------------------------------------------------------------------


def spelled_keys() -> set[str]:
    """Find the families of keys that the code spells: text with values in it that begins with a word and a colon."""
    found = set()
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                family = re.match(r"([a-z][a-z-]*):(?! |\n|//)", str(node.values[0].value))
                found |= {family[1]} if family is not None else set()
            elif (
                path == Path("cache/keys.py") and isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_key"
            ):
                found.add(ast.literal_eval(node.args[0]))
    return (found | {keys.fills(), keys.signing_keys()}) - NO_KEYS


def test_every_key_of_redis_is_drawn_where_keys_are_spelled() -> None:
    drawn = re.findall(rf"^    {keys.PREFIX}([a-z-]+)", keys.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(spelled_keys())


def test_the_readme_lists_every_room() -> None:
    listed = re.findall(r"^\| `app/(\w+)(?:/|\.py)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted([*(path.parent.name for path in APP.glob("*/__init__.py")), "main"])


def test_architecture_md_draws_the_rooms_in_their_layers() -> None:
    drawing = section(ARCHITECTURE, "Rooms").strip("\n").partition("\n\n")[0]
    names = [re.split(r"\s{2,}", line.strip())[0] for line in drawing.splitlines()]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert [name for name in names if "/" not in name] == contracts[0]["layers"]


def repeated() -> Counter[tuple[str, str]]:
    """Find what workers repeat beside requests: room and seconds of each call of `repeat`."""
    return Counter(
        (path.parts[0], whole(constant(str(path.with_suffix("")), ast.unparse(node.args[2]))))
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "repeat"
    )


def test_architecture_md_lists_the_jobs_with_their_intervals() -> None:
    table = [cells for cells in rows(section(ARCHITECTURE, "Jobs")) if len(cells) == 3 and cells[1].endswith(" s")]
    listed = Counter((cells[0].strip("`"), cells[1].removesuffix(" s")) for cells in table)
    assert listed == repeated()


def test_api_md_lists_every_code_with_its_status() -> None:
    def all_of(kind: type[OCIError]) -> Iterator[type[OCIError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from all_of(one)

    listed = {
        (int(status), code)
        for cells in rows((ROOT / "docs" / "api.md").read_text())
        if re.fullmatch(r"\d{3}(, \d{3})*", cells[0])
        for status in cells[0].split(", ")
        for code in re.findall(r"`([A-Z_]+)`", cells[1])
    }
    raised = {(kind.status, kind.code) for kind in all_of(OCIError) if kind.__module__ == OCIError.__module__}
    assert raised <= listed
