#!/usr/bin/env bash
# Runs the tests of the kernels under Miri, which sees every read and write beyond its slice: on small
# shapes, on one thread, with the baseline instruction set. Needs once:
#     rustup toolchain install nightly --component miri,rust-src
# Arguments go to the tests: `tests/miri.sh matmul`.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=target/miri
# Without it Miri adds random errors to logarithms, and no two results have the same bits.
export MIRIFLAGS="-Zmiri-deterministic-floats ${MIRIFLAGS:-}"
exec cargo +nightly miri test -p lions-kernels -- "$@"
