# `make demo` and `make test` work on a fresh machine: they fetch uv and every package from PyPI.
.POSIX:
.PHONY: help demo test lint types clean

# Every recipe starts with this; .ci/env.sh sets $UV and use_python. Lava needs Python 3.10, the core does not.
SETUP = set -e; . .ci/env.sh; use_python 3.10
# The tests run one process per core.
export OMP_NUM_THREADS = 1

help:
	@echo "make demo    compile, run, verify and report a trained network (core packages only)"
	@echo "make test    every test, with torch and Lava on Python 3.10"
	@echo "make lint    ruff and the import rules"
	@echo "make types   mypy"
	@echo "make clean   remove environments and caches"

# --inexact: a developer's environment keeps what it has beyond the core.
demo:
	@$(SETUP) 3.13 3.12 3.11 3.14; "$$UV" sync --frozen --inexact --no-dev; "$$UV" run --no-sync nmc demo

test:
	@$(SETUP); "$$UV" sync --locked --extra torch --extra lava; \
	"$$UV" run --no-sync pytest -n auto --dist loadfile -m "not frameworks"

lint:
	@$(SETUP); "$$UV" sync --locked --inexact --quiet; "$$UV" run --no-sync ruff check .; \
	"$$UV" run --no-sync ruff format --check .; "$$UV" run --no-sync lint-imports

types:
	@$(SETUP); "$$UV" sync --locked --inexact --quiet; "$$UV" run --no-sync mypy

clean:
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
