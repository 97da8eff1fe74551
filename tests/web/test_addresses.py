"""The address helper: every way people write an image's name, and what it must come to."""

from __future__ import annotations

import time

import pytest

from app.web.pages.addresses import LONGEST_TEXT, AddressBook, Image, Outcome, Reading

HOST = "registry.hpc.ut.ee"
M = f"{HOST}/mirror"
BOOK = AddressBook(HOST, {"docker.io": "mirror", "quay.io": "quay"})


def read(text: str) -> Reading:
    return BOOK.read(text)


def addresses(text: str) -> list[str | None]:
    return [image.address for image in read(text).images]


def outcomes(text: str) -> list[Outcome]:
    return [image.outcome for image in read(text).images]


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
    ("written", "outcome", "registry"),
    [
        ("ghcr.io/astral-sh/uv:0.9", Outcome.ELSEWHERE, "ghcr.io"),
        ("registry.k8s.io/pause:3.10", Outcome.ELSEWHERE, "registry.k8s.io"),
        ("gitlab.example:5050/group/app", Outcome.ELSEWHERE, "gitlab.example:5050"),
        (f"{M}/library/redis:7", Outcome.ALREADY, HOST),
        (f"{HOST}/lab/app", Outcome.ALREADY, HOST),
        ("localhost:5000/app", Outcome.LOCAL, "localhost:5000"),
        ("localhost/app", Outcome.LOCAL, "localhost"),
    ],
)
def test_what_is_left_as_it_is_says_why(written: str, outcome: Outcome, registry: str) -> None:
    assert read(written).images == (Image(written, outcome, None, registry),)
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
    assert {image.written: (image.outcome, image.address) for image in reading.images} == {
        "docker/dockerfile:1": (Outcome.MIRRORED, f"{M}/docker/dockerfile:1"),
        "debian:bookworm-slim": (Outcome.OFFICIAL, f"{M}/library/debian:bookworm-slim"),
        "golang:1.23": (Outcome.OFFICIAL, f"{M}/library/golang:1.23"),
        "busybox": (Outcome.OFFICIAL, f"{M}/library/busybox"),
        "build": (Outcome.STAGE, None),
        "0": (Outcome.STAGE, None),
        "nginx:1.27": (Outcome.OFFICIAL, f"{M}/library/nginx:1.27"),
        "python:${PYTHON}-slim": (Outcome.OFFICIAL, f"{M}/library/python:${{PYTHON}}-slim"),
        "ghcr.io/astral-sh/uv:0.9": (Outcome.ELSEWHERE, None),
        "$UNSET": (Outcome.UNSET, None),
        "scratch": (Outcome.SCRATCH, None),
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


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("COPY --chown=1 --FROM=nginx:1.27 /a /b", ["nginx:1.27"]),
        ("ADD /a --from=nginx /b", []),
        ("RUN --mount=target=/b,from=busybox:1,type=bind --mount=type=cache,from=alpine ls", ["busybox:1", "alpine"]),
        ("RUN --mount=type=cache,target=/from=x ls", []),
        ("FROM --platform=linux/arm64 nginx AS web # the front", ["nginx"]),
        ("  FROM nginx  ", ["nginx"]),
        ("ARG A='debian'", []),
        ("FROM ${A:-debian:12}", ["${A:-debian:12}"]),
    ],
)
def test_an_instruction(line: str, written: list[str]) -> None:
    text = f"FROM scratch\n{line}\n"
    reading = read(text)
    assert [image.written for image in reading.images if image.outcome is not Outcome.SCRATCH] == written
    for image in reading.images:
        if image.address is not None:
            assert image.address in (reading.rewritten or "")


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("image: {name: alpine, entrypoint: ['']}", ["alpine"]),
        ("image: {entrypoint: [''], name: 'alpine:3'}", ["alpine:3"]),
        ("image: {entrypoint: ['']}", []),
        ("web: {build: ., image: nginx, ports: [80]}", ["nginx"]),
        ("- web: {image: 'nginx:1'}", ["nginx:1"]),
        ("- - image:   nginx # the front", ["nginx"]),
    ],
)
def test_a_line_of_yaml(line: str, written: list[str]) -> None:
    assert [image.written for image in read(line).images] == written


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
    assert outcomes(COMPOSE) == [Outcome.OFFICIAL, Outcome.OFFICIAL, Outcome.ALREADY, Outcome.ELSEWHERE]
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


@pytest.mark.parametrize("written", ["FROM Redis!", "docker pull a//b", "docker pull ../x"])
def test_what_is_no_name_is_said_to_be_none(written: str) -> None:
    assert outcomes(written) == [Outcome.INVALID]


@pytest.mark.parametrize(
    ("text", "written", "address"),
    [
        ("Redis", "Redis", f"{M}/library/redis"),
        ("docker pull Redis:7-Alpine", "Redis:7-Alpine", f"{M}/library/redis:7-Alpine"),
        ("FROM Grafana/grafana", "Grafana/grafana", f"{M}/grafana/grafana"),
        ("ghcr.io/Astral-sh/uv:0.9", "ghcr.io/Astral-sh/uv:0.9", "ghcr.io/astral-sh/uv:0.9"),
        ("QUAY.io/Podman/stable", "QUAY.io/Podman/stable", f"{HOST}/quay/podman/stable"),
    ],
)
def test_a_name_with_capitals_is_told_to_be_in_lower_case(text: str, written: str, address: str) -> None:
    assert read(text).images[0].written == written
    assert (outcomes(text), addresses(text)) == ([Outcome.CAPITALS], [address])


DEFINITION = """\
Bootstrap: docker
From: python:3.12
Stage: build

%post
    pip install numpy

BootStrap: docker
from: debian:bookworm-slim
%files from build
    /opt /opt
"""


def test_an_apptainer_definition() -> None:
    assert addresses(DEFINITION) == [f"{M}/library/python:3.12", f"{M}/library/debian:bookworm-slim"]
    expected = DEFINITION.replace(" python:", f" {M}/library/python:").replace(" debian:", f" {M}/library/debian:")
    assert read(expected).rewritten is None
    assert read(DEFINITION).rewritten == expected
    assert read("Bootstrap: library\nFrom: debian:12\n").images == ()
    assert read("Bootstrap: localimage\nFrom: base.sif\n").images == ()


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("srun apptainer exec docker://python:3.12 python x.py", f"{M}/library/python:3.12"),
        ("srun -n 4 --gres=gpu:1 singularity run --nv docker://pytorch/pytorch x", f"{M}/pytorch/pytorch"),
        ("mpirun -np 8 apptainer exec docker://ubuntu:24.04 ./a.out", f"{M}/library/ubuntu:24.04"),
        ('    container: "docker://biocontainers/bwa:1"', f"{M}/biocontainers/bwa:1"),
        ("    singularity: 'docker://continuumio/miniconda3'", f"{M}/continuumio/miniconda3"),
        ("containerized: 'docker://continuumio/miniconda3'", f"{M}/continuumio/miniconda3"),
        ("    container 'nextflow/rnaseq-nf'", f"{M}/nextflow/rnaseq-nf"),
        ('process.container = "ubuntu:24.04"', f"{M}/library/ubuntu:24.04"),
        ("  withName: ALIGN { container = 'docker://biocontainers/bwa:1' }", f"{M}/biocontainers/bwa:1"),
        ('  "image": "mcr.microsoft.com/devcontainers/python:3",', None),
        ('{"name": "lab", "image": "python:3.12"}', f"{M}/library/python:3.12"),
    ],
)
def test_a_line_of_a_workflow_or_a_job(line: str, address: str | None) -> None:
    assert addresses(line) == [address]
    rewritten = read(line).rewritten
    assert rewritten is None if address is None else address in (rewritten or "")


@pytest.mark.parametrize("line", ["    container_name: redis", "// container 'redis'", "container '$params.image'"])
def test_what_is_no_line_of_a_workflow(line: str) -> None:
    assert addresses(line) == []


HEADS = ("", "FROM a\n", "services:\n", "nginx:")
PIECES = (
    "[", "{", "- ", "a: &a [*a]\n", "image: {", "FROM ", "FROM a AS b\n", "$", "${", "a-", "\\\n", "docker run -p ",
    "--mount=", " --mount=x", "a:b ", "a,b ", "' ", "COPY --x ", "docker://a ", "a: {,", "\n", "$aaaa", "${a-", '"',
    ",  ", "a:", "a/", "container ", "container= ", "docker://", '"image": ', "From: ", "Bootstrap: docker ",
    "a__", "x=y,", " --mount=,,from=", "ARG a=b\n", "name: ", "x\u2028", "\\\\\n",
)  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("head", "piece"),
    # In the short form, each piece comes after two of the heads.
    [
        pytest.param(head, piece, marks=[pytest.mark.long] * ((place + number) % 2))
        for place, head in enumerate(HEADS)
        for number, piece in enumerate(PIECES)
    ],
)
def test_the_work_grows_with_the_length_of_a_text_only(head: str, piece: str) -> None:
    """Some of these took minutes, others four times as long for a text of twice the length."""

    def seconds(size: int) -> float:
        text = (head + piece * size)[: size - 1] + "!"
        # Longer lines are not looked at.
        lines = [(head + piece * 4000)[:3999] + "!"] * (size // 4000)
        began = time.process_time()
        for long in (text, text.replace(" ", "\n"), "\n".join(lines)):
            read(long)
        return time.process_time() - began

    whole = seconds(LONGEST_TEXT)
    # Below a second, other work on the machine decides. Otherwise, a quarter of the length says what a character takes.
    assert whole < 1.0 or whole < 8 * seconds(LONGEST_TEXT // 4)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["nginx:" + "$aaaa" * 800 + "!", "\n" * LONGEST_TEXT, "a:" * 2000, "${a-" * 1000])
def test_what_took_minutes(text: str) -> None:
    began = time.process_time()
    read(text)
    assert time.process_time() - began < 1
