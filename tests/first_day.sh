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
refuses() { ! "$@"; }
# Runs of a stage of the sweep `first`, by their ids.
ids() { "$lions" status first --only "$1" --json | tr ',{' '\n\n' | sed -n 's/.*"id": *"\([0-9a-f]\{12\}\).*/\1/p'; }
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
for n in $(seq 40); do
    echo '{"talk": [{"from": "human", "value": "Say '"$n"'"}, {"from": "gpt", "value": "'"$n"' it is."}]}'
done > "$work/have/turns.jsonl"
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
run=$(ids dpo | tail -1)
step "what computed a run" "$lions" show "$run"
said "computed by"
step "the same for TRL" "$lions" export-recipe "$run" --out trl.yaml
step "and back" "$lions" init ../back --from trl trl.yaml --model ../have/model --pairs ../have/choices.jsonl
step "a model that transformers opens" "$lions" export "$run" --out model-out
test -s model-out/config.json && test -s model-out/lions.json
step "what a run would be, before it runs" "$lions" config show sweeps/first.toml --trial 0
said beta
step "every field for an editor" "$lions" schema
step "a mistake is found before work" refuses "$lions" check sweeps/first.toml --set dpo.recipe.lr=1e-5
said "learning-rate"
step "why a run stands where it does" "$lions" why "$run"
step "the log of a run" "$lions" log "$run"
said "finished"
step "loss along training" "$lions" show "$run"
said "loss"
step "two runs apart" "$lions" diff "$(ids dpo | head -1)" "$(ids dpo | tail -1)"
said "beta"
step "status follows to the end" "$lions" status first --watch
step "tables for a spreadsheet" "$lions" compare first --format csv
step "tables for a text" "$lions" compare first --format markdown
step "tables for a program" "$lions" compare first --json
step "samples of the rows as the model sees them" "$lions" inspect sweeps/first.toml --stage dpo
for form in csv jsonl parquet tensorboard; do step "results as $form" "$lions" store export --format "$form" "out-$form"; done
step "rows of another form" "$lions" run --axis sft.recipe.optimizer.learning-rate=1e-4,1e-3 --seeds 1,2 --name other --base base/first.toml \
    --set "sft.recipe.data=[{ path = \"../have/turns.jsonl\", columns = { conversations = \"talk\" } }]" --only sft
cat > sweeps/drawn.toml <<'TOML'
extends = ["base/first.toml"]
[sweep]
name = "drawn"
question = "Which rate?"
seeds = [1]
[search]
random = { draws = 4, seed = 1 }
[[axis]]
path = "dpo.recipe.optimizer.learning-rate"
range = { from = 1e-5, to = 1e-3, log = true }
TOML
step "points drawn at random" "$lions" plan sweeps/drawn.toml
said "4 times"
step "an hour and no more" "$lions" run sweeps/first.toml --until 1h --budget 1h
step "what is stored is whole" "$lions" store verify
step "what could be deleted" "$lions" gc first
step "a sweep that is no more" "$lions" rm quick --yes
step "a database made anew" "$lions" store rebuild
step "and still its table" "$lions" compare first
step "a reply of the model" "$lions" generate "$run" "Tom had a red ball." --max-new-tokens 8
step "the machine" "$lions" doctor
step "completions" "$lions" completions bash
step "manual pages" "$lions" man man1
test -s man1/lions-run.1
echo "yes            the whole day"
