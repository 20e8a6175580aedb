#!/usr/bin/env bash
# Starts a Slurm of one node in a folder, as root and without systemd, with two pretend GPUs and two partitions: `main`
# and `urgent`, whose jobs take the place of those in `main`. Prints the variable that the commands of Slurm want.
# usage: tests/slurm/up.sh DIR        (packages: slurmctld slurmd slurm-client munge)
set -euo pipefail
dir=$(realpath -m "${1:?usage: up.sh DIR}")
host=$(hostname -s)
mkdir -p "$dir"/{state,spool,log,etc}
install -d -m 700 "$dir/munge"
[ -f "$dir/munge/munge.key" ] || (umask 077; head -c 1024 /dev/urandom > "$dir/munge/munge.key")
cat > "$dir/etc/slurm.conf" <<CONF
ClusterName=loop
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/munge.socket
CredType=cred/munge
SlurmctldPort=${LIONS_SLURM_PORT:-16817}
SlurmdPort=$((${LIONS_SLURM_PORT:-16817} + 1))
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=10000,bf_interval=2
ReturnToService=2
SwitchType=switch/none
MpiDefault=none
KillWait=15
MinJobAge=300
JobRequeue=1
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE OverSubscribe=NO
PartitionName=urgent Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF OverSubscribe=NO
CONF
# Slurm takes only devices for GPUs; nobody opens these.
for card in 0 1; do
    [ -c "$dir/gpu$card" ] || mknod "$dir/gpu$card" c 240 "$card"
done
echo "NodeName=$host Name=gpu File=$dir/gpu[0-1] Flags=nvidia_gpu_env" > "$dir/etc/gres.conf"
echo "CgroupAutomount=no" > "$dir/etc/cgroup.conf"
export SLURM_CONF="$dir/etc/slurm.conf"
munge="$dir/munge"
munged --force --key-file="$munge/munge.key" --socket="$munge/munge.socket" --pid-file="$munge/munged.pid" \
    --log-file="$munge/munged.log" --seed-file="$munge/munged.seed" 2> /dev/null
slurmctld -i -f "$SLURM_CONF"
for _ in $(seq 100); do scontrol ping > /dev/null 2>&1 && break; sleep 0.1; done
slurmd -f "$SLURM_CONF" -N "$host"
for _ in $(seq 150); do
    [ "$(sinfo -h -o %t 2> /dev/null | sort -u)" = idle ] && break
    sleep 0.2
done
sinfo -N -h -o '%N %t %G %c %m %E' >&2
echo "export SLURM_CONF=$SLURM_CONF"
