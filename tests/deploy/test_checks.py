"""What can be known to be wrong before any host is met: style, variables, alerts, the Vagrantfile."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.database import engine
from tests.parts.process import ROOT

from . import playbook

ANSIBLE = ROOT / "ansible"
ROLES = sorted(path.name for path in (ANSIBLE / "roles").iterdir())
RULES = ANSIBLE / "roles/monitoring/files/etc/prometheus/registry.rules.yml"
ALERTS = Path(__file__).with_name("alerts") / "registry.test.yml"
# Commands that may say of themselves that they never change a host.
_READS = re.compile(
    r"(df|journalctl|openssl x509 -noout|openssl pkey -pubout|python3 -c \"import ipaddress|systemd-analyze calendar)\b"
    r"|tar --list\b"
    r"|findmnt\b"
    # What it writes to see whether it can, it removes.
    r"|/usr/local/sbin/registry-backup check$"
    r"|psql (?=[^\"]*\"SELECT )(?!.*;)"
)

pytestmark = pytest.mark.timeout(300)


@pytest.mark.long
def test_ansible_lint(tmp_path: Path) -> None:
    _ansible()
    _run(
        ["ansible-lint", "--offline", "--profile=production", "--strict", "--nocolor", "-c", ".ansible-lint"], tmp_path
    )


def test_yamllint(tmp_path: Path) -> None:
    _ansible()
    _run(["yamllint", "--strict", "-c", ".yamllint", ".", str(ALERTS.parent)], tmp_path)


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_agree_with_defaults(role: str) -> None:
    options = _specs(role)["main"]["options"]
    defaults = _yaml(ANSIBLE / "roles" / role / "defaults/main.yml") or {}
    described = {name: option["default"] for name, option in options.items() if "default" in option}
    assert described == defaults
    assert {name for name in options if name not in defaults} == {
        name for name, option in options.items() if option.get("required")
    }
    for name, option in options.items():
        assert name.startswith(f"{role}_"), name
        assert option["description"].endswith("."), name


@pytest.mark.parametrize("inventory", sorted(path.name for path in (ANSIBLE / "inventory").iterdir()))
def test_inventories_set_what_roles_take(inventory: str) -> None:
    taken = {name for role in ROLES for name in _specs(role)["main"]["options"]}
    for file in sorted((ANSIBLE / "inventory" / inventory).glob("*_vars/**/*.yml")):
        if "$ANSIBLE_VAULT" not in file.read_text():
            named = {name for name in _yaml(file) if name.startswith(tuple(f"{role}_" for role in ROLES))}
            assert named <= taken, file


# Two that other roles include.
@pytest.mark.parametrize("role", sorted({*ROLES} - {"preflight", "unit"}))
def test_roles_have_the_same_four_steps(role: str) -> None:
    tasks = _yaml(ANSIBLE / "roles" / role / "tasks/main.yml")
    kinds = ("ansible.builtin.import_tasks", "ansible.builtin.include_tasks")
    steps = [task[kind] for task in tasks for kind in kinds if kind in task]
    assert steps == ["preflight.yml", "install.yml", "configure.yml", "run.yml"]
    assert _specs(role)["preflight"]["options"] == _specs(role)["main"]["options"]


@pytest.mark.parametrize(
    "file", sorted(ANSIBLE.glob("roles/*/tasks/*.yml")), ids=lambda file: str(file.relative_to(ANSIBLE))
)
def test_what_writes_a_file_checks_it_or_cannot(file: Path) -> None:
    # Nothing that can be checked reads these formats, or only the program that is started with them.
    unchecked = {"etc/redis/redis.conf.j2", "etc/postgresql/conf.d/registry.conf.j2", "etc/postgresql/pg_hba.conf.j2"}
    unchecked |= {"etc/default/prometheus.j2", "etc/default/prometheus-node-exporter.j2"}
    unchecked |= {"etc/systemd/system/{{ item }}.j2"}
    for task in _tasks(_yaml(file)):
        template = task.get("ansible.builtin.template")
        if template is not None and "validate" not in template:
            assert template["src"] in unchecked, f"{file}: {task['name']}"


@pytest.mark.parametrize("file", sorted(ANSIBLE.glob("**/*.yml")), ids=lambda file: str(file.relative_to(ANSIBLE)))
def test_what_claims_to_change_nothing_only_reads(file: Path) -> None:
    document = _yaml(file) if "inventory" not in file.parts else None
    plays = document if isinstance(document, list) else []
    tasks = [task for play in plays for part in ("tasks", "handlers") for task in play.get(part, [])]
    for task in _tasks(tasks + plays):
        # apt's package lists are no part of what a host is asked to be.
        if task.get("changed_when") is False and "ansible.builtin.apt" not in task:
            given = task["ansible.builtin.command"]
            command = given["cmd"] if "cmd" in given else shlex.join(given["argv"])
            assert _READS.match(command), f"{task['name']}: {command}"


@pytest.mark.parametrize("file", sorted(ANSIBLE.glob("*.yml")), ids=lambda file: file.name)
def test_an_inventory_wins_over_a_playbook(file: Path) -> None:
    """Variables of a play win over the inventory's without a word, so a play has only names of its own."""
    plays = _yaml(file)
    taken = {name for play in plays for name in play.get("vars", {})} if isinstance(plays, list) else set()
    # Upgrades and rollbacks are what an inventory never asks for.
    assert {name for name in taken if not name.startswith("__")} <= {"registry_change_release"}


def test_one_number_of_workers_has_one_default() -> None:
    texts = {file: file.read_text() for file in ANSIBLE.glob("**/*.yml")}
    found = {
        default
        for text in texts.values()
        for pattern in (r"registry_workers \| default\((\d+)", r"attribute='registry_workers', default=(\d+)")
        for default in re.findall(pattern, text)
    }
    assert found == {str(_yaml(ANSIBLE / "roles/registry/defaults/main.yml")["registry_workers"])}


def test_postgresql_has_room_for_the_pools_of_each_worker() -> None:
    counted = _yaml(ANSIBLE / "roles/postgresql/vars/main.yml")["__postgresql_per_worker"]
    # Two more: the lease of a migration or a back-fill, and a probe.
    assert counted >= engine._POOL_SIZE + engine._MORE_CONNECTIONS + 2


@pytest.mark.long
def test_the_number_of_workers_reaches_nginx_and_the_monitoring(tmp_path: Path) -> None:
    _ansible()
    web = _template("nginx", "etc/nginx/nginx.conf.j2", tmp_path, registry_workers=3, nginx_server_names=["x"])
    assert re.findall(r"server unix:/run/registry/(\d+)/http", web) == ["1", "2", "3"]
    assert re.findall(r"location = /metrics/(\d+)", web) == ["1", "2", "3"]
    scraped = _template("monitoring", "etc/prometheus/prometheus.yml.j2", tmp_path, registry_workers=3)
    labels = [one["labels"] for one in yaml.safe_load(scraped)["scrape_configs"][0]["static_configs"]]
    assert [one["worker"] for one in labels] == ["1", "2", "3"]


def test_what_lies_in_an_inventory_is_not_read_as_hosts(tmp_path: Path) -> None:
    _ansible()
    folder = tmp_path / "mine"
    shutil.copytree(ANSIBLE / "inventory/single", folder)
    shutil.copy(ANSIBLE / "inventory/uthpc/certificate.pem", folder)
    (folder / "authority.key").write_text("-----BEGIN PRIVATE KEY-----\n")
    done = subprocess.run(
        ["ansible-inventory", "-i", folder, "--list"], cwd=ANSIBLE, env=playbook.environment(tmp_path),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert list(json.loads(done.stdout)["_meta"]["hostvars"]) == ["registry1"]


@pytest.mark.long
def test_the_roles_are_a_collection(tmp_path: Path) -> None:
    """It is built, installed, and each role is found in it by its long name."""
    _ansible()
    _run(["ansible-galaxy", "collection", "build", ".", "--output-path", str(tmp_path)], tmp_path)
    archive = next(tmp_path.glob("uthpc-registry-*.tar.gz"))
    _run(["ansible-galaxy", "collection", "install", "--offline", "-p", str(tmp_path / "all"), str(archive)], tmp_path)
    place = tmp_path / "all/ansible_collections/uthpc/registry"
    assert {path.name for path in place.iterdir()} == {
        "CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "meta", "roles"
    }  # fmt: skip
    plays = [
        {"name": role, "hosts": "all", "gather_facts": False, "roles": [f"uthpc.registry.{role}"]} for role in ROLES
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))
    given = {"ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "all"), "ANSIBLE_ROLES_PATH": str(tmp_path)}
    command = ["ansible-playbook", "--syntax-check", "-i", "localhost,", str(tmp_path / "play.yml")]
    _run(command, tmp_path, **given)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_says_what_it_is(role: str) -> None:
    text = (ANSIBLE / "roles" / role / "README.md").read_text()
    about = _yaml(ANSIBLE / "roles" / role / "meta/main.yml")["galaxy_info"]
    specs = _specs(role)["main"]
    assert text.startswith(f"# uthpc.registry.{role}\n")
    assert about["description"] == specs["short_description"]
    for name, option in specs["options"].items():
        assert not option.get("required") or f"            {name}: " in text
    for name in re.findall(r"^            (\w+): ", text, re.MULTILINE):
        assert name in specs["options"]


def test_promtool_takes_the_rules() -> None:
    _promtool("check", "rules", str(RULES))


@pytest.mark.long
def test_each_alert_fires_on_what_it_is_for(tmp_path: Path) -> None:
    for file in (RULES, ALERTS):
        shutil.copy(file, tmp_path)
    _promtool("test", "rules", str(tmp_path / ALERTS.name))
    tested = {rule["alertname"] for test in _yaml(ALERTS)["tests"] for rule in test["alert_rule_test"]}
    assert tested == _alerts()


def test_each_alert_is_explained() -> None:
    explained = set(re.findall(r"^## (Registry\w+)$", (ROOT / "docs/guide/alerts.md").read_text(), re.MULTILINE))
    assert explained == _alerts()


def test_queries_name_metrics_that_are_there() -> None:
    documented = (ROOT / "docs/metrics.md").read_text()
    elsewhere = {"registry_certificate_end_seconds", "registry_backup_success_seconds", "registry_workers"}
    panels = (ANSIBLE / "roles/monitoring/vars/main.yml").read_text()
    named = set(re.findall(r"registry_[a-z_]+", "".join(_expressions()) + panels)) - elsewhere
    for name in named:
        assert f"`{re.sub('_bucket$', '', name)}`" in documented, name


def test_dashboard_is_json_whose_queries_prometheus_takes(tmp_path: Path) -> None:
    _ansible()
    dashboard = json.loads(_template("monitoring", "etc/prometheus/dashboard.json.j2", tmp_path))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [{"record": f"a{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    _promtool("check", "rules", str(tmp_path / "rules.yml"))
    assert len(queries) > 10


@pytest.mark.long
@pytest.mark.parametrize("topology", ["single", "cluster"])
def test_vagrant_validate(topology: str, tmp_path: Path) -> None:
    # The other provider, VirtualBox, is not to be had from Debian.
    validated = _vagrant(tmp_path, "validate", REGISTRY_TOPOLOGY=topology, VAGRANT_DEFAULT_PROVIDER="libvirt")
    assert validated.returncode == 0, validated.stdout + validated.stderr
    status = _vagrant(tmp_path, "status", "--machine-readable", REGISTRY_TOPOLOGY=topology)
    machines = set(re.findall(r"^\d+,(\w+),state,not_created$", status.stdout, re.MULTILINE))
    assert machines == set(_yaml(ANSIBLE / "inventory" / topology / "hosts.yml")["all"]["hosts"])


def test_vagrant_is_told_what_is_wrong(tmp_path: Path) -> None:
    refused = _vagrant(tmp_path, "validate", "--ignore-provider", REGISTRY_TOPOLOGY="ring")
    assert refused.returncode != 0
    assert "ring is unknown; use one of single, cluster" in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    "inventories", [("single", "vagrant"), ("cluster", "vagrant-cluster")], ids=lambda inventories: inventories[1]
)
def test_vagrant_inventories_say_where_each_host_is(inventories: tuple[str, ...], tmp_path: Path) -> None:
    _ansible()
    names = list(_yaml(ANSIBLE / "inventory" / inventories[0] / "hosts.yml")["all"]["hosts"])
    addresses = {name: f"198.51.100.{number}" for number, name in enumerate(names)}
    given = [part for name in inventories for part in ("-i", f"inventory/{name}")]
    shown = _run(
        ["ansible", "all", *given, "-e", json.dumps({"vagrant_addresses": addresses}), "-o", "-m",
         "ansible.builtin.debug", "-a", "msg={{ ansible_host }}:{{ ansible_port }}"], tmp_path,
    )  # fmt: skip
    assert set(re.findall(r"^(\w+) \| SUCCESS.*\"(\S+):22\"", shown, re.MULTILINE)) == set(addresses.items())


def _alerts() -> set[str]:
    return {rule["alert"] for group in _yaml(RULES)["groups"] for rule in group["rules"]}


def _expressions() -> list[str]:
    return [rule["expr"] for group in _yaml(RULES)["groups"] for rule in group["rules"]]


def _specs(role: str) -> dict[str, Any]:
    specs: dict[str, Any] = _yaml(ANSIBLE / "roles" / role / "meta/argument_specs.yml")["argument_specs"]
    return specs


def _tasks(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """List tasks, those within blocks too."""
    inner = [task for each in tasks for part in ("block", "rescue") for task in _tasks(each.get(part, []))]
    return tasks + inner


def _yaml(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def _promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        _not_run("no promtool here (apt: prometheus)")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _ansible() -> None:
    if reason := playbook.missing():
        _not_run(reason)


def _not_run(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"not run: {reason}", pytrace=False)
    pytest.skip(reason)


def _vagrant(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("vagrant") is None:
        _not_run("no vagrant here (apt: vagrant vagrant-libvirt)")
    own = {"VAGRANT_HOME": str(folder), "VAGRANT_DOTFILE_PATH": str(folder / "machines"), **environment}
    command = ["vagrant", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, check=False)


def _template(role: str, name: str, folder: Path, **variables: Any) -> str:
    """Have Ansible write a template of a role's, with the role's own variables and these."""
    place, given, file = ANSIBLE / "roles" / role, folder / "given.json", folder / Path(name).stem
    given.write_text(json.dumps(variables))
    files = (place / "defaults/main.yml", place / "vars/main.yml", place / "vars/Debian.yml", given)
    extra = [part for one in files for part in ("-e", f"@{one}")]
    arguments = ["-m", "ansible.builtin.template", "-a", f"src={place / 'templates' / name} dest={file}"]
    _run(["ansible", "localhost", "-c", "local", *arguments, *extra], folder)
    return file.read_text()


def _run(command: Sequence[str], folder: Path, **more: str) -> str:
    environment = {**playbook.environment(folder), **more}
    done = subprocess.run(command, cwd=ANSIBLE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
