#!/usr/bin/env bash
# A stranger's first day: from a clone of this repository and a folder with a model and two files of rows to a plotted
# sweep over β by three commands, and then what else a first day asks for. Says how long each step took; ends at the
# first that does not do what it should.
# Usage: tests/first_day.sh                    clones and builds (minutes)
#        LIONS=target/debug/lions tests/first_day.sh     with a program that is built already
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step() {
    local began=$EPOCHREALTIME
    "${@:2}" > "$work/out" 2> "$work/err" || {
        echo "no   $1: ${*:2}" >&2
        cat "$work/out" "$work/err" >&2
        exit 1
    }
    awk -v a="$began" -v b="$EPOCHREALTIME" -v what="$1" 'BEGIN { printf "yes  %6.1f s  %s\n", b - a, what }'
}
said() { grep -q -- "$1" "$work/out" "$work/err" || { echo "no   nothing says \`$1\`" >&2; cat "$work/out" "$work/err" >&2; exit 1; }; }

if [ -z "${LIONS:-}" ]; then
    step "a fresh clone" git clone -q "$here" "$work/lions"
    step "it builds" env -C "$work/lions" cargo build --release --locked
    LIONS=$work/lions/target/release/lions
fi
lions=$(realpath "$LIONS")
# What a stranger has: a model folder and two files, none of them in a project.
mkdir "$work/have"
cp -r "$here/models/stories260k" "$work/have/model"
head -60 "$here/data/sft/instruct_train.jsonl" > "$work/have/talks.jsonl"
head -60 "$here/data/pref/polite_train.jsonl" > "$work/have/choices.jsonl"
cd "$work"

step "1 init" "$lions" init mine --model have/model --sft have/talks.jsonl --pairs have/choices.jsonl
said "is fine: 3 configurations, 9 trials"
step "2 plan" "$lions" plan mine/sweeps/first.toml
step "3 run" "$lions" run mine/sweeps/first.toml
test -s mine/reports/first/figures/beta.svg && echo "yes            a plotted sweep over β by three commands"

cd mine
step "run again does nothing" "$lions" run sweeps/first.toml
said "nothing to do"
step "compare" "$lions" compare first
step "compare as LaTeX" "$lions" compare first --format latex
step "a sweep without a file" "$lions" run --axis dpo.recipe.beta=0.05,0.2 --seeds 1,2 --name quick --base base/first.toml
test -s reports/quick/figures/beta.svg
step "one value changed" "$lions" plan sweeps/first.toml --set dpo.recipe.max-examples=16
said "first+dpo.recipe.max-examples=16"
step "a part of it" "$lions" run sweeps/first.toml --where beta=0.1 --only dpo
step "two sweeps in a table" "$lions" compare first quick
step "a note" "$lions" note first "looks fine"
step "status shows it" "$lions" status first
said "looks fine"
run=$("$lions" status first --only dpo --json | tr ',{' '\n\n' | sed -n 's/.*"id": *"\([0-9a-f]\{12\}\).*/\1/p' | tail -1)
step "what computed a run" "$lions" show "$run"
said "computed by"
step "the same for TRL" "$lions" export-recipe "$run" --out trl.yaml
step "and back" "$lions" init ../back --from trl trl.yaml --model ../have/model --pairs ../have/choices.jsonl
step "a model that transformers opens" "$lions" export "$run" --out model-out
test -s model-out/config.json && test -s model-out/lions.json
step "completions" "$lions" completions bash
step "manual pages" "$lions" man man1
test -s man1/lions-run.1
echo "yes            the whole day"
