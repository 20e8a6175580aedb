#!/usr/bin/env bash
# Compiles the kernels and their tests for aarch64, whose vectors (NEON) are what its compiler assumes, and runs them
# under QEMU where it and a linker are found. Needs once:
#     rustup target add aarch64-unknown-linux-gnu
#     apt-get install qemu-user gcc-aarch64-linux-gnu    # to run them
# Arguments go to the tests: `tests/aarch64.sh matmul`.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
cargo check -p lions-kernels --all-targets --target "$target"
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static || true)
linker=$(command -v aarch64-linux-gnu-gcc || true)
if [ -z "$qemu" ] || [ -z "$linker" ]; then
    echo "the kernels compile for $target; not run: QEMU or a linker for it is missing" >&2
    exit 0
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$linker
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$qemu -L /usr/aarch64-linux-gnu"
exec cargo test -p lions-kernels --target "$target" -- "$@"
