"""Finds the images in a pasted text and gives the mirror's address of each.

The text may be a name, command lines, a Dockerfile, an Apptainer definition, a compose file, a pipeline, a Kubernetes
manifest, a workflow of Snakemake or Nextflow, or a devcontainer.json. It is read line by line, in time that is linear
in its length. Nothing in it is an error: a line that names no image is left out.
An image's tag, digest and build arguments stay as they are written.

Anybody may send a text. So a repeat in a pattern here is possessive (``\\s*+``), unless the next character decides
whether the repeat continues. `tests.unit.test_patterns` proves that all patterns of the program take linear time.

Source: Docker's "familiar" names (distribution/reference), the Dockerfile reference (FROM, COPY --from, ARG).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import dropwhile, islice

LONGEST_TEXT = 32 * 1024
_MOST_SPOTS = 500
# Nobody writes longer lines, so they are skipped. Lines that backslashes join count as one.
_LONGEST_LINE = 4096

_DOCKER_HUB = "docker.io"
# All of them are Docker Hub. People copy the last one from their browser's address bar.
_HUB_HOSTS = frozenset({_DOCKER_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_HUB_PAGE = re.compile(
    r"(?:https?://)?hub\.docker\.com/(?:_/(?P<official>[^/?#\s]++)|r/(?P<image>[^/?#\s]++/[^/?#\s]++)).*"
)
_TRANSPORT = "docker://"
_SCHEME = re.compile(r"(?:docker|oci|https?)://")
_PATH = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_HOST = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*(?::\d+)?\Z")
# No image has a longer name or default. A search must not read the rest of the line for each `${`.
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w{1,128})(?::?-(?P<fallback>[^}]{0,255}))?\}|(?P<plain>\w+))")
_ANY_VARIABLE = r"\$(?:\w++|\{[^}]*\})"
_REST = re.compile(
    rf"(?P<path>{_PATH}(?:/{_PATH})*)(?::(?:[\w.-]|{_ANY_VARIABLE})+)?"
    rf"(?:@(?:[a-z0-9+._-]+:[0-9a-fA-F]{{32,}}|{_ANY_VARIABLE}))?\Z"
)

_FROM = re.compile(
    r"\s*+FROM\s++(?:--platform=\S++\s++)?(?P<image>\S++)(?:\s++AS\s++(?P<stage>\S++))?\s*+(?:#.*)?\Z", re.IGNORECASE
)
_BEGINS_A_STAGE = re.compile(r"\s*+FROM\s++\S", re.IGNORECASE)
_COPY = re.compile(r"\s*+(?:COPY|ADD)\s", re.IGNORECASE)
_WORD = re.compile(r"\S+")
_ARG = re.compile(
    r"\s*+ARG\s++(?P<name>\w++)=(?P<quote>[\"']?)(?P<value>[^\"'\s]{0,255}+)(?P=quote)\s*+\Z", re.IGNORECASE
)
_SYNTAX = re.compile(r"#\s*syntax\s*=\s*(?P<image>\S+)\s*\Z", re.IGNORECASE)

# Apptainer's header has one image for each stage, and says with which agent it is fetched.
_BOOTSTRAP = re.compile(r"\s*+bootstrap\s*+:\s*+(?P<agent>[\w-]++)", re.IGNORECASE)
_DEFINED = re.compile(r"\s*+from\s*+:\s*+(?P<image>[^\s#]++)", re.IGNORECASE)
# Nextflow's scripts and configuration; a comment begins with two slashes. A search must not read the rest of the line.
_NEXTFLOW = re.compile(r"\bcontainer(?:\s{0,8}+=)?+\s{0,8}+[\"'](?P<image>[^\"'\s]{1,400}+)[\"']")
_JSON_IMAGE = re.compile(r"\"image\"\s{0,8}+:\s{0,8}+\"(?P<image>[^\"\\\s]{1,400}+)\"")
# Snakemake's directives and Nextflow's URIs have it in quotes, a job of Slurm after any words.
_TRANSPORTED = re.compile(r"docker://[^\s\"'`,;()\[\]{}<>]++")

_YAML_IMAGE = re.compile(r"\s*+(?:-\s++)*image:\s*+(?P<rest>.*)\Z")
_YAML_FLOW = re.compile(r"\s*+(?:-\s++)*[\w.][\w.-]*:\s*(?P<rest>\{.*)\Z")
_YAML_NAME = re.compile(r"\s*+(?:-\s++)?name:\s*+(?P<rest>.*)\Z")
_YAML_ITEM = re.compile(r"\s*-\s+(?P<rest>[^\s{&*!|>].*)\Z")
_YAML_SERVICES = re.compile(r"(?P<indent>\s*)services:\s*(?:#.*)?\Z")
_YAML_VALUE = re.compile(r"\s*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<bare>[^\s\"'#,}]+))")

_COMMANDS = frozenset({"docker", "podman", "nerdctl", "buildah", "crictl", "ctr", "skopeo", "apptainer", "singularity",
                       "ch-image", "crane", "regctl", "oras", "k3s", "kubectl", "enroot", "finch", "lima"})  # fmt: skip
_BEFORE_A_COMMAND = frozenset({"$", ">", "#", "sudo", "run:", "-"})
_VERBS = frozenset({"pull", "run", "create", "from", "copy", "inspect", "exec", "shell", "build", "manifest", "import"})
# Options of `pull`, `run` and `create` that take no value. Any other long option takes one, unless it has an `=`.
_FLAGS = frozenset({"--rm", "--init", "--privileged", "--read-only", "--detach", "--interactive", "--tty", "--quiet",
                    "--publish-all", "--no-healthcheck", "--all-tags", "--oom-kill-disable", "--sig-proxy", "--replace",
                    "--disable-content-trust", "--plain-http", "--tls-verify", "--force", "--nv", "--rocm", "--all",
                    "--cleanenv", "--contain", "--fakeroot", "--no-https", "--all-platforms", "--stdin"})  # fmt: skip
_VALUED_LETTERS = frozenset("pvewuhlmcn")


class Outcome(StrEnum):
    """The result of looking up an image's name."""

    OFFICIAL = "official"  # Docker Hub's own: library/ was put in
    MIRRORED = "mirrored"
    ALREADY = "already"
    MISSING_LIBRARY = "missing library"  # this registry's address, without the part that Docker Hub hides
    ELSEWHERE = "elsewhere"  # a registry that is not mirrored here
    STAGE = "stage"  # an earlier stage of the same Dockerfile
    SCRATCH = "scratch"
    UNSET = "unset"  # depends on a build argument that has no default
    LOCAL = "local"
    CAPITALS = "capitals"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the text as it was written, and the address to write instead (None: leave it as it is).

    ``registry`` is the host that the image names, or the build argument that it depends on.
    """

    written: str
    outcome: Outcome
    address: str | None = None
    registry: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """All images of a text, each once, and the text with their addresses (None if nothing changes)."""

    images: tuple[Image, ...]
    rewritten: str | None


@dataclass(frozen=True, slots=True)
class _Spot:
    """The place of an image's name in the text, and the image."""

    start: int
    end: int
    image: Image


class AddressBook:
    """Knows this registry's own address, and the project that mirrors each registry."""

    def __init__(self, host: str, mirrors: Mapping[str, str]) -> None:
        """Keep ``mirrors``: the mirror project's name by the registry's name, such as ``{"docker.io": "mirror"}``."""
        self._host = host
        self._mirrors = dict(mirrors)

    def read(self, text: str) -> Reading:
        """Find the images in the first `LONGEST_TEXT` characters of a text."""
        text = text[:LONGEST_TEXT].replace("\r\n", "\n")
        spots = sorted(islice(_Reader(text, self).spots(), _MOST_SPOTS), key=lambda spot: spot.start)
        images = tuple(dict.fromkeys(spot.image for spot in spots))
        rewritten, position = [], 0
        for spot in spots:
            if spot.image.address is not None and spot.start >= position:
                rewritten += [text[position : spot.start], spot.image.address]
                position = spot.end
        rewritten.append(text[position:])
        return Reading(images, "".join(rewritten) if position else None)

    def look_up(self, written: str) -> Image:
        """Return the image that one name stands for."""
        name = written
        page = _HUB_PAGE.fullmatch(name)
        if page is not None:
            name = page["official"] or page["image"]
        scheme = _SCHEME.match(name)
        name = name[scheme.end() :] if scheme else name
        first, slash, rest = name.partition("/")
        if name == self._host:
            return Image(written, Outcome.ALREADY, registry=self._host)
        if not slash or not ("." in first or ":" in first or first == "localhost"):
            first, rest = _DOCKER_HUB, name
        first = first.lower()
        match = _REST.match(rest)
        if match is None or _HOST.match(first) is None:
            return self._in_lower_case(written, first, rest)
        if first == self._host:
            return self._ours(written, rest, match["path"])
        registry = _DOCKER_HUB if first in _HUB_HOSTS else first
        if registry == "localhost" or registry.startswith(("localhost:", "127.0.0.1")):
            return Image(written, Outcome.LOCAL, registry=registry)
        project = self._mirrors.get(registry)
        if project is None:
            return Image(written, Outcome.ELSEWHERE, registry=registry)
        if registry == _DOCKER_HUB and "/" not in match["path"]:
            return Image(written, Outcome.OFFICIAL, f"{self._host}/{project}/library/{rest}", registry)
        return Image(written, Outcome.MIRRORED, f"{self._host}/{project}/{rest}", registry)

    def _in_lower_case(self, written: str, registry: str, rest: str) -> Image:
        """Return what a name that is none stands for with small letters. A tag keeps its capitals."""
        place = rest.rfind("/") + 1
        path = rest[: place + len(re.split("[:@]", rest[place:], maxsplit=1)[0])]
        small = path.lower() + rest[len(path) :]
        if small == rest or _REST.match(small) is None or _HOST.match(registry) is None:
            return Image(written, Outcome.INVALID)
        name = small if registry == _DOCKER_HUB else f"{registry}/{small}"
        return Image(written, Outcome.CAPITALS, self.look_up(name).address or name, registry)

    def _ours(self, written: str, rest: str, path: str) -> Image:
        project, _, name = path.partition("/")
        if name and "/" not in name and self._mirrors.get(_DOCKER_HUB) == project:
            address = f"{self._host}/{project}/library/{rest.partition('/')[2]}"
            return Image(written, Outcome.MISSING_LIBRARY, address, _DOCKER_HUB)
        return Image(written, Outcome.ALREADY, registry=self._host)


class _Reader:
    """Reads one text, and remembers a Dockerfile's stages and arguments and the place in a YAML file."""

    def __init__(self, text: str, book: AddressBook) -> None:
        self._text = text
        self._book = book
        self._stages: set[str] = set()
        # A build argument's default, and its place in the text.
        self._arguments: dict[str, tuple[str, int]] = {}
        self._services_indent: int | None = None
        self._image_indent: int | None = None
        # Whether Apptainer's header fetches its image from a registry.
        self._bootstraps = False
        self._dockerfile = any(map(_BEGINS_A_STAGE.match, text.split("\n")))

    def spots(self) -> Iterator[_Spot]:
        """Find every image, line by line. A line that ends in a backslash continues in the next."""
        offset = 0
        for line in re.split(r"(?<!\\)\n", self._text):
            if len(line) <= _LONGEST_LINE and line and not line.isspace():
                yield from self._line(line.replace("\\\n", "  "), offset)
            offset += len(line) + 1

    def _line(self, line: str, offset: int) -> Iterator[_Spot]:
        if self._dockerfile:
            found = list(self._of_dockerfile(line, offset))
            if found or not re.match(r"\s*(?:\$\s+)?(?:sudo\s+)?docker\s", line):
                yield from found
                return
        readers = (
            self._of_definition,
            self._of_yaml,
            self._of_command,
            self._of_workflow,
            self._of_names,
        )
        for reader in readers:
            found = list(reader(line, offset))
            if found:
                yield from found
                return

    def _spot(self, start: int, written: str) -> _Spot:
        if written.startswith(_TRANSPORT):
            start, written = start + len(_TRANSPORT), written[len(_TRANSPORT) :]
        return _Spot(start, start + len(written), self._book.look_up(written))

    # Dockerfile

    def _of_dockerfile(self, line: str, offset: int) -> Iterator[_Spot]:
        argument = _ARG.match(line)
        if argument is not None:
            self._arguments[argument["name"]] = argument["value"], offset + argument.start("value")
            return
        begins = _FROM.match(line)
        match = _SYNTAX.match(line) or begins
        found = [(match.start("image"), match["image"])] if match else _options(line)
        for start, written in found:
            yield from self._of_stage(written, offset + start)
        if begins is not None and begins["stage"]:
            self._stages.add(begins["stage"].lower())

    def _of_stage(self, written: str, start: int) -> Iterator[_Spot]:
        written = written.strip("\"'") if written[0] in "\"'" else written
        end = start + len(written)
        if written.lower() in self._stages or written.isdigit():
            yield _Spot(start, end, Image(written, Outcome.STAGE))
        elif written.lower() == "scratch":
            yield _Spot(start, end, Image(written, Outcome.SCRATCH))
        else:
            yield self._with_variables(written, start)

    def _with_variables(self, written: str, start: int) -> _Spot:
        """Look up a name that may have variables. Those in the tag stay; any before it need a default."""
        last = written.rfind("/") + 1
        head = written[:last] + re.split(r"[:@](?![-+])", written[last:], maxsplit=1)[0]
        first = _VARIABLE.search(head)
        if first is None:
            return self._spot(start, written)
        name = first["braced"] or first["plain"]
        default, place = self._arguments.get(name, (first["fallback"] or "", -1))
        if not default:
            return _Spot(start, start + len(written), Image(written, Outcome.UNSET, registry=name))
        if first.group() == written and place >= 0:
            # The whole name is the argument, so its default is rewritten.
            return self._spot(place, default)
        known = _VARIABLE.sub(lambda match: self._value(match), written)
        return _Spot(start, start + len(written), self._book.look_up(known))

    def _value(self, match: re.Match[str]) -> str:
        default, _ = self._arguments.get(match["braced"] or match["plain"], (match["fallback"] or "", -1))
        return default or match.group()

    # Apptainer

    def _of_definition(self, line: str, offset: int) -> Iterator[_Spot]:
        header = _BOOTSTRAP.match(line)
        if header is not None:
            self._bootstraps = header["agent"].lower() == "docker"
        image = _DEFINED.match(line) if self._bootstraps else None
        if image is not None:
            self._bootstraps = False
            yield self._spot(offset + image.start("image"), image["image"])

    # Snakemake, Nextflow, devcontainer, jobs of Slurm

    def _of_workflow(self, line: str, offset: int) -> Iterator[_Spot]:
        if line.lstrip().startswith(("//", "#")) and "docker://" not in line.split()[0]:
            return
        found = [(match.start(), match.group()) for match in _TRANSPORTED.finditer(line)]
        if not found:
            named = [*_NEXTFLOW.finditer(line), *_JSON_IMAGE.finditer(line)]
            found = [(match.start("image"), match["image"]) for match in named if "$" not in match["image"]]
        yield from (self._spot(offset + start, written) for start, written in found)

    # Compose, Kubernetes, GitLab CI

    def _of_yaml(self, line: str, offset: int) -> Iterator[_Spot]:
        if not line.strip() or line.lstrip().startswith("#"):
            return
        indent = len(line) - len(line.lstrip())
        if self._image_indent is not None and indent <= self._image_indent:
            self._image_indent = None
        if self._services_indent is not None and (
            indent < self._services_indent or (indent == self._services_indent and not line.lstrip().startswith("-"))
        ):
            self._services_indent = None
        services = _YAML_SERVICES.match(line)
        if services is not None:
            self._services_indent = len(services["indent"])
            return
        image = _YAML_IMAGE.match(line)
        if image is not None and not image["rest"].strip():
            self._image_indent = indent
            return
        place = self._yaml_value(line, image)
        value = _YAML_VALUE.match(line, place) if place is not None else None
        group = value.lastgroup if value is not None else None
        if value is not None and group is not None and value[group]:
            yield self._with_variables(value[group], offset + value.start(group))

    def _yaml_value(self, line: str, image: re.Match[str] | None) -> int | None:
        """Return where an image's name begins in a line, None if the line has none."""
        flow = _YAML_FLOW.match(line) if image is None else None
        if flow is not None and (place := _in_flow(flow["rest"], "image:")) is not None:
            return flow.start("rest") + place
        match = image
        if match is None and (self._image_indent is not None or self._services_indent is not None):
            match = _YAML_NAME.match(line)
        if match is None and self._services_indent is not None:
            match = _YAML_ITEM.match(line)
            if match is not None and re.match(r"[\w-]+:(?:\s|\Z)", match["rest"]):
                return None
        if match is None:
            return None
        place = _in_flow(match["rest"], "name:") if match["rest"].startswith("{") else 0
        return None if place is None else match.start("rest") + place

    # Command lines

    def _of_command(self, line: str, offset: int) -> Iterator[_Spot]:
        words = list(_words(line))
        words = list(dropwhile(lambda word: word[1] in _BEFORE_A_COMMAND or re.match(r"\w+=", word[1]), words))
        if not words or words[0][1] not in _COMMANDS:
            return
        yield from (self._spot(offset + start, word) for start, word in words if word.startswith(_TRANSPORT))
        for start, word in words:
            if word.startswith("--image="):
                yield self._spot(offset + start + len("--image="), word.partition("=")[2])
        verb = next((place for place, (_, word) in enumerate(words) if word in _VERBS), None)
        if (
            verb is None
            or words[verb][1] in ("build", "manifest")
            or any(word.startswith(_TRANSPORT) for _, word in words)
        ):
            return
        argument = _first_argument(words[verb + 1 :])
        if argument is not None and words[0][1] != "kubectl":
            yield self._with_variables(argument[1], offset + argument[0])

    # Bare names

    def _of_names(self, line: str, offset: int) -> Iterator[_Spot]:
        words = [(match.start(), match.group()) for match in re.finditer(r"[^\s,;]+", line)]
        looked_up = [self._spot(offset + start, word) for start, word in words]
        plain = len(words) == 1 or all(re.search(r"[/:@]", word) for _, word in words) or "," in line
        # One word with capitals may be a name. Among others it is rather the beginning of a sentence.
        unlikely = {Outcome.INVALID} if len(words) == 1 else {Outcome.INVALID, Outcome.CAPITALS}
        if plain and all(spot.image.outcome not in unlikely for spot in looked_up):
            yield from looked_up


def _options(line: str) -> Iterator[tuple[int, str]]:
    """List the names in a Dockerfile's ``COPY --from=`` and ``--mount=…,from=``, with their places in the line."""
    copy = _COPY.match(line)
    for match in _WORD.finditer(line, copy.end() if copy is not None else 0):
        option, _, value = match.group().partition("=")
        start = match.end() - len(value)
        if copy is not None and not option.startswith("--"):
            return
        if copy is not None and option.lower() == "--from" and value:
            yield start, value
        elif option.lower() == "--mount":
            for part in value.split(","):
                if part.lower().startswith("from=") and len(part) > 5:
                    yield start + 5, part[5:]
                start += len(part) + 1


def _in_flow(mapping: str, key: str) -> int | None:
    """Return where the value of a key begins in ``{name: value, …}``, None if there is no such key."""
    place = 1
    for part in mapping[1:].split(","):
        bare = part.lstrip()
        if bare.startswith(key):
            return place + len(part) - len(bare) + len(key)
        place += len(part) + 1
    return None


def _words(line: str) -> Iterator[tuple[int, str]]:
    """Split a line roughly as a shell does, into each word's place and the word without quotation marks around it.

    A quotation mark that is never closed reaches to the end of the line.
    """
    for match in re.finditer(r"\"[^\"]*+\"?+|'[^']*+'?+|[^\s\"']\S*+", line):
        word = match.group()
        if word[0] in "\"'" and word[-1] == word[0] and len(word) > 1:
            yield match.start() + 1, word[1:-1]
        else:
            yield match.start(), word


def _first_argument(words: list[tuple[int, str]]) -> tuple[int, str] | None:
    """Return the first word that is not an option, an option's value, or ``image(s)``, with its place."""
    skip = False
    for start, word in words:
        if skip:
            skip = False
        elif word.startswith("--") and len(word) > 2:
            skip = "=" not in word and word not in _FLAGS
        elif word.startswith("-") and len(word) > 1:
            skip = word[-1] in _VALUED_LETTERS
        elif word not in ("images", "image"):
            return start, word
    return None
