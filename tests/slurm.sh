#!/usr/bin/env bash
# Sweeps of the shipped model on a real Slurm of one node with two pretend GPUs, from `lions run` to the table: an array,
# a held job and a cancellation, by `lions cancel` and by `scancel`, a job that its node cannot start, preemption, a time limit
# with a resumed attempt, a driver that is killed and started again, and a controller that is killed and started again. Needs root and Slurm's packages (tests/slurm/up.sh), and ends with 77 where its daemons
# do not start; about four minutes.
# usage: [KEEP=DIR] tests/slurm.sh [LIONS]        (a built program; target/debug/lions if absent)
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
lions=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/debug/lions}")
work=$(mktemp -d)
driver=
finish() {
    # What it left behind says more than its last line.
    [ -z "${KEEP:-}" ] || cp -r "$work" "$KEEP"
    [ -z "$driver" ] || kill -9 "$driver" 2> /dev/null || true
    "$here/tests/slurm/down.sh" "$work/slurm" || true
    rm -rf "$work"
}
trap finish EXIT
# Not to be had is told from not right: tests/slurm/try.sh goes on then.
cannot() { echo "Slurm does not start here: $*" >&2; exit 77; }
started=$("$here/tests/slurm/up.sh" "$work/slurm") || cannot "tests/slurm/up.sh failed"
eval "$started"
[ "$(sinfo -h -o %t 2> /dev/null | sort -u)" = idle ] || cannot "its node does not come up"

# A project with the first rows of the shipped data, so that runs take seconds.
project=$work/project
mkdir -p "$project"/{models,data,sweeps}
cp -r models/stories260k "$project/models/"
cp -r sweeps/base "$project/sweeps/"
for file in data/sft/*.jsonl data/pref/*.jsonl; do
    mkdir -p "$project/$(dirname "$file")"
    head -24 "$file" > "$project/$file"
done
cat > "$project/lions.toml" <<TOML
[backend.slurm]
partition = "main"
memory = "300M"
poll-seconds = 1
time = "30"
prologue = ['echo "CARDS=\$CUDA_VISIBLE_DEVICES" >> "$work/cards"']

[profile.cards]
backend = "slurm"
gres = "gpu:1"
extra = ["--oversubscribe"]

[profile.impossible]
backend = "slurm"
memory = "4000G"

[profile.short]
backend = "slurm"
time = "1"
signal-before = 55
TOML
cd "$project"

# A sweep over β with so many steps of SFT and so many of DPO.
sweep() {
    local name=$1 sft=$2 dpo=$3 values=$4
    cat > "sweeps/$name.toml" <<TOML
extends = ["base/mini.toml"]
[sweep]
name = "$name"
question = "Does it come to its end?"
seeds = [1]
[base]
pipeline = ["sft", "dpo"]
[base.sft.recipe]
seed = 1
max-seq-len = 64
batch = { tokens = 64 }
duration = { steps = $sft }
[base.sft.runtime]
checkpoint-every-steps = 1
[base.dpo.recipe]
global-batch-size = 4
duration = { steps = $dpo }
[base.eval.recipe]
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 2 }], max-seq-len = 256 }
[[axis]]
path = "dpo.recipe.beta"
values = [$values]
[[report.table]]
name = "main"
title = "Main"
metrics = ["tales/loss"]
TOML
}

# Reads to the end: a pipe that is closed early would fail its writer.
has() { grep -e "$1" > /dev/null; }
say() { echo "== $*"; }
fail() { echo "FAILED: $*" >&2; squeue -t all -o '%i %j %T %r' >&2 || true; exit 1; }
start() { "$lions" run "sweeps/$1.toml" --backend slurm "${@:2}" > "$work/$1.log" 2>&1 & driver=$!; }
ends_well() { wait "$driver" || fail "$1: $(tail -5 "$work/$1.log")"; driver=; has_its_table "$1"; }
has_its_table() { "$lions" compare "$1" | has 'tales/loss' || fail "$1 has no table"; }
until_told() { for _ in $(seq 1200); do grep -qs "$2" "$work/$1.log" && return; sleep 0.1; done; fail "$1 never told \`$2\`: $(cat "$work/$1.log")"; }
saved_state() { for _ in $(seq 1200); do grep -qs '"checkpointed"' results/runs/*/attempts/"$1"/events.jsonl && return; sleep 0.1; done; fail "no state"; }

say "what Slurm would never start is refused before anything is queued"
sweep whole 5 3 '0.1, 0.3, 0.5, 0.7'
if "$lions" run sweeps/whole.toml --profile impossible > "$work/refused.log" 2>&1; then fail "was not refused"; fi
grep -q 'would not start such runs' "$work/refused.log" || fail "$(cat "$work/refused.log")"

say "a sweep of four trials: arrays, shared runs, the table"
start whole
ends_well whole
[ "$(ls -d results/runs/*/attempts/*/ | wc -l)" = "$(ls -d results/runs/*/ | wc -l)" ] || fail "an attempt was repeated"
ls results/jobs/*/manifest | xargs wc -l | has ' 4 results' || fail "no array of four"

say "two jobs, two GPUs"
# Stages compute on the CPU here, where no card is: what counts is which card Slurm gives to whom.
: > "$work/cards"
job() { sbatch --parsable --gres=gpu:1 --mem=100 -o /dev/null --wrap "echo CARDS=\$CUDA_VISIBLE_DEVICES >> $work/cards; sleep 2"; }
job > /dev/null; job > /dev/null
for _ in $(seq 100); do [ "$(wc -l < "$work/cards")" = 2 ] && break; sleep 0.1; done
[ "$(sort "$work/cards" | tr '\n' ' ')" = "CARDS=0 CARDS=1 " ] || fail "cards: $(cat "$work/cards")"

say "a held job waits and says why; it is cancelled and put back"
sweep held 6 2 '0.1'
scontrol update NodeName="$(hostname -s)" State=DRAIN Reason='disk is worn'
start held
until_told held '^queue .*disk is worn'
"$lions" status held | tr -s ' \n' ' ' | has 'waits at the scheduler: .*disk is worn' || fail "$("$lions" status held)"
run=$("$lions" status held --json | python3 -c 'import json,sys; print([r["id"] for r in json.load(sys.stdin)["runs"] if r["kind"]=="sft"][0][:12])')
"$lions" why "$run" | has 'has waited at the scheduler' || fail "$("$lions" why "$run")"
"$lions" cancel "$run"
if wait "$driver"; then fail "a cancelled sweep succeeded"; fi
driver=
scontrol update NodeName="$(hostname -s)" State=RESUME
for _ in $(seq 100); do [ "$(sinfo -h -o %t)" = idle ] && break; sleep 0.1; done
[ -z "$(squeue -h -t pending,running)" ] || fail "the job was not cancelled"
start held --retry
ends_well held

say "what a person cancels at Slurm is cancelled, whether it waits or is at work"
sweep scancelled 120 2 '0.1'
for state in pending running; do
    rm -rf results
    [ $state = running ] || scontrol update NodeName="$(hostname -s)" State=DRAIN Reason='disk is worn'
    start scancelled
    if [ $state = running ]; then saved_state 001; else until_told scancelled '^queue .*disk is worn'; fi
    scancel --user="$(id -un)"
    if wait "$driver"; then fail "a cancelled sweep succeeded"; fi
    driver=
    "$lions" status scancelled | has cancelled || fail "$("$lions" status scancelled)"
    [ $state = running ] || scontrol update NodeName="$(hostname -s)" State=RESUME
done

say "a job that its node cannot start is no cancellation: the run has another attempt"
rm -rf results
printf '#!/bin/sh\n[ ! -e %s/broken ]\n' "$work" > "$work/prolog"
chmod +x "$work/prolog"
cp "$SLURM_CONF" "$work/slurm.conf"
echo "Prolog=$work/prolog" >> "$SLURM_CONF"
scontrol reconfigure
touch "$work/broken"
sweep unstartable 5 2 '0.1'
start unstartable
until_told unstartable 'could not start its job'
rm "$work/broken"
scontrol update NodeName="$(hostname -s)" State=RESUME
ends_well unstartable
cp "$work/slurm.conf" "$SLURM_CONF"
scontrol reconfigure

say "a job of a higher partition takes the place; the run goes on from its state"
rm -rf results
sweep taken 120 2 '0.1'
start taken
until_told taken '^start  sft'
saved_state 001
sbatch --parsable -p urgent --exclusive -o /dev/null --wrap 'sleep 2' > /dev/null
until_told taken 'another job took its place'
ends_well taken
grep -q '"resumed"' results/runs/*/attempts/002/events.jsonl || fail "not resumed"

say "a time limit: the state is saved before it, and the run goes on in the next job"
rm -rf results
sweep limit 6000 2 '0.1'
"$lions" run sweeps/limit.toml --profile short > "$work/limit.log" 2>&1 & driver=$!
for _ in $(seq 1500); do grep -q 'its time at the scheduler was up' "$work/limit.log" && break; sleep 0.1; done
grep -q 'its time at the scheduler was up' "$work/limit.log" || fail "$(cat "$work/limit.log")"
saved_state 002
kill -TERM "$driver"; wait "$driver" || true; driver=
"$lions" cancel limit > /dev/null
"$lions" run sweeps/limit.toml --backend slurm > "$work/limit2.log" 2>&1 || true
grep -q '"resumed"' results/runs/*/attempts/002/events.jsonl || fail "not resumed"
[ -z "$(squeue -h -t pending,running)" ] || fail "a job was left: $(squeue)"

say "a driver that is killed again and again loses nothing and repeats nothing"
rm -rf results
sweep killed 40 10 '0.1, 0.5'
for pause in 0 0.1 0.2 0.4 0.7 1.1 1.6 2.2 0.3 1.9; do
    start killed
    # Not before it has begun, however slow the machine is.
    until_told killed .
    sleep "$pause"
    kill -9 "$driver" 2> /dev/null || true
    wait "$driver" 2> /dev/null || true
done
start killed
ends_well killed
for folder in results/runs/*/; do
    finished=$(grep -ls '"finished"' "$folder"attempts/*/events.jsonl | wc -l)
    [ "$finished" = 1 ] || fail "$folder finished $finished times"
done

say "a controller that is killed and started again"
rm -rf results
sweep controller 120 2 '0.1'
start controller
until_told controller '^start  sft'
saved_state 001
kill -9 "$(cat "$work/slurm/slurmctld.pid")"
sleep 5
slurmctld -f "$SLURM_CONF"
# It goes on from what it saved last, and may give a job a number that the node remembers: the node refuses it ("Duplicate jobid") and is
# drained, as the run's line says, until its administrator lets it go on.
while kill -0 "$driver" 2> /dev/null; do
    sinfo -h -o %T | has drain && scontrol update NodeName="$(hostname -s)" State=RESUME || true
    sleep 1
done
ends_well controller
for folder in results/runs/*/; do
    finished=$(grep -ls '"finished"' "$folder"attempts/*/events.jsonl | wc -l)
    [ "$finished" = 1 ] || fail "$folder finished $finished times"
done
say "all well"
