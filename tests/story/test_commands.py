"""The other commands that pages give to copy are run as they are, by podman and ORAS; Docker's are in test_guide.

Only what this place needs is added to a line: credentials, and that there is no TLS.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.api.client import Registry
from tests.clients import gotools
from tests.conftest import require
from tests.images import single
from tests.parts import podman as podman_part
from tests.parts.process import run
from tests.parts.service import Service

from .person import Person
from .work import delete_project, make_project

FILE = "weights of a model\n"


@pytest.fixture(scope="module")
def robot(mari: Person, lab: str) -> tuple[str, str]:
    """A robot account of a new project, by its name and secret."""
    make_project(mari, lab)
    mari.go(f"/projects/{lab}/robots/new").fill("Name", "ci").click("Create robot account")
    username, secret = (mari.page.locator(f"#secret-{what}").inner_text() for what in ("name", "text"))
    return username, secret


def push_command(person: Person, lab: str, line: str) -> list[str]:
    """Copy a line of PUSH COMMAND; gives its words."""
    person.go(f"/projects/{lab}/repositories").open("PUSH COMMAND")
    return shlex.split(person.copy(line))


@pytest.mark.long
def test_podman_pulls_and_pushes_what_it_was_given_to_type(
    mari: Person, lab: str, robot: tuple[str, str], campus: Service, tmp_path_factory: pytest.TempPathFactory
) -> None:
    require(podman_part)
    podman = podman_part.Podman(tmp_path_factory.mktemp("p"))
    Registry(campus.host, *robot).push_image(f"{lab}/app", "1", single("podman", sizes=(2_000,)))

    program, verb, host = push_command(mari, lab, "podman login")
    assert (program, verb, host) == ("podman", "login", campus.host)
    username, secret = robot
    podman.run(verb, "--tls-verify=false", f"--username={username}", f"--password={secret}", host)

    mari.go(f"/projects/{lab}/repositories/app:1")
    program, verb, address = shlex.split(mari.copy("podman pull"))
    assert (program, verb) == ("podman", "pull")
    image = podman.run(verb, "--quiet", "--tls-verify=false", address).strip()

    program, verb, source, target = push_command(mari, lab, "podman push")
    assert (program, verb, source) == ("podman", "push", "IMAGE_ID")
    podman.run(verb, "--tls-verify=false", image, target.replace("REPOSITORY:TAG", "theirs:2"))
    mari.go(f"/projects/{lab}/repositories").click("theirs", role="link")
    expect(mari.row("2")).to_be_visible()


@pytest.mark.long
def test_oras_pushes_and_pulls_what_it_was_given_to_type(
    mari: Person, lab: str, robot: tuple[str, str], campus: Service, tmp_path: Path
) -> None:
    oras, reason = gotools.install("oras")
    if reason is not None:
        pytest.skip(reason)
    environment = {"DOCKER_CONFIG": str(tmp_path)}

    program, verb, host = push_command(mari, lab, "oras login")
    assert (program, verb) == ("oras", "login")
    username, secret = robot
    run([str(oras), verb, "--plain-http", f"--username={username}", f"--password={secret}", host],
        environment=environment)  # fmt: skip

    program, verb, target, file = push_command(mari, lab, "oras push")
    assert (program, verb, file) == ("oras", "push", "FILE:text/plain")
    (tmp_path / "FILE").write_text(FILE)
    address = target.replace("REPOSITORY:TAG", "weights:1")
    line = shlex.join([str(oras), verb, "--plain-http", address, file])
    run(["sh", "-c", f"cd {shlex.quote(str(tmp_path))} && {line}"], environment=environment)

    mari.go(f"/projects/{lab}/repositories/weights:1").screen("oras-artifact")
    program, verb, source = shlex.split(mari.copy("oras pull"))
    assert (program, verb, source) == ("oras", "pull", address)
    back = tmp_path / "back"
    run([str(oras), verb, "--plain-http", f"--output={back}", source], environment=environment)
    assert (back / "FILE").read_text() == FILE
    delete_project(mari, lab)
