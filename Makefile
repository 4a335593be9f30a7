# Everything a person does with this project. `make help` lists it.
# SPDX-License-Identifier: MIT OR Apache-2.0

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Cargo is often installed for one user only, outside the path of a plain shell.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# SEED=n repeats one simulated run; SEEDS=n runs the first n of them; FILTER=word runs the tests whose names hold it; KEEP=1 leaves the demo running;
# TOPIC=kafka runs it over a Kafka broker.
SEED ?=
SEEDS ?=
FILTER ?=
KEEP ?=
TOPIC ?=
PREFIX ?= /usr/local

.PHONY: help
help: ## List what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-16s %s\n", $$1, $$2 }'

.PHONY: setup
setup: ## Install what building and testing need (quick when all is there)
	@scripts/setup.sh

.PHONY: build
build: setup ## Build the release program, target/release/tandem
	cargo build --release --locked --bin tandem

.PHONY: install
install: ## Put the program into PREFIX/bin, /usr/local/bin where none is named; after make build
	@[ -x target/release/tandem ] || { echo 'There is no program yet: make build' >&2; exit 1; }
	install -D -m 755 target/release/tandem '$(DESTDIR)$(PREFIX)/bin/tandem'

.PHONY: check
check: setup ## Format, lint, tidy and unit tests: before each commit
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --lib --bins --test tidy --test shipped

.PHONY: test
test: setup ## All tests: unit, tidy, simulation, live against real servers
	cargo test --locked

.PHONY: sim
sim: setup ## The simulation alone; SEED=n repeats one run, SEEDS=2000 runs so many
	$(if $(SEED),TANDEM_SIM_SEED=$(SEED)) $(if $(SEEDS),TANDEM_SIM_SEEDS=0..$(SEEDS)) cargo test --locked --test sim $(if $(SEED)$(SEEDS),every_seed,$(FILTER)) -- --nocapture

.PHONY: live
live: setup ## The live tests alone; FILTER=word picks some
	cargo test --locked --test live $(FILTER)

.PHONY: browser
browser: setup ## The dashboard in a real browser, with pictures in target/screenshots
	TANDEM_REQUIRE_BROWSER=1 cargo test --locked --test browser $(FILTER)

.PHONY: screenshots
screenshots: browser ## The same, and the pictures of the README anew
	cp target/screenshots/overview-away.png docs/dashboard.png
	cp target/screenshots/conflicts.png docs/conflict.png

.PHONY: golden-cli
golden-cli: setup ## Write the texts of help and errors anew that tests/cli compares with; look at the difference
	TANDEM_GOLDEN=write cargo test --locked --test cli golden::
	git diff --stat tests/golden/cli

.PHONY: soak
soak: setup ## The big proof in full size: 100,000 rows, the tailer killed 200 times, the hub or broker killed, cut off and away
	TANDEM_SOAK=1 cargo test --locked --test live soak -- --nocapture --test-threads=1

.PHONY: prove
prove: setup ## 51,000 transactions on three sites with servers and nodes killed, networks cut, clocks an hour apart
	TANDEM_PROVE=1 cargo test --locked --test live three_databases -- --nocapture

.PHONY: bench
bench: setup ## Measure, print a table, write target/bench/summary.json
	cargo bench --locked --bench apply --bench capture --bench topic --bench cloud

.PHONY: demo
demo: setup ## Two laptops on two private databases, from seed to proof; KEEP=1 leaves them running, TOPIC=kafka uses a broker
	@# In one call: cargo would build the dependencies twice for two, because the demo uses more features of some.
	@cargo build --release --locked --bin tandem --example demo
	@scripts/clean-services.sh >/dev/null
	@KEEP=$(KEEP) TOPIC=$(TOPIC) target/release/examples/demo

.PHONY: windows
windows: ## Type-check the program for Windows, without the Kafka client; says what to install where that cannot be done here
	@scripts/windows.sh

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: clean-services
clean-services: ## End what `make demo KEEP=1` left running, and remove leftovers of killed tests
	@scripts/clean-services.sh
