#!/usr/bin/env bash
# Plants faults in the GPU kernels, one at a time, and runs their tests: every fault must be found. It is then tried again
# without the emulation's checks, which says whether the numbers alone show it. Takes some minutes.
#
#     tests/gpu-faults.sh [PATTERN]     # of the names of the faults to plant; all if not said otherwise
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD only=${1:-} planted=0 missed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/gpu-faults
cxx=${CXX:-c++}
flags=(-std=c++17 -O1 -fPIC -DEMULATE -ffp-contract=off -fno-strict-aliasing -Wno-unknown-pragmas)

# The emulation as a shared library, so that the tests are built once: one object a file.
mkdir -p "$work"/{src,o,lib,crate,emulation}
compile() { "$cxx" "${flags[@]}" -x c++ -c "$1" -o "$work/o/$(basename "$1").o" 2>"$work/errors"; }
link() { "$cxx" -shared "$work"/o/*.o -o "$work/lib/libemulation.so" -pthread; }
restore() { rm -rf "$work/src" && mkdir "$work/src" && cp -r src/gpu/kernels src/gpu/emu "$work/src"; }
restore
# A launch looks at this variable, so that one build runs with and without checks.
sed -i 's/  g.options = \*options;/&\n  if (getenv("UNCHECKED")) g.options.checking = 0;/; s/#include <cstdio>/&\n#include <cstdlib>/' "$work/src/emu/launch.cc"
for file in "$work"/src/emu/{*.cc,faults.cu} "$work"/src/kernels/*.cu; do
  case $file in */kernels.cc | */all.cu) ;; *) compile "$file" ;; esac
done
link

cp src/gpu/emu/lib.rs "$work/emulation/"
sed '/^\[build-dependencies\]/,$d' src/gpu/emu/Cargo.toml >"$work/emulation/Cargo.toml"
cat >"$work/emulation/build.rs" <<RS
fn main() {
    println!("cargo::rustc-link-search=native=$work/lib");
    println!("cargo::rustc-link-lib=dylib=emulation");
    println!("cargo::rustc-env=EMULATION_LIBRARY=$work/lib/libemulation.so");
}
RS
sed "s|../../src/gpu/emu|$work/emulation|; s|../../src|$root/src|" tests/gpu/Cargo.toml >"$work/crate/Cargo.toml"
sed "s|\.\./\.\./src|$root/src|" tests/gpu/lib.rs >"$work/crate/lib.rs"
cargo test --quiet --no-run --manifest-path "$work/crate/Cargo.toml"
built=$(cargo test --no-run --manifest-path "$work/crate/Cargo.toml" 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
# A fault may keep a kernel from ever ending; that is found too.
run() { LD_LIBRARY_PATH=$work/lib timeout 600 "$built" "$@" 2>&1 || { (($? != 124)) || echo 'timed out' && return 1; }; }

# Tests that find something must find nothing where nothing is planted.
declare -A sound
sound() {
  [[ -z ${sound[$1]:-} ]] || return 0
  link
  run "$1" >"$work/said" || { cat "$work/said" >&2; echo "$1: the tests fail without a fault" >&2; exit 1; }
  grep -q '^test result: ok. [1-9]' "$work/said" || { echo "$1: there are no such tests" >&2; exit 1; }
  sound[$1]=yes
}

try() { # name, file, sed script, tests
  local name=$1 file=$2 script=$3 tests=$4 checks said
  [[ $name =~ $only ]] || return 0
  planted=$((planted + 1))
  sound "$tests"
  restore
  sed -i "$script" "$work/src/kernels/$file"
  if cmp -s "src/gpu/kernels/$file" "$work/src/kernels/$file"; then
    printf '%-44s not planted\n' "$name" && missed=$((missed + 1)) && return 0
  fi
  local sources=("$work/src/kernels/$file")
  [[ $file == *.cu ]] || mapfile -t sources < <(grep -l "\"$file\"\|reduce.h\|attention.h\|gated.h\|columns.h\|gpu.h" "$work"/src/kernels/*.cu)
  for source in "${sources[@]}"; do
    [[ $source == */all.cu ]] || compile "$source" || { printf '%-44s does not compile\n' "$name" && missed=$((missed + 1)) && return 0; }
  done
  link
  for checks in checked unchecked; do
    local found=no
    said=$(if [[ $checks == unchecked ]]; then export UNCHECKED=1; fi; run "$tests") || found=yes
    [[ $checks == unchecked || $found == yes ]] || missed=$((missed + 1))
    printf '%-44s %-9s %-3s %s\n' "$name" "$checks" "$found" \
      "$(grep -E 'why: |allowed|bits depend|assertion|timed out' <<<"$said" | head -1 | sed 's/.*why: //' | cut -c1-110)"
  done
  for source in "${sources[@]}"; do
    [[ $source == */all.cu ]] || compile "src/gpu/kernels/$(basename "$source")"
  done
}

norm=rms_norm_fast.cu
try 'fast norm: no second barrier' $norm '/red is written again/d' fast_norms
try 'fast norm: a lane outside the shuffle' $norm '0,/  a = warp_sum(a);/s//  if (lane < 31) a = warp_sum(a);/' fast_norms
try 'fast norm: a barrier in a branch' $norm 's/    block_sum2(squares, pull, /    if (threadIdx.x < 128) &/' fast_norms
try 'norm: no second barrier' reduce.h '/red is written again/d' ops::norm
try 'norm: a row too many in dw' rms_norm.cu 's/row < rows; row += gridDim.x/row <= rows; row += gridDim.x/' ops::norm
try 'norm: no offset in dx' rms_norm.cu 's/grad \* (offset + to_f32(w\[i\]))/grad * to_f32(w[i])/' ops::norm
try 'sums: one column too many' rows.cu '0,/if (col >= d) return;/s//if (col > d) return;/' ops::norm
try 'sums: the last part left out' rows.cu 's/i < count; i++/i + 1 < count; i++/' ops::norm

attention=attention.cu tensor=attention_by_tensor_cores_is
try 'attention: no barrier before K is replaced' $attention '/product<E, BN>(s, sq, warp \* 16, sk);/{n;s/sync_block();//}' $tensor
try 'attention: no barrier before V is replaced' $attention '/multiply<E, BN, E>(o, s, sv);/{n;d}' $tensor
try 'attention: a wait for one group too few' $attention '0,/copy_wait<1>();/s//copy_wait<2>();/' $tensor
try 'attention: no wait at all' $attention '0,/copy_wait<1>();/s///' $tensor
try 'attention: shared memory too small' $attention 's/smem<bf16>((BM + BN) \* E \* 2)/smem<bf16>((BM + BN) * E * 2 + 64)/' $tensor
try 'attention: trunk not seen by branches' $attention 's/c < t.trunk ? t.trunk0 + c/c < t.trunk ? t.own0/' $tensor
try 'attention: last range of a tile left out' $attention 's/i < range_at\[blockIdx.x + 1\]/i + 1 < range_at[blockIdx.x + 1]/' $tensor
try 'attention: V not transposed' $attention 's/ldmatrix4_t(fb/ldmatrix4(fb/' $tensor
try 'attention: fragments of B swapped' $attention '0,/mma(acc\[n \* 2\], fa, fb\[0\], fb\[1\]);/s//mma(acc[n * 2], fa, fb[1], fb[0]);/' $tensor
try 'attention: causal mask off by one' attention.h 's/return c <= q \&\&/return c < q + 2 \&\&/' $tensor
try 'attention: window off by one' attention.h 's/c + f.window > q/c + f.window >= q/' $tensor
try 'attention: delta of the wrong row' $attention 's/d\[n\]\[i\] - sd\[col\]/d[n][i] - sd[col ^ 1]/' $tensor
try 'attention: no swizzle (bank conflicts)' $attention 's/(chunk ^ (row \& 7)) \* 8/chunk * 8/' bank_conflicts

simple=attention_simple.cu any=attention_of_any
try 'simple attention: window off by one' $simple 's/pos + 1 - f.window/pos - f.window/' $any
try 'simple attention: no slope of the cap in dq' $simple '0,/\* slope \* back/s//* back/' $any
try 'simple attention: a head of another group' $simple 's/head < (kv + 1) \* group/head < (kv + 1) * group - 1/' $any
try 'simple attention: old sum not scaled' $simple 's/sum = sum \* keep + warp_sum(p)/sum = sum + warp_sum(p)/' $any
cached=decode_attention.cu decode=decode_attention_tests
try 'cached attention: window off by one' $cached 's/pos + 1 - f.window/pos - f.window/' $decode
try 'cached attention: no barrier before the sum' $cached '/^  sync_block();/d' $decode
try 'cached attention: half of a page left out' $cached 's/half < PAGE; half/half < 32; half/' $decode
try 'cached attention: parts not scaled' $cached 's/total += sum\[w\] \* keep/total += sum[w]/' $decode
try 'cached attention: a page of another place' $cached 's:columns + page\]:columns + page / 2]:' $decode
try 'cached attention: what is not seen is read' $cached 's/j < 32 \&\& base + j <= pos/j < 32/' $decode
try 'cached attention: a head of another group' $cached 's|head / (f.heads / f.kv_heads)|head % f.kv_heads|' $decode
try 'cached attention: beside shared memory' $cached 's/smem<float>(WARPS \* 8)/smem<float>(WARPS * 8 + 16)/' $decode
try 'cached attention: old parts not scaled' $cached 's/p.acc\[i\] \*= keep/p.acc[i] *= 1.0f/' $decode
try 'cache: idle rows are written' $cached 's/return pos < 0 ? -1 : table/return table/' $decode
try 'cache: a value for a key' $cached 's/keys\[to\] = k\[at\]/keys[to] = v[at]/' $decode
try 'cache: rows without a slot are written' $cached 's/if (slot < 0) return;//' $decode
try 'rope: turned the wrong way' rope.cu 's/u \* c - v \* s/u * c + v * s/' ops::rope
try 'rope: the head of another row' rope.cu 's|at / half % heads|at / half % (heads + 1)|' ops::rope
heads=ops::head_norm
try 'heads: the turn of another head' head_norm.cu '0,/positions\[at \/ heads\]/s//positions[at % heads]/' $heads
try 'heads: turned the wrong way back' head_norm.cu 's/u \* c + v \* s));/u * c - v * s));/' $heads
try 'heads: a sum without its last warp' head_norm.cu 's/other < warps; other++/other + 1 < warps; other++/' $heads
try 'heads: no barrier before warps are added' head_norm.cu '/^  sync_block();/d' $heads
try 'heads: sums of half a head' head_norm.cu 's/i < 2 \* half; i += 32) squares/i < half; i += 32) squares/' $heads
try 'gated: slope without its second part' gated.cu 's/s \* (1.0f + x \* (1.0f - s))/s/' ops::gated
try 'gated: up read after it was replaced' gated.cu 's/inner\[at\] = As<T>::of(value \* u)/inner[at] = As<T>::of(value * to_f32(up[from]))/' ops::gated
try 'embedding: the last place left out' embedding.cu 's/p < end; p++/p + 1 < end; p++/' ops::embedding
try 'embedding: table replaced, not added to' embedding.cu 's/to\[i\] += sum/to[i] = sum/' ops::embedding
try 'head: parts of warps read before they are there' head.cu '/sum\[warp\] = p.sum;/{n;n;d}' ops::head
try 'head: sums of exponentials without their shift' head.cu 's/exp_(b.top - p.top) \* b.sum/b.sum/' ops::head
try 'head: no slope of the cap' head.cu '/if (cap > 0.0f) d \*= /d' ops::head
try 'optimizer: a step that is not finite is taken' optimizer.cu 's/if (clip\[2\] != 0.0f) return;//' ops::optimizer
try 'optimizer: weight decay for all' optimizer.cu 's/decays ? p \* s.keep : p/p * s.keep/' ops::optimizer
try 'optimizer: a part of the norm left out' optimizer.cu 's/first + span < n ? first + span : n/first + span < n ? first + span - 1 : n/' ops::optimizer
try 'optimizer: halves whose sign is lost' optimizer.cu 's/uint32_t(int(low))/uint32_t(uint16_t(low))/' ops::optimizer
try 'optimizer: a tie that does not give way' optimizer.cu 's/missing < 0x7fff ? missing : 0x7fff/missing/' ops::optimizer
try 'mix: the shares exchanged' mix.cu 's/share \* to_f32(x\[at\]) + rest \* y\[at\]/rest * to_f32(x[at]) + share * y[at]/' ops::mix
try 'rows: bias of the next column' rows.cu 's/bias\[at % d\]/bias[(at + 1) % d]/' ops::rows
drawing=draw.cu draws=ops::draw
try 'draw: no temperature' $drawing 's|(double(x) - r.top) / r.temperature|double(x) - r.top|' $draws
try 'draw: the nucleus stops one token early' $drawing 's/if (kept < ties \&\& (kept == 0 || double(kept) < missing)) kept++;/if (kept == 0) kept++;/' $draws
try 'draw: all ties are in the nucleus' $drawing 's/int kept = whole(missing, ties)/int kept = ties/' $draws
try 'draw: the last of equals' $drawing 's/const int number = wanted < count ? wanted : count - 1;/const int number = count - 1;/' $draws
try 'draw: the mass above is lost between digits' $drawing 's/double above = f.above, before = f.above;/double above = 0.0, before = 0.0;/' $draws
try 'draw: no barrier before bins are summed' $drawing '/bins\[at\] = bins/{n;n;d}' $draws
try 'draw: no barrier before places are read' $drawing '/chosen\[0\] = i;/{n;n;d}' $draws
try 'draw: keys of negative logits turned round' $drawing 's/bits >> 31 ? ~bits/bits >> 31 ? bits/' $draws
try 'draw: a NaN that is passed over' $drawing 's/broken > 0.0 ?/broken > 1e9 ?/' $draws
try 'draw: two zeros' $drawing 's/bits_of(x + 0.0f)/bits_of(x)/' $draws
try 'draw: a slice of ids left out' $drawing 's/double mass = 0.0;/double mass = -sums[0];/' $draws
try 'fast gate: eight numbers too few' gated_fast.cu '0,/if (col >= width) return;/s//if (col + COLS >= width) return;/' ops::gated
try 'fast gate: up of the gate' gated_fast.cu 's/u.v = load16(up + from)/u.v = load16(gate + from)/' ops::gated
try 'fast gate: inner where gate lies' gated_fast.cu 's/store16(inner + at, again.v)/store16(inner + from, again.v)/' ops::gated
try 'fast rope: the sine of the first four twice' rope_fast.cu 's/s.v\[part\] = load16(sin + angle + 4 \* part)/s.v[part] = load16(sin + angle)/' ops::rope
try 'fast rope: a head too many' rope_fast.cu 's/if (at >= heads \* half) return;/if (at > heads * half) return;/' ops::rope
try 'fast head: the target of the first row' head_fast.cu 's/targets\[row\] - first/targets[0] - first/' ops::head
try 'fast head: no slope of the cap' head_fast.cu '/if (cap > 0.0f) d \*= /d' ops::head
echo "$planted faults planted, $missed not found"
[[ $missed == 0 ]]
