#!/usr/bin/env bash
# Builds and tests the GPU module alone, in seconds: on the emulation of its kernels, with `--features gpu` also on a card if
# there is one. Arguments go to cargo: `tests/gpu.sh norm`, `tests/gpu.sh --features gpu`.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/gpu
exec cargo test --manifest-path tests/gpu/Cargo.toml "$@"
