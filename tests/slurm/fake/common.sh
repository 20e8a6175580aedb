# A Slurm that tests script, for machines without one. Its state lies in $FAKE_SLURM: `jobs/NAME.INDEX/` for each job (its
# array's number, script, process and how it ended), and files by which a test says what is odd:
#   hold   jobs wait, for the reason in the file        down   no command is answered
#   word   the state word of jobs at work               forget no job is known
#   more   further lines of the queue                   refuse what `sbatch` says instead of taking a job
#   lost   `sbatch` takes the job and fails all the same
#   unstartable  so many jobs are given a node that cannot start them, and are cancelled there
#   die    whoever asks is killed, `before` the jobs are taken or `after` that, as the file says; once
dir=${FAKE_SLURM:?}
mkdir -p "$dir/jobs"
echo "$(basename "$0") $*" >> "$dir/asked"

unreachable() {
    if [ -e "$dir/down" ]; then
        echo "$1: error: Unable to contact slurm controller (connect failure)" >&2
        exit 1
    fi
}

# Kills whoever asked, if that was wanted now.
die() {
    if [ "$(cat "$dir/die" 2> /dev/null)" = "$1" ]; then
        rm "$dir/die"
        kill -9 $PPID
        exit 1
    fi
}

# Starts a job's script as Slurm does, out of the reach of whoever submitted it.
begin() {
    local job=$1 index=${1##*.} left
    left=$(cat "$dir/unstartable" 2> /dev/null || echo 0)
    if [ "$left" -gt 0 ]; then
        echo $((left - 1)) > "$dir/unstartable"
        touch "$job/cancelled"
        echo begun > "$job/state"
        return
    fi
    SLURM_ARRAY_TASK_ID=$index setsid bash -c '
        echo $$ > "$1/pid"
        script=$(cat "$1/script")
        bash "$script" >> "$(dirname "$script")/$SLURM_ARRAY_TASK_ID.out" 2>&1
        echo $? > "$1/code"
    ' _ "$job" > /dev/null 2>&1 < /dev/null &
    echo begun > "$job/state"
}

# Processes of a job: the one that was started and what it has started.
members() {
    ps -o pid= -g "$(cat "$1/pid")" 2> /dev/null
}

# The node that a job was given.
node_of() {
    [ -e "$1/state" ] && echo node1
}

state_of() {
    local job=$1
    if [ -e "$job/cancelled" ]; then
        echo CANCELLED
    elif [ -e "$job/code" ]; then
        if [ "$(cat "$job/code")" = 0 ]; then echo COMPLETED; else echo FAILED; fi
    elif [ ! -e "$job/state" ]; then
        echo PENDING
    else
        cat "$dir/word" 2> /dev/null || echo RUNNING
    fi
}
