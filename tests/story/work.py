"""What people do in more than one part of the story."""

from __future__ import annotations

import random
from pathlib import Path

from .person import Person
from .terminal import Terminal


def make_project(person: Person, name: str, *, size: str = "2", unit: str = "GiB") -> None:
    """Make a private project by + NEW PROJECT."""
    person.go("/projects").click("NEW PROJECT", role="link")
    person.fill("Project name", name).fill("Storage quota", size)
    person.page.get_by_label("Unit").first.select_option(unit)
    person.page.get_by_label("Private").check()
    person.click("Create project")
    assert f"The project {name} is created." in person.told()


def make_robot(person: Person, project: str, name: str) -> tuple[str, str]:
    """Make a robot account that pushes and pulls; gives its user name and a line that logs in, see `log_in_line`."""
    person.go(f"/projects/{project}/robots").click("NEW ROBOT ACCOUNT", role="link")
    for right in ("Pull images", "Push images"):
        person.page.get_by_label(right).check()
    person.fill("Name", name).click("Create robot account")
    return person.page.locator("#secret-name").inner_text(), log_in_line(person)


def make_key(person: Person, name: str) -> str:
    """Make an access key under Mine → Access keys; gives a line that logs in, see `log_in_line`."""
    person.go("/mine").click("Access keys", role="link")
    person.fill("Name", name).click("Create access key")
    return log_in_line(person)


def log_in_line(person: Person) -> str:
    """Copy the line for scripts from the secret's page; the secret's file is written into it."""
    secret = person.page.locator("#secret-text").inner_text()
    line = person.copy("--password-stdin")
    assert secret not in line
    return with_secret(line, secret)


def with_secret(line: str, secret: str) -> str:
    """Give a line that reads a secret's file that secret."""
    assert line.endswith("< secret.txt")
    return line.replace("< secret.txt", f"<< END\n{secret}\nEND")


def build(shell: Terminal, folder: Path, address: str, *, size: int = 50_000, base: str = "scratch") -> None:
    """Build an image of two layers of our own on ``base``; they are about ``size`` bytes together."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(address)
    for name in ("model.bin", "notes.bin"):
        (folder / name).write_bytes(chance.randbytes(size // 2))
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY model.bin /srv/\nCOPY notes.bin /srv/\n")
    shell.type(f"docker build --quiet --network=none --tag {address} {folder}")


def delete_project(person: Person, name: str) -> None:
    """Delete a project by typing its name."""
    person.go(f"/projects/{name}/configuration").fill("Type the project's name to delete it", name)
    person.click("Delete project")
    assert f"The project {name} is deleted." in person.told()
