#!/usr/bin/env bash
# Builds target/dist/lions-VERSION-TARGET.tar.gz: the program, manual pages, completions, licences, documents, and the
# shipped model, data and sweeps, so that what is unpacked runs the quickstart.
# Usage: ./release.sh [TARGET]          a target of rustc, for example x86_64-unknown-linux-musl; else this machine's
#        PROGRAM=target/release/lions ./release.sh   packs a program that is built already
set -euo pipefail
cd "$(dirname "$0")"
target=${1:-$(rustc -vV | sed -n 's/^host: //p')}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
if [ -z "${PROGRAM:-}" ]; then
    cargo build --release --locked ${1:+--target "$1"}
    PROGRAM=target/${1:+$1/}release/lions
fi
name=lions-$version-$target
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$name"/{man/man1,completions,docs} target/dist
cp "$PROGRAM" "$stage/$name/lions"
"$PROGRAM" man "$stage/$name/man/man1" >&2
for shell in bash zsh fish; do
    "$PROGRAM" completions "$shell" > "$stage/$name/completions/lions.$shell"
done
cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$stage/$name/"
cp docs/*.md "$stage/$name/docs/"
cp -r sweeps models data "$stage/$name/"
# The same bytes for the same files: names in order, one owner, the time of the last commit.
stamp=$(git log -1 --format=%ct 2>/dev/null || echo 0)
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$stamp" -C "$stage" -cf - "$name" \
    | gzip -n > "target/dist/$name.tar.gz"
echo "target/dist/$name.tar.gz"
