"""The address helper: every way people write an image's name, and what it must come to."""

from __future__ import annotations

import pytest

from app.web.pages.addresses import LONGEST_TEXT, AddressBook, Image, Kind, Reading

HOST = "registry.hpc.ut.ee"
M = f"{HOST}/mirror"
BOOK = AddressBook(HOST, {"docker.io": "mirror", "quay.io": "quay"})


def read(text: str) -> Reading:
    return BOOK.read(text)


def addresses(text: str) -> list[str | None]:
    return [image.address for image in read(text).images]


def kinds(text: str) -> list[Kind]:
    return [image.kind for image in read(text).images]


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("redis", f"{M}/library/redis"),
        ("redis:7", f"{M}/library/redis:7"),
        ("library/redis", f"{M}/library/redis"),
        ("tiangolo/uwsgi-nginx-flask", f"{M}/tiangolo/uwsgi-nginx-flask"),
        ("bitnami/kubectl:1.31.1-debian-12", f"{M}/bitnami/kubectl:1.31.1-debian-12"),
        ("docker.io/redis", f"{M}/library/redis"),
        ("docker.io/library/redis:7", f"{M}/library/redis:7"),
        ("index.docker.io/library/redis", f"{M}/library/redis"),
        ("registry-1.docker.io/grafana/grafana", f"{M}/grafana/grafana"),
        ("docker://python:3.12", f"{M}/library/python:3.12"),
        ("https://hub.docker.com/_/redis", f"{M}/library/redis"),
        ("hub.docker.com/r/grafana/grafana/tags", f"{M}/grafana/grafana"),
        ("quay.io/podman/stable", f"{HOST}/quay/podman/stable"),
        (f"redis@sha256:{'ab' * 32}", f"{M}/library/redis@sha256:{'ab' * 32}"),
        (f"redis:7@sha256:{'ab' * 32}", f"{M}/library/redis:7@sha256:{'ab' * 32}"),
        (f"{M}/redis:7", f"{M}/library/redis:7"),
    ],
)
def test_a_name_gets_its_address(written: str, address: str) -> None:
    assert addresses(written) == [address]


@pytest.mark.parametrize(
    ("written", "kind", "registry"),
    [
        ("ghcr.io/astral-sh/uv:0.9", Kind.ELSEWHERE, "ghcr.io"),
        ("registry.k8s.io/pause:3.10", Kind.ELSEWHERE, "registry.k8s.io"),
        ("gitlab.example:5050/group/app", Kind.ELSEWHERE, "gitlab.example:5050"),
        (f"{M}/library/redis:7", Kind.ALREADY, HOST),
        (f"{HOST}/lab/app", Kind.ALREADY, HOST),
        ("localhost:5000/app", Kind.LOCAL, "localhost:5000"),
        ("localhost/app", Kind.LOCAL, "localhost"),
    ],
)
def test_what_is_left_as_it_is_says_why(written: str, kind: Kind, registry: str) -> None:
    assert read(written).images == (Image(written, kind, None, registry),)
    assert read(written).rewritten is None


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("docker pull redis", f"{M}/library/redis"),
        ("$ docker pull redis:7", f"{M}/library/redis:7"),
        ("sudo docker pull --platform linux/arm64 redis:7", f"{M}/library/redis:7"),
        ("docker pull -q nginx", f"{M}/library/nginx"),
        ("docker image pull nginx", f"{M}/library/nginx"),
        ("docker run -d --name web -p 8080:80 -v $PWD:/srv:ro nginx:1.27 nginx-debug", f"{M}/library/nginx:1.27"),
        ("docker run --rm -it -e A=b alpine sh -c 'echo redis'", f"{M}/library/alpine"),
        ("docker run --memory=2g --rm ubuntu:24.04", f"{M}/library/ubuntu:24.04"),
        ("podman run --rm docker.io/library/alpine:3.20 id", f"{M}/library/alpine:3.20"),
        ("crictl pull nginx", f"{M}/library/nginx"),
        ("ctr images pull docker.io/library/redis:7", f"{M}/library/redis:7"),
        ("sudo k3s ctr images pull docker.io/library/redis:7", f"{M}/library/redis:7"),
        ("buildah from alpine", f"{M}/library/alpine"),
        ("apptainer pull docker://python:3.12", f"{M}/library/python:3.12"),
        ("apptainer exec --nv docker://pytorch/pytorch:2.4.1 python train.py", f"{M}/pytorch/pytorch:2.4.1"),
        ("kubectl create deployment web --image=nginx:1.27", f"{M}/library/nginx:1.27"),
        ("DOCKER_BUILDKIT=1 docker pull redis", f"{M}/library/redis"),
    ],
)
def test_a_command_line(line: str, address: str) -> None:
    assert addresses(line) == [address]


def test_a_command_over_several_lines() -> None:
    reading = read("docker run -d \\\n  --name db \\\n  postgres:16\n")
    assert [image.address for image in reading.images] == [f"{M}/library/postgres:16"]
    assert reading.rewritten == f"docker run -d \\\n  --name db \\\n  {M}/library/postgres:16\n"


def test_skopeo_copies_the_first_into_the_second() -> None:
    assert addresses(f"skopeo copy docker://redis:7 docker://{HOST}/lab/redis:7") == [f"{M}/library/redis:7", None]


def test_a_scheme_is_kept_out_of_the_address_and_goes_into_the_text() -> None:
    assert read("apptainer pull docker://python:3.12").rewritten == f"apptainer pull docker://{M}/library/python:3.12"


DOCKERFILE = """\
# syntax=docker/dockerfile:1
ARG PYTHON=3.12
ARG BASE=debian:bookworm-slim
FROM --platform=$BUILDPLATFORM golang:1.23 AS build
RUN --mount=type=bind,from=busybox,target=/b \\
    go build
FROM build AS test
COPY --from=nginx:1.27 --chown=1 /etc/nginx /etc/nginx
COPY --from=0 /a /a
from python:${PYTHON}-slim as final
COPY --from=build /app /app
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /bin/
FROM ${BASE}
FROM $UNSET
FROM scratch
# FROM redis
"""


def test_a_dockerfile() -> None:
    reading = read(DOCKERFILE)
    assert {image.written: (image.kind, image.address) for image in reading.images} == {
        "docker/dockerfile:1": (Kind.MIRRORED, f"{M}/docker/dockerfile:1"),
        "debian:bookworm-slim": (Kind.OFFICIAL, f"{M}/library/debian:bookworm-slim"),
        "golang:1.23": (Kind.OFFICIAL, f"{M}/library/golang:1.23"),
        "busybox": (Kind.OFFICIAL, f"{M}/library/busybox"),
        "build": (Kind.STAGE, None),
        "0": (Kind.STAGE, None),
        "nginx:1.27": (Kind.OFFICIAL, f"{M}/library/nginx:1.27"),
        "python:${PYTHON}-slim": (Kind.OFFICIAL, f"{M}/library/python:${{PYTHON}}-slim"),
        "ghcr.io/astral-sh/uv:0.9": (Kind.ELSEWHERE, None),
        "$UNSET": (Kind.UNSET, None),
        "scratch": (Kind.SCRATCH, None),
    }


def test_a_dockerfile_rewritten_differs_in_its_images_only() -> None:
    expected = (
        DOCKERFILE.replace("=docker/dockerfile:1", f"={M}/docker/dockerfile:1")
        .replace("=debian:", f"={M}/library/debian:")
        .replace(" golang:", f" {M}/library/golang:")
        .replace("from=busybox", f"from={M}/library/busybox")
        .replace("=nginx:", f"={M}/library/nginx:")
        .replace(" python:$", f" {M}/library/python:$")
    )
    assert read(DOCKERFILE).rewritten == expected
    assert read(expected).rewritten is None, "once is enough"


COMPOSE = """\
services:
  web:
    image: nginx:1.27   # the front
    ports: ["8080:80"]
  db:
    image: "postgres:${PG:-16}"
    environment:
      POSTGRES_DB: redis
  own:
    build: .
    image: 'registry.hpc.ut.ee/lab/own:1'
  far: {image: ghcr.io/a/b}
networks:
  name: redis
"""


def test_a_compose_file() -> None:
    assert addresses(COMPOSE)[:2] == [f"{M}/library/nginx:1.27", f"{M}/library/postgres:${{PG:-16}}"]
    assert kinds(COMPOSE) == [Kind.OFFICIAL, Kind.OFFICIAL, Kind.ALREADY, Kind.ELSEWHERE]
    rewritten = read(COMPOSE).rewritten
    assert rewritten is not None
    assert f'image: "{M}/library/postgres:${{PG:-16}}"' in rewritten
    assert f"image: {M}/library/nginx:1.27   # the front" in rewritten


PIPELINE = """\
default:
  image:
    name: python:3.12
    entrypoint: [""]
test:
  services:
    - postgres:16
    - name: redis:7
      alias: cache
    - mysql
  script:
    - pytest
build:
  image: {name: docker:27, entrypoint: [""]}
  stage: build
"""


def test_a_pipeline() -> None:
    assert addresses(PIPELINE) == [
        f"{M}/library/{name}" for name in ("python:3.12", "postgres:16", "redis:7", "mysql", "docker:27")
    ]


def test_a_pod() -> None:
    text = "spec:\n  containers:\n    - image: nginx:1.27\n      name: web\n    - name: db\n      image: redis\n"
    assert addresses(text) == [f"{M}/library/nginx:1.27", f"{M}/library/redis"]


def test_names_one_a_line_or_with_commas() -> None:
    assert addresses("redis\nnginx:1.27\n") == addresses("redis, nginx:1.27") == [
        f"{M}/library/redis", f"{M}/library/nginx:1.27"
    ]  # fmt: skip


def test_an_image_named_twice_is_answered_once_and_rewritten_twice() -> None:
    reading = read("FROM alpine AS a\nFROM alpine\n")
    assert len(reading.images) == 1
    assert reading.rewritten == f"FROM {M}/library/alpine AS a\nFROM {M}/library/alpine\n"


@pytest.mark.parametrize(
    "text", ["", "   \n", "Hello, this is prose about images.", "<script>alert(1)</script>", "\0\0"]
)
def test_what_names_no_image_gives_none(text: str) -> None:
    assert read(text) == Reading((), None)


@pytest.mark.parametrize("written", ["FROM Redis!", "docker pull UPPER", "docker pull a//b", "docker pull ../x"])
def test_what_is_no_name_is_said_to_be_none(written: str) -> None:
    assert kinds(written) == [Kind.INVALID]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("head", ["", "FROM a\n", "services:\n"])
@pytest.mark.parametrize(
    "piece",
    ["[", "{", "- ", "a: &a [*a]\n", "image: {", "FROM ", "FROM a AS b\n", "$", "${", "a-", "\\\n", "docker run -p ",
     "--mount=", " --mount=x", "a:b ", "a,b ", "' ", "COPY --x ", "docker://a ", "a: {,"],
)  # fmt: skip
def test_no_long_text_keeps_the_worker(head: str, piece: str) -> None:
    """A pattern that goes back and forth over all of it would take minutes; this takes no second."""
    long = (head + piece * LONGEST_TEXT)[:LONGEST_TEXT]
    assert len(read(long).images) <= LONGEST_TEXT
    assert read(long.replace(" ", "\n")) is not None
