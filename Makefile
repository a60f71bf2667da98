# Three commands do everything, from a fresh Debian machine with Rust:
#   make demo    plays the main scenarios on a real PostgreSQL server
#   make test    runs the whole test suite
#   make bench   measures zenith beside pgBackRest, restic and borg; writes docs/benchmarks.md
# All install what is missing first, and say what and why.

# The target directory lies outside the checkout, so that RocksDB, which takes minutes to compile,
# is compiled once and not once per clone. Every recipe uses the same profile for the same reason.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
export CARGO_TARGET_DIR ?= $(CACHE)/zenith/target

.PHONY: help demo test bench bench-micro build install-deps fmt clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: install-deps-demo build
	@scripts/demo "$(CARGO_TARGET_DIR)/release/zenith"

test:
	@scripts/test

bench: install-deps-bench bench-micro build
	@scripts/bench "$(CARGO_TARGET_DIR)/release/zenith" $(BENCH)

bench-micro:
	cargo bench --locked --package zenith-store --bench blobs

build:
	cargo build --release --locked --package zenith-cli

fmt:
	cargo fmt --all

.PHONY: install-deps-demo
install-deps-demo:
	@scripts/install-deps

.PHONY: install-deps-bench
install-deps-bench:
	@scripts/install-deps --bench

install-deps:
	@scripts/install-deps --tests

clean:
	cargo clean
