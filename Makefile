# Every target sets up what it needs: the environment from uv.lock, and the programs of the servers (see dev/programs).
# The environment is in the tree; what takes long to build or fetch is in ~/.cache/strands-dapr-session.

PYTEST_FLAGS ?= -n auto

.PHONY: help
help:
	@echo 'make test         lint, types, every test against real servers, and bench-smoke'
	@echo 'make test-oldest  the tests with the oldest supported dependencies'
	@echo 'make test-strands Strands own tests, with our session manager in every agent, graph and swarm'
	@echo 'make crash-full   kill agents at every moment, in every store; takes a while'
	@echo 'make prove        every campaign of tests/prove in small: about ten minutes'
	@echo 'make prove-full   every campaign; takes hours, and writes benchmarks/results/prove'
	@echo 'make mutants      break one rule of the protocol after the other: a test must notice each'
	@echo 'make mutate       a general mutation tester; ONLY=strands_dapr_session.stores.settle*'
	@echo 'make fuzz         let a fuzzer choose stored bytes; FUZZ_SECONDS=600'
	@echo 'make lint         ruff and mypy'
	@echo 'make format       let ruff rewrite what it can'
	@echo 'make demo         an agent is killed and finishes its run elsewhere'
	@echo 'make demo-dapr    the same through a Dapr sidecar'
	@echo 'make demo-workers three workers, one of which is killed every few seconds; all runs finish'
	@echo 'make prove-workers 1,000 runs over workers that are killed, stopped and told to end'
	@echo 'make bench        what everything costs, beside what you would use instead; about 14 minutes'
	@echo '                  the first time, when what it compares with is installed and built'
	@echo 'make figures      README and docs with the figures of the last make bench'
	@echo 'make flame        where the time of a load goes, as a picture: docs/figures/flame.svg'
	@echo 'make bench-smoke  a minute of it, which fails when something has become slower'
	@echo 'make servers      find, build or install daprd, Redis and PostgreSQL'
	@echo 'make clean        remove what these made in the tree'

.venv/.ready: pyproject.toml uv.lock dev/bootstrap
	dev/bootstrap
	@touch $@

.PHONY: servers
servers: .venv/.ready
	.venv/bin/python -m dev.programs

.PHONY: test
test: lint servers
	.venv/bin/pytest $(PYTEST_FLAGS)
	.venv/bin/python -W ignore -m benchmarks.smoke

.PHONY: crash-full
crash-full: servers
	CRASH_FULL=1 .venv/bin/pytest $(PYTEST_FLAGS) --timeout=1800 tests/crash

.PHONY: prove
prove: servers
	.venv/bin/python -m tests.prove small

.PHONY: prove-full
prove-full: servers
	.venv/bin/python -m tests.prove full --record

.PHONY: mutants
mutants: .venv/.ready
	.venv/bin/python -m tests.prove mutants

# Tools that nothing else needs.
.venv-tools/.ready: .venv/.ready
	UV_PROJECT_ENVIRONMENT=.venv-tools .venv/bin/uv sync --frozen --quiet --group mutate --group fuzz
	@touch $@

ONLY ?=

.PHONY: mutate
mutate: .venv-tools/.ready
	.venv-tools/bin/mutmut run $(if $(ONLY),'$(ONLY)')
	.venv-tools/bin/mutmut results

FUZZ_SECONDS ?= 600

.PHONY: fuzz
fuzz: .venv-tools/.ready
	mkdir -p .fuzz
	.venv-tools/bin/python -m tests.prove.damage.guided -max_total_time=$(FUZZ_SECONDS) .fuzz tests/prove/damage/corpus

# Strands' own tests with a session manager of ours in everything that they make: see dev/strands_suites/inject.py. Its
# source distribution has them; STRANDS_TESTS may name the root of a checkout instead.
STRANDS_VERSION = $(shell .venv-strands/bin/python -c 'from importlib.metadata import version; print(version("strands-agents"))')
STRANDS_TESTS ?= .venv-strands/sdist/strands_agents-$(STRANDS_VERSION)

.PHONY: test-strands
test-strands: .venv-strands/.ready
	test -d $(STRANDS_TESTS) || .venv-strands/bin/python -m pip download --quiet --disable-pip-version-check --no-deps \
		--no-binary strands-agents --dest .venv-strands/sdist strands-agents==$(STRANDS_VERSION)
	test -d $(STRANDS_TESTS) || tar -xzf $(STRANDS_TESTS).tar.gz -C .venv-strands/sdist
	cd $(STRANDS_TESTS) && $(CURDIR)/.venv-strands/bin/python -m pytest $(PYTEST_FLAGS) --quiet --timeout=120 -o addopts= \
		-W ignore -p dev.strands_suites.inject $(or $(STRANDS_PART),tests/strands)

# The locked environment and what only the tests of Strands need.
.venv-strands/.ready: pyproject.toml uv.lock .venv/.ready
	UV_PROJECT_ENVIRONMENT=.venv-strands .venv/bin/uv sync --frozen --quiet --group strands-suites
	@touch $@

.PHONY: lint
lint: .venv/.ready
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/python -m benchmarks.figures --check
	@# A mirror that somebody's machine is set to must not get into the lock.
	@! grep -oE 'https?://[^/"]+' uv.lock | grep -vE '^https://(pypi\.org|files\.pythonhosted\.org)$$'

.PHONY: format
format: .venv/.ready
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

# The locked environment with each runtime dependency brought down to its lower bound in pyproject.toml.
.venv-oldest/.ready: .venv/.ready
	UV_PROJECT_ENVIRONMENT=.venv-oldest dev/bootstrap
	.venv/bin/uv pip compile --quiet --no-deps --no-header --no-annotate --resolution lowest-direct \
		--python .venv-oldest --output-file .venv-oldest/oldest.txt pyproject.toml
	.venv/bin/uv pip install --quiet --python .venv-oldest --requirement .venv-oldest/oldest.txt
	@touch $@

.PHONY: test-oldest
test-oldest: .venv-oldest/.ready servers
	@cat .venv-oldest/oldest.txt
	.venv-oldest/bin/pytest $(PYTEST_FLAGS) -m 'not newest_dependencies'

.PHONY: demo
demo: .venv/.ready
	.venv/bin/python examples/crash_demo.py

.PHONY: demo-dapr
demo-dapr: servers
	.venv/bin/python examples/crash_demo.py --store dapr

.PHONY: demo-workers
demo-workers: servers
	.venv/bin/python examples/workers_demo.py

.PHONY: prove-workers
prove-workers: servers
	.venv/bin/python -m tests.prove workers --seeds 1 --runs 1000 --every 1

.PHONY: bench
bench: .venv-bench/.ready servers
	.venv-bench/bin/python -W ignore -m benchmarks

# Where the time of a load goes. The profiler is nobody's dependency.
.PHONY: flame
flame: .venv-bench/.ready servers
	@# It complains when what it watched has ended before it.
	.venv/bin/uv tool run --quiet py-spy==0.4.1 record --rate 250 --output docs/figures/flame.svg -- \
		.venv-bench/bin/python -W ignore -m benchmarks.load_loop || test -s docs/figures/flame.svg

.PHONY: bench-smoke
bench-smoke: .venv/.ready servers
	.venv/bin/python -W ignore -m benchmarks.smoke

.PHONY: figures
figures: .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks.figures

# The locked environment and what only benchmarks need.
.venv-bench/.ready: pyproject.toml uv.lock .venv/.ready
	UV_PROJECT_ENVIRONMENT=.venv-bench .venv/bin/uv sync --frozen --quiet --group bench
	@touch $@

.PHONY: clean
clean:
	rm -rf .venv .venv-oldest .venv-tools mutants .fuzz .venv-bench .venv-strands dist
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
