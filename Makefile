# Every target sets itself up: `make demo` and `make test` work on a machine with only Python and make.
PYTHON ?= python3
BIN := .venv/bin
# Up to four processes share the tests; each imports torch, which takes 1.5 GB of memory.
WORKERS ?= --numprocesses logical --maxprocesses 4 --dist worksteal
INSTALLED := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format bench schema docs site results clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with aigc and all it needs, pinned by constraints.txt

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED) ## train on the built-in photographs, score and enlarge held-out ones (a few minutes)
	$(BIN)/aigc train edsr_small_x2 --out demo/run --overwrite
	$(BIN)/aigc evaluate demo/run --metric psnr,ssim --save demo/pictures --overwrite
	@echo "look at: demo/pictures/*-compare.png and demo/run/previews/"

test: $(INSTALLED) ## the tests without the slow ones, on up to four cores
	$(BIN)/python -m pytest $(WORKERS)

test-all: $(INSTALLED) ## all tests
	$(BIN)/python -m pytest $(WORKERS) -m 'slow or not slow'

lint: $(INSTALLED) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## format the code and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED) ## speed and memory against named alternatives
	PYTHONPATH=$(PEERS) IDX=$(IDX) TEXT=$(TEXT) CORPUS=$(CORPUS) RUN=$(RUN) $(BIN)/python -m benchmarks

schema: $(INSTALLED) ## write recipes/schema.json
	$(BIN)/aigc recipe schema --out recipes/schema.json

docs: $(INSTALLED) ## write docs/cli.md from the commands' own help
	$(BIN)/python docs/make_cli.py

site: $(INSTALLED) ## the documentation as a web site, in build/site
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement docs/requirements.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

results: $(INSTALLED) ## measure a row of the results again and show the difference: make results ROW=onnx_edsr
	$(BIN)/python docs/make_results.py run $(ROW)

clean: ## remove the environment, caches and the demo
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache demo build dist
