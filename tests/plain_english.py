"""Check that prose is plain English and that commits say what they do; run by ``make lint``.

A pattern cannot judge prose. It finds phrases that have a plainer form, and sentences that are too long to read once.
Prose is Markdown without its code, docstrings, comments, the texts of raised errors, templates, the catalogue, and the
names, descriptions and messages of playbooks.
"""

from __future__ import annotations

import ast
import csv
import io
import re
import subprocess
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
# Files and folders whose prose is checked.
CHECKED = (
    "README.md",
    "docs",
    "bench/README.md",
    "config.yaml",
    "Makefile",
    "Vagrantfile",
    "requirements.txt",
    "setup-requirements.txt",
    "tests/requirements.txt",
    "tests/tools-requirements.txt",
    "tests/apt.txt",
    "tests/deploy/apt.txt",
    "tests/deploy/apt-libvirt.txt",
    "ansible",
    "app",
)
MOST_WORDS = 30
_PRONOUN = "it|they|we|you|he|she|nobody|somebody|everybody|what|who|there|this|that|these|nothing|no|not|each"
# What is not plain, as a pattern within one sentence, and its plainer form.
PLAINER: Mapping[str, str] = {
    r"^(What|Whatever|Whoever|Who|Whichever)\b.*\.$": "a person or a thing as the subject",
    r"^Where [^?]*,": "if",
    r"\bwhere (there (is|are|was)|none|nobody|nothing|no \w+|one of|that (is|was)|it (is|was) given)\b": "if",
    rf", for ({_PRONOUN})\b": "because",
    r", for (the|an?|its|their) \w+ (is|are|was|were|has|have|may|can|must|will|would)\b": "because",
    r"\b(is|are|was|were|be|been|being|stays?|Redis|PostgreSQL|SQL|S3|upstream|store|database) away\b": "down",
    r"\bto be had\b": "available",
    r"\b(goes|go|going|gone|went) on (with|where)\b": "resume, or continue",
    r"\bgo(es)? on being\b": "is still",
    r"\bthere can be only one of\b": "there can be only one …",
    r"\bmade up\b": "generated",
    r"\bbut for\b": "except",
    r"\ball the same\b": "still",
    r"\bbe it\b": "whether",
    r"\banew\b": "again",
    r"\blest\b": "so that … not",
    r"\bsave for\b": "except",
    r"\bfor want of\b": "because … is missing",
    r"\bhad better\b": "should",
    r"\b(held|holds?|holding) (\w+ )?against\b": "compare with, or validate",
    r"\bkeeps? account of\b": "track",
    r"\bcross(es)? the line\b": "is downloaded",
    r"\bprolong(s|ed|ing)?\b": "extend",
    r"\b(whereby|thereby|wherein|thereof)\b": "by which, so, in which, of it",
}
# `scope: imperative`, without a full stop, in 72 characters.
_SUBJECT = re.compile(r"(?=.{1,72}\Z)[a-z0-9_/.-]+: [a-z].*[^.]\Z")
# Git writes these; in a shallow clone, a merge is not told from other commits by its parents.
_MERGE = re.compile(r"Merge (branch|branches|commit|pull request|remote-tracking branch|tag) ")
# The keys of a playbook, a role or an alert whose values are prose.
_SAID = frozenset({"name", "description", "short_description", "fail_msg", "msg", "summary"})
_DIRECTIVE = re.compile(r"# ?(noqa|type:|fmt:|!)")

Prose = Iterator[tuple[int, str]]  # the line, and the text that is read as one piece


def main() -> int:
    """Print every fault in the checked files and in the commits since this check was added."""
    faults = [f"{path}:{line}: {fault}" for path in _files() for line, fault in _of_file(path)]
    faults += [f"{commit[:10]}: {fault}" for commit, message in _commits() for fault in of_message(message)]
    print("\n".join(faults) or "plain English: no faults")
    return int(bool(faults))


def of_text(text: str) -> list[str]:
    """List the faults of a piece of prose."""
    faults = []
    for sentence in re.split(r"(?<=[.!?])[)\"']?\s+", " ".join(text.split())):
        words = len(re.findall(r"\w\S*", sentence))
        if words > MOST_WORDS:
            faults.append(f"{words} words in one sentence, at most {MOST_WORDS}: {sentence[:60]} …")
        for pattern, plainer in PLAINER.items():
            if match := re.search(pattern, sentence):
                faults.append(f"plainer than {match[0][:60]!r}: {plainer}")
    return faults


def of_message(message: str) -> list[str]:
    """List the faults of a commit's message."""
    subject, _, body = message.partition("\n")
    if _MERGE.match(subject):
        return []
    faults = [] if _SUBJECT.match(subject) else [f"not 'scope: imperative' in 72 characters: {subject}"]
    return faults if body.strip() else [*faults, f"no body that says why: {subject}"]


# -- prose by the kind of file ----------------------------------------------------------------------------------------


def markdown(text: str) -> Prose:
    """Yield the paragraphs, list items, headings and cells of a Markdown document."""
    text = re.sub(r"^```.*?^```$", _blank, text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+", _blank, text)
    text = re.sub(r"`[^`\n]*`", "X", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)).replace("**", "")
    began, piece = 0, ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        mark = re.match(r"\s*(?:[-*] |\d+\. |#+ |\|)", line)
        if piece and (mark or not line.strip()):
            yield began, piece
            piece = ""
        if line.startswith("|"):
            yield from ((number, cell.strip()) for cell in line.split("|") if re.search(r"\w", cell))
        elif line.strip():
            began = began if piece else number
            piece += f" {line[mark.end() :] if mark else line}"


def python(text: str) -> Prose:
    """Yield the docstrings, the comments and the texts of raised errors of a module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                first = node.body[0]
                pieces = markdown(textwrap.dedent(" " * first.col_offset + docstring) + "\n")
                yield from ((first.lineno + line - 1, prose) for line, prose in pieces)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            yield node.lineno, _literal(node.exc.args[0])
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    yield from _joined(text, ((line, said[1:]) for line, said in found if not _DIRECTIVE.match(said)))


def _literal(node: ast.expr) -> str:
    """Return an error's text; a value in it counts as one word."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(value) if isinstance(value, ast.Constant) else "X" for value in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def comments(text: str) -> Prose:
    """Yield the comments after ``#`` of a file that is not Python."""
    found = ((line, re.search(r"(?:^|\s)#(?![!{])(.*)", said)) for line, said in enumerate(text.splitlines(), 1))
    yield from _joined(text, ((line, match[1]) for line, match in found if match))


def playbook(text: str) -> Prose:
    """Yield the comments of a file of Ansible or Prometheus, and its names, descriptions and messages."""
    yield from comments(text)
    nodes = list(yaml.compose_all(text, yaml.SafeLoader))
    for node in nodes:
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            nodes += [value for _, value in node.value]
            said = [value for key, value in node.value if key.value in _SAID and isinstance(value, yaml.ScalarNode)]
            yield from ((one.start_mark.line + 1, re.sub(r"\{[{%].*?[%}]\}", "X", one.value)) for one in said)


def jinja(text: str) -> Prose:
    """Yield the comments of a template: those of Jinja, and those of the file that it makes."""
    return comments(re.sub(r"\{#-?(.*?)-?#\}", r"#\1", text))


def _joined(text: str, found: Iterable[tuple[int, str]]) -> Prose:
    """Join comments that fill whole lines and follow each other."""
    alone = {number for number, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith("#")}
    began, last, piece = 0, 0, ""
    for number, comment in found:
        if number == last + 1 and {number, last} <= alone:
            piece += comment
        else:
            yield began, piece
            began, piece = number, comment
        last = number
    yield began, piece


def template(text: str) -> Prose:
    """Yield the texts of a page: between its tags, and the arguments of ``_``."""
    for match in re.finditer(r"\b_\(([\"'])(.+?)\1|>([^<>{}]*\w[^<>{}]*)<", text):
        yield text.count("\n", 0, match.start()) + 1, match[2] or match[3]


def catalogue(text: str) -> Prose:
    """Yield the English texts of the pages' catalogue."""
    reader = csv.reader(io.StringIO(text))
    yield from ((reader.line_num, row[0]) for row in reader if row)


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


_KINDS: Mapping[str, Callable[[str], Prose]] = {
    ".csv": catalogue,
    ".html": template,
    ".j2": jinja,
    ".md": markdown,
    ".py": python,
    ".txt": comments,
    ".yaml": comments,
    ".yml": playbook,
    "": comments,
}


def _files() -> Iterator[Path]:
    for name in CHECKED:
        found = sorted((ROOT / name).rglob("*")) if (ROOT / name).is_dir() else [ROOT / name]
        yield from (path.relative_to(ROOT) for path in found if path.is_file() and path.suffix in _KINDS)


def _of_file(path: Path) -> Iterator[tuple[int, str]]:
    for line, text in _KINDS[path.suffix]((ROOT / path).read_text()):
        yield from ((line, fault) for fault in of_text(text))


# -- commits ----------------------------------------------------------------------------------------------------------


def _commits() -> Iterator[tuple[str, str]]:
    """Yield id and message of the commits that came after the one that added this file.

    In a shallow clone the oldest commit has no parents and seems to have added every file. It came later, or is the
    one that added this file, so it is checked as well.
    """
    added = _git("log", "--diff-filter=A", "--format=%H %P", "--", str(Path(__file__).relative_to(ROOT)))
    for start, *parents in map(str.split, added.splitlines()):
        messages = _git("log", "--ancestry-path", "--format=%H %B%x00", f"{start}..HEAD")
        messages += "" if parents else _git("log", "-1", "--format=%H %B%x00", start)
        for message in filter(None, map(str.strip, messages.split("\0"))):
            commit, _, said = message.partition(" ")
            yield commit, said


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
