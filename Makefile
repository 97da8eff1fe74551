# A machine needs make and Python 3.11 with venv. The rest is installed into .venv, once.

PYTHON := .venv/bin/python
# Debian's, which the roles install, too. Another python3 on the PATH may be built without optimizations.
PYTHON3 := $(firstword $(wildcard /usr/bin/python3) python3)
# With it set, every service and every worker of the tests compiles all modules again.
unexport PYTHONDONTWRITEBYTECODE
# pip checks no hashes of what an isolated build takes. So it builds with the setuptools of setup-requirements.lock.
INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation

# Workers of the test runner, each with services of its own. They keep two cores busy, because tests also wait.
WORKERS := 4
SMOKE := tests/api/test_root.py tests/api/test_blobs.py tests/api/test_manifests.py tests/api/test_visibility.py
# The suites that need a Docker engine or other clients.
ENGINES := tests/clients tests/guide tests/proof tests/story
PYTEST := $(PYTHON) -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

.PHONY: setup run demo check test suites test-long test-host test-deploy fuzz lint bench lock outdated

setup: .venv/setup.stamp

run: setup
	$(PYTHON) -m app serve --config config.yaml

demo: .venv/tests.stamp
	$(PYTHON) -m tests.demo

# The quick checks for every change; one service starts at most in each worker.
check: lint
	$(PYTEST) tests/unit $(SMOKE)

# The linters take one processor while the tests wait, so they run beside the tests.
test: .venv/tests.stamp .venv-ansible/setup.stamp
	$(PYTHON) -m tests.install_parts tests/apt.txt tests/deploy/apt.txt
	$(MAKE) --jobs=2 lint suites

# All suites that need no engine and no host, without the linters.
suites:
	MAKEFLAGS= $(PYTEST) -m "not long and not sqlite" $(ENGINES:%=--ignore=%) --ignore=tests/deploy

# The full forms of the tests whose short forms `make test` has: whole times, every fault, each control in a browser.
test-long: .venv/tests.stamp .venv-ansible/setup.stamp
	$(PYTHON) -m tests.install_parts tests/apt.txt tests/deploy/apt.txt
	$(PYTHON) -m pytest -m long --ignore=tests/deploy

# Every client pulls and pushes, people do what the guide says, and nginx does what its role promises. The contract
# holds on SQLite, too. The playbook is linted, and makes a registry of a bare host with systemd. Backups come back,
# releases are made, a registry a hundred times as large costs the same, and the conformance suite passes.
test-host: .venv/tests.stamp .venv-ansible/setup.stamp
	$(PYTHON) -m tests.install_parts tests/apt.txt tests/deploy/apt.txt
	MAKEFLAGS= $(PYTEST) -m "not long" $(ENGINES) tests/deploy
	MAKEFLAGS= $(PYTEST) -m "sqlite and not long" tests/contract
	$(PYTHON) -m pytest -m long tests/deploy/test_single.py tests/deploy/test_checks.py tests/deploy/test_hashes.py \
		tests/deploy/test_backup.py tests/deploy/test_releases.py
	$(PYTHON) -m pytest -m long tests/growth/test_growth.py tests/conformance tests/deploy/test_delivery.py

# Every playbook on hosts with systemd, one host and several, and what such sites bear.
test-deploy: .venv/tests.stamp .venv-ansible/setup.stamp
	$(PYTHON) -m tests.install_parts tests/apt.txt tests/deploy/apt.txt tests/deploy/apt-libvirt.txt
	$(PYTHON) -m pytest tests/deploy

# `make test` tries the same few inputs each time, this tries so many new ones for each target; more take longer.
FUZZ_EXAMPLES := 2000

fuzz: .venv/tests.stamp
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(PYTHON) -m pytest tests/fuzz --timeout=3600

lint: .venv/tests.stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	$(PYTHON) -m tests.plain_english

bench: .venv/tests.stamp
	$(PYTHON) -m bench

# A lock has every package that the requirements need, and the hashes of its files for all platforms. A package that is
# in the lock already keeps its version if the requirements allow it.
COMPILE := .venv-tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock"

lock: .venv-tools/setup.stamp
	$(COMPILE) requirements.txt --output-file requirements.lock
	$(COMPILE) setup-requirements.txt --constraint requirements.lock --output-file setup-requirements.lock
	$(COMPILE) tests/requirements.txt --constraint requirements.lock --constraint setup-requirements.lock \
		--output-file tests/requirements.lock
	$(COMPILE) tests/tools-requirements.txt --output-file tests/tools-requirements.lock
	$(COMPILE) ansible/requirements.txt --output-file ansible/requirements.lock

outdated: .venv-tools/setup.stamp
	.venv-tools/bin/python -m tests.outdated

.venv/setup.stamp: setup-requirements.lock requirements.lock
	$(PYTHON3) -m venv .venv
	$(PYTHON) $(INSTALL) -r setup-requirements.lock
	$(PYTHON) $(INSTALL) -r requirements.lock
	touch $@

.venv/tests.stamp: .venv/setup.stamp tests/requirements.lock
	$(PYTHON) $(INSTALL) -r tests/requirements.lock
	touch $@

.venv-tools/setup.stamp: tests/tools-requirements.lock
	$(PYTHON3) -m venv .venv-tools
	.venv-tools/bin/python $(INSTALL) -r tests/tools-requirements.lock
	touch $@

# Ansible is for the operator's machine. It stays apart from the packages that hosts install.
.venv-ansible/setup.stamp: ansible/requirements.lock
	$(PYTHON3) -m venv .venv-ansible
	.venv-ansible/bin/python $(INSTALL) -r ansible/requirements.lock
	touch $@
