"""A project with more of everything than one page of a list shows, and as much beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.api.client import Registry
from tests.images import multi, single
from tests.parts.service import Service
from tests.web.http import Person
from tests.web.scene import PASSWORD, add_person

MANY = 27  # a page has 25


@dataclass(frozen=True)
class Plenty:
    """Names of what there is: ``project`` is mari.tamm's, the others are numbered from 00."""

    project: str
    empty: str
    # Numbers of the fifth robot accounts, of the project and of the system.
    bot: int
    system_bot: int

    def numbered(self, what: str) -> list[str]:
        return [f"{what}-{number:02}" for number in range(MANY)]


def make_plenty(stage: Service, mark: str) -> Plenty:
    """Fill a project by forms and pushes; ``mark`` goes into every name that others could have as well."""
    project, empty = f"plenty-{mark}", f"empty-{mark}"
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    admin = Person(stage.host).log_in(stage.username, stage.password)
    for name in (project, empty):
        assert mari.post("/new-project", {"name": name, "quota": "1", "unit": "GiB"}).status == 303
    base = f"/projects/{project}"
    for number in range(MANY):
        for person, form, fields, status in (
            (mari, f"{base}/members/add", {"name": f"group-{number:02}", "kind": "group", "role": "guest"}, 303),
            (mari, f"{base}/labels", {"name": f"label-{number:02}", "description": f"the {number}th"}, 303),
            (mari, f"{base}/robots/new", {"name": f"bot-{number:02}", "days": "9", "right": "repository:pull"}, 303),
            (
                admin,
                "/administration/robots/new",
                {"name": f"{mark}-{number:02}", "days": "9", "right": "tag:list"},
                303,
            ),
            (admin, "/new-project", {"name": f"{mark}-{number:02}", "quota": "1", "unit": "GiB"}, 303),
        ):
            assert person.post(form, fields).status == status, (form, fields)
    add_person(stage.folder, *(f"{mark}-{number:02}" for number in range(MANY)))
    _push(Registry(stage.host, stage.username, stage.password), project)
    bot = _number(mari, f"{base}/robots", "bot-05")
    return Plenty(project, empty, bot, _number(admin, "/administration/robots", f"{mark}-05"))


def _number(person: Person, robots: str, name: str) -> int:
    found = re.search(rf'href="{robots}/([0-9]+)"', person.get(f"{robots}?q={name}").text)
    assert found
    return int(found[1])


def _push(registry: Registry, project: str) -> None:
    """Push many repositories, one of them with many artifacts, one with an artifact of many tags."""
    small = single("plenty", sizes=(300,))
    for number in range(2, MANY):
        registry.push_image(f"{project}/part-{number:02}", "1", small)
    for number in range(MANY):
        registry.push_image(f"{project}/part-00", f"v{number:02}", single(f"plenty {number}", sizes=(300,)))
    index = multi("plenty", sizes=(300, 400))
    registry.push_image(f"{project}/part-01", "1", index)
    for number in range(MANY):
        registry.put_manifest(f"{project}/part-01", f"t{number:02}", index.payload, index.media_type)
