#!/usr/bin/env bash
# How this folder was made, by lions 0.1.0, whose store has schema 1.
# It is history: a new version of the store gets a folder of its own, made by the last program that
# wrote the old one, and this one stays.
#
#   make.sh <lions> <repository> <this folder>
#
# Left out: models, saved states and logs, which no reader needs. Written over: the machine's name
# and paths.
set -euo pipefail
lions=$(realpath "$1") repository=$(realpath "$2") to=$(realpath "$3")
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
mkdir -p "$project"/{models,data/sft,data/pref,sweeps}
cp -r "$repository/models/stories260k" "$project/models/"
cp -r "$repository/sweeps/base" "$project/sweeps/"
cp "$to/old.toml" "$project/sweeps/"
for file in "$repository"/data/{sft,pref}/*.jsonl; do
  head -n 24 "$file" >"$project/data/${file#"$repository"/data/}"
done
(cd "$project" && "$lions" run sweeps/old.toml --jobs 2 --no-report)

rm -rf "$to/results"
mkdir -p "$to/results/runs"
for run in "$project"/results/runs/*; do
  (
    cd "$run"
    kept="$to/results/runs/$(basename "$run")"
    for file in identity.json stage.json outcome.json artifacts/rows.jsonl \
      artifacts/batch_layout.json attempts/*/events.jsonl attempts/*/provenance.json; do
      [ ! -f "$file" ] || install -Dm644 "$file" "$kept/$file"
    done
  )
done
sed -i -z -E 's/"host": "[^"]*"/"host": "machine"/; s/"argv": \[[^]]*\]/"argv": ["lions", "exec"]/' \
  "$to"/results/runs/*/attempts/*/provenance.json
sqlite3 "$project/results/lions.db" "
  PRAGMA wal_checkpoint(TRUNCATE);
  PRAGMA journal_mode = DELETE;
  UPDATE attempt SET owner = 'machine-1-0-0', handle = NULL;
  VACUUM INTO '$to/results/lions.db';"
