"""What people paste into the address helper: names, commands, Dockerfiles, compose files, manifests."""

from __future__ import annotations

from random import Random

from app.web.pages.addresses import LONGEST_TEXT, AddressBook, Outcome

from .inputs import edited, example, fuzz

BOOK = AddressBook("registry.example.org", {"docker.io": "mirror", "quay.io": "quay"})
_IMAGES = (
    "redis", "library/redis:7", "quay.io/a/b@sha256:" + "0" * 64, "registry.example.org/mirror/redis", "scratch",
    "https://hub.docker.com/_/redis", "hub.docker.com/r/a/b/tags", "docker://a/b", "${BASE:-a/b}:$TAG", "localhost/x",
    "'a'", '"b"', "a" * 300, "a/" * 200,
)  # fmt: skip
_LINES = (
    "docker pull {}", "FROM --platform=x {} AS build", "ARG BASE={}", "COPY --from={} /a /b", "  image: {}", "- {}",
    "services:", "image: {name: {}}", "RUN --mount=type=cache,from={},x", "# syntax={}", "{}, {}", "FROM {} \\",
    "$ sudo docker run -it --rm -v a:b {} sh", "kubectl run x --image={}", "skopeo copy docker://{} docker://{}",
    "image:", "  name: {}",
)  # fmt: skip
_PIECES = ("\\\n", "\n", "\r\n", '"', "'", "{", "}", "$", "${", "#", " ", "\t", ":", "@", "/", "\x85", "\u2028")


def _text(chance: Random) -> str:
    lines = chance.choices(_LINES, k=chance.randrange(6))
    return "\n".join(line.replace("{}", chance.choice(_IMAGES)) for line in lines)


@fuzz(edited(_text, *_PIECES), costs=2)
@example("- hub.docker.com/r/aP\n")
def test_pasted_texts(text: str) -> None:
    reading = BOOK.read(text)
    for image in reading.images:
        assert image.outcome in Outcome
        if image.address is not None and not image.address.startswith("registry.example.org/"):
            # Of another registry, whose names are in lower case as well.
            assert (image.outcome, BOOK.look_up(image.address).address) == (Outcome.CAPITALS, None)
    assert (reading.rewritten is None) or any(image.address for image in reading.images)
    assert len(text) < LONGEST_TEXT
