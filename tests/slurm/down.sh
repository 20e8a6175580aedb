#!/usr/bin/env bash
# Stops what up.sh started in a folder.
# usage: tests/slurm/down.sh DIR
set -u
dir=$(realpath -m "${1:?usage: down.sh DIR}")
SLURM_CONF="$dir/etc/slurm.conf" scancel --quiet --user="$(id -un)" 2> /dev/null
sleep 1
for file in slurmd.pid slurmctld.pid munge/munged.pid; do
    [ -f "$dir/$file" ] && kill "$(cat "$dir/$file")" 2> /dev/null
done
for _ in $(seq 100); do
    alive=no
    for file in slurmd.pid slurmctld.pid munge/munged.pid; do
        [ -f "$dir/$file" ] && kill -0 "$(cat "$dir/$file")" 2> /dev/null && alive=yes
    done
    [ "$alive" = no ] && exit 0
    sleep 0.1
done
# None may be left, however it hangs.
for file in slurmd.pid slurmctld.pid munge/munged.pid; do
    [ -f "$dir/$file" ] && kill -9 "$(cat "$dir/$file")" 2> /dev/null
done
exit 1
