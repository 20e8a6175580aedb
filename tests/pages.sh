#!/usr/bin/env bash
# Pictures of every kind of page of `lions serve`: light and dark, wide and narrow.
# usage: tests/pages.sh LIONS PROJECT FOLDER      (the program, a project in which something has run, where pictures go)
set -euo pipefail
lions=$(realpath "$1") project=$(realpath "$2") folder=$3
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || { echo "no Chromium here" >&2; exit 1; }
mkdir -p "$folder"
profile=$(mktemp -d)
coproc server { exec "$lions" serve --port 0 --root "$project" 2>/dev/null; }
server_pid=$server_PID
trap 'kill "$server_pid" 2>/dev/null || true; rm -rf "$profile"' EXIT
read -r url <&"${server[0]}"
sweep=$(curl -s "${url}api/sweeps" | python3 -c 'import json,sys; print(json.load(sys.stdin)["sweeps"][0]["name"])')
run_of() { curl -s "${url}api/sweeps/$sweep/runs?size=1000" | python3 -c 'import json,sys; print(*[r["run"][:12] for r in json.load(sys.stdin)["runs"] if r["stage"] == sys.argv[1]][:2])' "$1"; }
read -r one two <<< "$(run_of dpo)"
read -r eval _ <<< "$(run_of eval)"
for page in sweeps: "sweep:sweeps/$sweep" "run:runs/$one" "eval:runs/$eval" "curves:curves?run=$one&run=$two"; do
  for width in 390 1280; do
    for scheme in light dark; do
      dark=(); [ $scheme = dark ] && dark=(--blink-settings=preferredColorScheme=0)
      "$browser" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" "${dark[@]}" \
        --window-size=$width,2400 --virtual-time-budget=8000 --screenshot="$folder/${page%%:*}-$width-$scheme.png" "$url${page#*:}" 2>/dev/null
    done
  done
done
ls "$folder"
