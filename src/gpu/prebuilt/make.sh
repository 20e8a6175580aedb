#!/usr/bin/env bash
# Makes the kernels for cards anew, after every change of code in ../kernels: machine code for three kinds of cards and PTX for all
# others, compressed, and the digest of their sources, which a test compares.
#
#   LIONS_NVCC=/usr/local/cuda/bin/nvcc src/gpu/prebuilt/make.sh
#
# nvcc 13.0 writes PTX of version 9.0, which only drivers from 580 on take. The text needs nothing of it: under the header of
# 7.8 drivers from 520 on take it too.
set -euo pipefail
export LC_ALL=C # the order of files
cd "$(dirname "$0")"
nvcc=${LIONS_NVCC:-nvcc}
unset NVCC_APPEND_FLAGS NVCC_PREPEND_FLAGS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for arch in 80 89 90; do
  "$nvcc" -std=c++17 -O3 -gencode="arch=compute_$arch,code=sm_$arch" -cubin -o "$work/sm_$arch.cubin" ../kernels/all.cu &
done
"$nvcc" -std=c++17 -O3 -arch=compute_80 -ptx -o "$work/ptx" ../kernels/all.cu &
wait
sed 's/^\.version .*/.version 7.8/' "$work/ptx" >"$work/compute_80.ptx"
for name in sm_80.cubin sm_89.cubin sm_90.cubin compute_80.ptx; do
  [[ -s $work/$name ]] || { echo "make.sh: no $name" >&2; exit 1; }
  zstd -q -19 -f "$work/$name" -o "$name.zst"
done
# Of what is neither comment nor space.
sed 's://.*::' ../kernels/*.cu ../kernels/*.h | tr -d '[:space:]\\' | cksum >sources.cksum
