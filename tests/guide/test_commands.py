"""Every command of the guide's console blocks, typed by a reader to a real Docker engine.

What a block's lines mean: `tests.guide.console.Reader.steps`. A chapter is tried as a whole, from top to bottom, by
somebody who is not logged in, has built the guide's Dockerfile and stands in its folder.
"""

from __future__ import annotations

import os
import pty
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from app.web.pages.guide import chapters
from tests.images import single
from tests.parts.dockerd import Docker
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.web.scene import PASSWORD
from tests.webapi.client import Api

from .console import Reader, Step, blocks

TRIED = [name for name, text in chapters().items() if any(block.language == "console" for block in blocks(text))]
# What a reader types that needs a logged-in engine, in a chapter that does not log in itself.
LOGS_IN_FIRST = ("pushing",)


class Desk:
    """A terminal at which somebody sits: a folder, and a Docker engine with log-ins of its own."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self.folder = folder
        # The engine has no buildx; its own builder needs nothing of the network for what the guide builds.
        self._environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{docker.socket}",
            "DOCKER_CONFIG": str(folder / "client"),
            "DOCKER_BUILDKIT": "0",
        }

    def type(self, step: Step) -> None:
        """Type a command, answer what it asks, and hold what it printed against the guide."""
        code, printed = self._on_a_terminal(step) if step.typed else self._plainly(step.command)
        assert (code != 0) == step.fails, f"$ {step.command}\nended with {code}:\n{printed}"
        for fragment in step.said:
            assert fragment in printed, f"$ {step.command}\nprinted:\n{printed}"

    def _plainly(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=self.folder, env=self._environment, timeout=90,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def _on_a_terminal(self, step: Step) -> tuple[int, str]:
        """Run it with a terminal at its input: docker asks for a name and a password of nobody else."""
        ours, its = pty.openpty()
        try:
            os.write(ours, "".join(f"{line}\n" for line in step.typed).encode())
            done = subprocess.run(
                ["bash", "-c", step.command], cwd=self.folder, env=self._environment, timeout=90,
                stdin=its, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
        finally:
            os.close(its)
            os.close(ours)
        return done.returncode, done.stdout


@pytest.fixture
def desk(docker: Docker, service: Service, reader: Reader, tmp_path: Path) -> Desk:
    """The folder has the guide's Dockerfile, what it copies and the robot's secret; the image is built."""
    (dockerfile,) = (block for block in blocks(chapters()["cache"]) if block.file == "Dockerfile")
    (tmp_path / "Dockerfile").write_text(reader.own(dockerfile.text))
    (tmp_path / "hello.txt").write_text("hello\n")
    (tmp_path / "secret.txt").write_text(reader.secrets[f"robot-{reader.project}+ci"])
    desk = Desk(docker, tmp_path)
    desk.type(Step("docker build --tag hello .", (), fails=False, said=()))
    return desk


def test_the_guide_has_commands() -> None:
    assert set(TRIED) >= {"cache", "robots", "pushing"}


@pytest.mark.parametrize("chapter", TRIED)
def test_what_a_chapter_says_works(chapter: str, desk: Desk, reader: Reader) -> None:
    if chapter in LOGS_IN_FIRST:
        log_in = next(block for block in blocks(chapters()["robots"]) if "Username: robot" in block.text)
        for step in reader.steps(log_in.text):
            desk.type(step)
    for block in blocks(chapters()[chapter]):
        if block.language == "console":
            for step in reader.steps(block.text):
                desk.type(step)


def test_a_command_that_does_not_do_what_the_guide_says_is_found(desk: Desk) -> None:
    for command, fails, said in (("false", False, ()), ("true", True, ()), ("echo one", False, ("two",))):
        with pytest.raises(AssertionError):
            desk.type(Step(command, (), fails=fails, said=said))


def test_a_wrong_secret_does_not_log_in(desk: Desk, reader: Reader, service: Service) -> None:
    desk.type(Step(f"docker login {service.host}", (reader.user, "wrong"), fails=True, said=("unauthorized",)))


def test_what_is_cached_is_served_when_nothing_is_left(
    desk: Desk, docker: Docker, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The chapter on the cache, "How much is left"."""
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        for name in ("warm", "cold"):
            hub.add(single(f"budget {name}"), f"library/{name}", "latest")
        with Service(tmp_path / "service", upstream=hub.url) as service:
            desk.type(Step(f"docker pull {service.host}/mirror/library/warm", (), fails=False, said=()))
            docker.forget(f"{service.host}/mirror/library/warm")
            hub.leave(0)
            cold = Step(f"docker pull {service.host}/mirror/library/cold", (), fails=True, said=("toomanyrequests",))
            desk.type(cold)
            desk.type(Step(f"docker pull {service.host}/mirror/library/warm", (), fails=False, said=("Downloaded",)))


def test_the_messages_are_those_that_docker_prints(desk: Desk, reader: Reader, service: Service) -> None:
    """Provoke everything that the chapter on trouble lists, but `toomanyrequests`, which has a test of its own."""
    host = service.host
    mari = Api(host, reader.user, PASSWORD)
    assert mari.do("createProject", {"project_name": "tiny", "storage_limit": 1000}).status == 201
    provoked = ["toomanyrequests"]
    for name, password, said in (
        (f"robot-{reader.project}+ci", "wrong", "wrong user name or password"),
        (*_robot(mari, service, reader.project, "old", "expires_at = 1"), "has expired"),
        (*_robot(mari, service, reader.project, "off", "disabled = 1"), "is disabled"),
        (*_left_alone(mari, service, "tiny"), "has stopped, because nobody manages its project"),
        (*_of_somebody_absent(mari, service, reader.user), "access keys have stopped"),
    ):
        desk.type(Step(f"docker login {host}", (name, password), True, ("unauthorized", said)))
        provoked.append(said)
    _write(service, "UPDATE account SET seen_at = created_at WHERE username = ?", reader.user)
    desk.type(Step(f"docker login {host}", (reader.user, reader.secrets[reader.user]), False, ("Login Succeeded",)))
    for command, said in (
        (f"docker pull {host}/mirror/redis", "unauthorized: Docker Hub has no"),
        (f"docker pull {host}/nothing/hello", "pull access denied"),
        (f"docker pull {host}/mirror/library/nothing", "pull access denied"),
        (f"docker pull {host}/mirror/library/redis:nothing", "manifest unknown"),
        (f"docker pull {host}/{reader.project}/nothing", "name unknown"),
        (f"docker tag hello {host}/tiny/hello && docker push {host}/tiny/hello", "denied: quota of"),
        *(
            (
                f"docker tag hello {host}/{project}/hello && docker push {host}/{project}/hello",
                "denied: requested access to the resource is denied",
            )
            for project in ("mirror", "nothing")
        ),
    ):
        desk.type(Step(command, (), True, (said,)))
        provoked.append(said)
    listed = re.findall(r"^\| `([^`]+)` \|", chapters()["trouble"], re.MULTILINE)
    assert set(listed) == set(provoked)


def _robot(mari: Api, service: Service, project: str, name: str, becomes: str) -> tuple[str, str]:
    """Make a robot account and let something become of it; gives its name and secret."""
    pull = [{"namespace": project, "access": [{"resource": "repository", "action": "pull"}]}]
    made = mari.do("createRobot", {"name": name, "level": "project", "permissions": pull}).json()
    _write(service, f"UPDATE robot SET {becomes} WHERE id = ?", made["id"])
    return made["name"], made["secret"]


def _left_alone(mari: Api, service: Service, project: str) -> tuple[str, str]:
    """Make a robot account of a project that nobody has managed for long."""
    made = _robot(mari, service, project, "left", "disabled = 0")
    _write(service, "UPDATE project SET unattended_at = 1 WHERE name = ?", project)
    return made


def _of_somebody_absent(mari: Api, service: Service, name: str) -> tuple[str, str]:
    """Make an access key of somebody who has not logged in for long."""
    rights = [{"namespace": "*", "access": [{"resource": "repository", "action": "pull"}]}]
    made = mari.do("createAccessKey", {"name": "old laptop", "duration": 1, "permissions": rights}).json()
    _write(service, "UPDATE account SET seen_at = 1 WHERE username = ?", name)
    return name, made["secret"]


def _write(service: Service, statement: str, value: object) -> None:
    with closing(sqlite3.connect(service.folder / "data" / "registry.sqlite", timeout=30)) as database:
        database.execute(statement, (value,))
        database.commit()
