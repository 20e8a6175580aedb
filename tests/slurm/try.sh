#!/usr/bin/env bash
# tests/slurm.sh where it can be: on Linux, as root, with Slurm's programs there or to be had from apt. Where it cannot, one line says
# why, and that is no failure; an assertion that fails is one, and so is a test that is not done in time.
# usage: [LIONS_SLURM_LIMIT=480] tests/slurm/try.sh [LIONS]        (seconds; a built program, target/debug/lions if absent)
set -u
cd "$(dirname "$0")/../.."
limit=${LIONS_SLURM_LIMIT:-480}
left_out() { echo "Slurm is left out: $*"; exit 0; }
[ "$(uname)" = Linux ] || left_out "this is no Linux"
[ "$(id -u)" = 0 ] || left_out "its daemons want root"
command -v python3 > /dev/null || left_out "its test wants a python3"
# A package manager may wait for another one for ever.
timeout --kill-after=5 180 tests/slurm/install.sh < /dev/null || left_out "its programs are not here, and apt does not install them"
timeout --kill-after=60 "$limit" tests/slurm.sh "$@" < /dev/null
code=$?
case $code in
    77) left_out "its daemons do not start here" ;;
    124 | 137) echo "Slurm's test was not done after $limit s" >&2; exit 1 ;;
esac
exit $code
