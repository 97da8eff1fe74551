"""schemathesis makes up requests from the document: whatever is sent, the service answers as the document says.

Names and numbers that are made up lead nowhere. So good requests are sent to what is there.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app.web.api.document import document
from tests.api.client import Registry
from tests.images import single
from tests.webapi.client import Api
from tests.webapi.house import ADMIN, PASSWORD, House

# Loaded here and not by every run of pytest (pyproject.toml).
pytest_plugins = ["schemathesis.pytest.plugin"]
schema = schemathesis.openapi.from_dict(document().content)
_BASIC = "Basic " + b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()


@pytest.fixture(scope="module")
def person(house: House) -> int:
    return house.add_person("fuzzed")


@pytest.fixture
def there(house: House, admin: Api, person: int) -> Mapping[str, object]:
    """What is there, by the names that the document has for it; made again where it was deleted."""
    admin.do("createProject", {"project_name": "fuzzed"})
    admin.do("updateProject", {"storage_limit": -1}, project_name_or_id="fuzzed")
    Registry(house.host, ADMIN, PASSWORD).push_image("fuzzed/app", "v1", single("fuzzed", sizes=(500,)))
    number = admin.do("getProject", project_name_or_id="fuzzed").json()["project_id"]
    admin.do("createLabel", {"name": "fuzzed", "scope": "p", "project_id": number})
    label = admin.do("listLabels", query={"scope": "p", "project_id": number}).json()[0]["id"]
    access = [{"resource": "repository", "action": "pull"}]
    permissions = [{"namespace": "fuzzed", "access": access}]
    admin.do("createRobot", {"name": "fuzzed", "level": "project", "permissions": permissions})
    robot = admin.do("listRobots", query={"q": f"ProjectID={number}"}).json()[0]["id"]
    member = admin.do("listMembers", project_name_or_id="fuzzed").json()[0]["id"]
    names = {"project_name": "fuzzed", "project_name_or_id": "fuzzed", "repository_name": "app", "reference": "v1"}
    return {**names, "label_id": label, "robot_id": robot, "mid": member, "user_id": person}


@schema.parametrize()
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_answers_are_as_the_document_says(case: schemathesis.Case, house: House, there: Mapping[str, object]) -> None:
    if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
        case.path_parameters = {name: there.get(name, made_up) for name, made_up in case.path_parameters.items()}
    case.call_and_validate(
        base_url=house.url,
        headers={"Authorization": _BASIC},
        # That a request fits its schemas does not make it a good one: q has a grammar, names have to be there.
        excluded_checks=[positive_data_acceptance],
    )
