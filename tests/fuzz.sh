#!/usr/bin/env bash
# Damages files of strangers many times over and reads them: sweeps, rows, Parquet, templates, tokenizers, config.json,
# safetensors, and a judge's answers. Nothing may panic, hang or use more than 8 GiB.
#
#     tests/fuzz.sh [CASES]       # 10,000 of each if not said otherwise
set -euo pipefail
cd "$(dirname "$0")/.."
cases=${1:-10000}
cargo test --no-run
ulimit -v $((8 << 20))
LIONS_FUZZ_CASES=$cases cargo test --test it -- fuzz:: --nocapture --test-threads 1
PROPTEST_CASES=$cases cargo test --lib -- judge::verdict
