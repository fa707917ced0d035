# Everything a person does with this repository. `make setup` is the only step that installs.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
DVC_BIN := .venv-dvc/bin
BENCH_BIN := .venv-bench/bin

# Nothing phones home unless a user turns it on.
export DAGSTER_DISABLE_TELEMETRY := yes
export DVC_NO_ANALYTICS := true
export DO_NOT_TRACK := 1
export WANDB_MODE ?= offline
export NO_MKDOCS_2_WARNING := 1
# Compiled modules are kept, whatever the shell says: the installation leaves compiling to whoever imports first.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo demo-sweep ui docs docs-serve screenshots first-hour test test-fast coverage hooks lint bench bench-accuracy \
	bench-camvid image test-image clean

setup: .venv/installed .venv-dvc/installed .venv-emulators/installed .venv-sweeps/installed

.venv/installed: requirements.lock pyproject.toml
	@echo "Setting up .venv (about two minutes and 2.5 GB the first time) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q -q --no-compile --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install -q -q --no-compile --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check
	@touch $@

# DVC pins an antlr runtime that Dagster's selections cannot use: it lives alone, behind its command line.
.venv-dvc/installed: requirements-dvc.lock
	@echo "Setting up .venv-dvc …"
	@test -x $(DVC_BIN)/python || $(PYTHON) -m venv .venv-dvc
	@$(DVC_BIN)/python -m pip install -q -q --no-compile --disable-pip-version-check -r requirements-dvc.lock
	@touch $@

# ministack, an emulator of AWS for tests; it pins another botocore.
.venv-emulators/installed: requirements-emulators.lock
	@echo "Setting up .venv-emulators …"
	@test -x .venv-emulators/bin/python || $(PYTHON) -m venv .venv-emulators
	@.venv-emulators/bin/python -m pip install -q -q --no-compile --disable-pip-version-check -r requirements-emulators.lock
	@touch $@

# W&B's own check of a sweep file, for a test: it names an older numpy, which it does without. Not an environment, a
# directory that the test puts beside .venv.
.venv-sweeps/installed: requirements-sweeps.lock .venv/installed
	@echo "Setting up .venv-sweeps …"
	@$(BIN)/python -m pip install -q -q --no-compile --disable-pip-version-check --no-deps --upgrade \
		--target .venv-sweeps -r requirements-sweeps.lock
	@touch $@

# checkov, for tests/deploy/test_checkov.py: not part of `make setup` (219 MB), the test skips without it.
.venv-checks/installed: requirements-checks.lock
	@echo "Setting up .venv-checks …"
	@test -x .venv-checks/bin/python || $(PYTHON) -m venv .venv-checks
	@.venv-checks/bin/python -m pip install -q -q --no-compile --disable-pip-version-check -r requirements-checks.lock
	@touch $@

# The benchmarks' peers, beside all that .venv has: torch is not installed twice. Not checked by pip: litdata names
# torchvision, which it only needs for images that it decodes itself.
.venv-bench/installed: requirements-bench.lock .venv/installed
	@echo "Setting up .venv-bench …"
	@test -x $(BENCH_BIN)/python || $(PYTHON) -m venv --without-pip .venv-bench
	@$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
		> "$$($(BENCH_BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/project.pth"
	@$(BENCH_BIN)/python -m pip install -q -q --no-compile --disable-pip-version-check --no-deps -r requirements-bench.lock
	@touch $@

demo: setup
	@$(BIN)/python -m training_assets demo $(if $(DATA),--data "$(DATA)") $(if $(RECIPE),--recipe "$(RECIPE)")

demo-sweep: setup
	@$(BIN)/python -m training_assets demo-sweep

ui: setup
	@$(BIN)/python -m training_assets ui

# The documents as a site in var/site, which needs no server; or served, and built again when a page changes.
docs: setup
	@$(BIN)/mkdocs build --quiet
	@echo "var/site/index.html"

docs-serve: setup
	@$(BIN)/mkdocs serve

# The pictures in docs/screenshots, of what `make demo` and `make demo-sweep` left here.
screenshots: setup
	@$(BIN)/python -m tests.browser.screenshots

# docs/first-hour.md in a fresh clone, step by step as it is written: about twenty minutes.
first-hour: setup
	@FIRST_HOUR=1 $(BIN)/python -m pytest -s tests/docs/test_first_hour.py

test: setup
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder tests

test-fast: setup
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not browser" --hypothesis-profile=fast tests

# What of both packages the quick suite runs through, the processes that it starts as well: htmlcov/.
coverage: setup
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not browser" --hypothesis-profile=fast --cov --cov-report=term:skip-covered --cov-report=html tests

# git runs the checks of .pre-commit-config.yaml before each commit.
hooks: setup
	@$(BIN)/pre-commit install

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: setup .venv-bench/installed
	@$(BIN)/python benchmarks/code_location.py
	@$(BIN)/python benchmarks/orchestration.py
	@$(BIN)/python benchmarks/ui.py
	@$(BIN)/python benchmarks/launch.py
	@$(BIN)/python benchmarks/coco.py
	@$(BENCH_BIN)/python benchmarks/loop.py
	@$(BIN)/python benchmarks/scaling.py
	@$(BIN)/python benchmarks/checkpoint.py
	@$(BIN)/python benchmarks/tracking.py
	@$(BIN)/python benchmarks/kill.py
	@PYTHONPATH=. $(BENCH_BIN)/python benchmarks/loader.py $(CAMVID)
	@PYTHONPATH=. $(BENCH_BIN)/python benchmarks/search.py $(HPO)

# What models reach on real data: minutes of training each, two cores.
bench-accuracy: bench-camvid
	@$(BIN)/python benchmarks/dawn.py
	@$(BIN)/python benchmarks/eth_ucy.py

bench-camvid: setup
	@$(BIN)/python benchmarks/camvid.py $(CAMVID)

# Both images, from the last commit, to ECR: make image BASE=repository@sha256:… (docs/images.md)
image: setup
	@$(BIN)/python -m training_assets image --base "$(BASE)" $(if $(DAGSTER_BASE),--dagster-base "$(DAGSTER_BASE)") \
		$(if $(BUILD_BASE),--build-base "$(BUILD_BASE)") $(IMAGE_OPTIONS)

# Builds the images and trains in one: root, podman, debootstrap, a network and some minutes.
test-image: setup
	@TEST_IMAGE=1 $(BIN)/python -m pytest tests/deploy/test_image_build.py

clean:
	rm -rf var
