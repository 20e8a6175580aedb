#!/usr/bin/env bash
# Whether Slurm's programs are here; installs them where root has apt. Nothing is started by the packages.
set -u
there() {
    for program in slurmctld slurmd munged sbatch squeue scancel; do
        command -v "$program" > /dev/null || return 1
    done
}
there && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || exit 1
apt-get update -qq > /dev/null 2>&1
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurmctld slurmd slurm-client slurm-wlm munge \
    > /dev/null 2>&1
there
