//! Options of the backends. Nothing of them can change a result, so nothing is hashed.

use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// Options of this machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LocalSpec {
    /// Runs that share a GPU, each with its part of the memory; 1 if absent.
    pub runs_per_gpu: Option<NonZeroU32>,
}

/// Options of Slurm. What is absent is left to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SlurmSpec {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--qos`.
    pub qos: Option<String>,
    /// `--reservation`.
    pub reservation: Option<String>,
    /// `--constraint`.
    pub constraint: Option<String>,
    /// `--exclude`: nodes that are not used.
    pub exclude: Option<String>,
    /// `--time` of one attempt, as Slurm writes it: minutes, `H:MM:SS` or `D-HH:MM:SS`. A run that needs longer goes on in
    /// the next attempt, from the state that it saved.
    pub time: Option<String>,
    /// `--mem` of one attempt, for example `16G`.
    pub memory: Option<String>,
    /// `--gpus` of one attempt, for example `1` or `a100:1`. With this or `gres` a run computes on a GPU.
    pub gpus: Option<String>,
    /// `--gres` of one attempt, for example `gpu:1`, where a cluster wants that.
    pub gres: Option<String>,
    /// `--cpus-per-task`, and the threads of a run; 1 if absent.
    pub cpus: Option<NonZeroU32>,
    /// Further options of `sbatch`, each a word.
    pub extra: Vec<String>,
    /// Lines of shell before the program, such as `module load cuda`.
    pub prologue: Vec<String>,
    /// Most attempts that wait or run at once; 64 if absent.
    pub jobs: Option<NonZeroU32>,
    /// Of one array, most attempts that run at once.
    pub throttle: Option<NonZeroU32>,
    /// So many seconds before the time limit an attempt is asked to save its state; 180 if absent. Slurm looks about once a
    /// minute, so that less than two minutes may come to none.
    pub signal_before: Option<NonZeroU32>,
    /// Seconds between two looks at Slurm's queue; 20 if absent. There is one for all jobs.
    pub poll_seconds: Option<NonZeroU32>,
    /// An attempt that Slurm does not know, and whose heartbeat stands still for so many seconds, is given up; 300 if
    /// absent.
    pub silence_seconds: Option<NonZeroU32>,
    /// Words before every command of Slurm, such as `["ssh", "login"]`. The project must lie at the same path there.
    pub prefix: Vec<String>,
    /// The `lions` that jobs start, where it is not the one that was started here.
    pub program: Option<String>,
}

/// Commands of another scheduler. In their words `{script}` stands for the file to run, `{name}` for a name that nothing else
/// has, `{cpus}` for threads, `{handle}` for what `submit` printed, `{signal}` for `TERM` or `KILL`, `{out}` for a file that takes what
/// the script prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CommandSpec {
    /// Submits `{script}`; the last word of the first line that it prints is the handle.
    pub submit: Vec<String>,
    /// Prints a word for the state of `{handle}`.
    pub poll: Vec<String>,
    /// Ends `{handle}`.
    pub cancel: Vec<String>,
    /// State words that mean waiting, beside the usual ones.
    #[serde(default)]
    pub queued: Vec<String>,
    /// State words that mean ended, beside the usual ones.
    #[serde(default)]
    pub ended: Vec<String>,
    /// Whether each run computes on the GPU that its job is given.
    #[serde(default)]
    pub gpu: bool,
    /// Threads of each run; 1 if absent.
    #[serde(default)]
    pub cpus: Option<NonZeroU32>,
    /// Most attempts that wait or run at once; 64 if absent.
    #[serde(default)]
    pub jobs: Option<NonZeroU32>,
    /// Seconds between two looks; 20 if absent.
    #[serde(default)]
    pub poll_seconds: Option<NonZeroU32>,
    /// An attempt whose handle nobody knows, and whose heartbeat stands still for so many seconds, is given up; 300 if
    /// absent.
    #[serde(default)]
    pub silence_seconds: Option<NonZeroU32>,
    /// Lines of shell before the program.
    #[serde(default)]
    pub prologue: Vec<String>,
    /// The `lions` that jobs start, where it is not the one that was started here.
    #[serde(default)]
    pub program: Option<String>,
}
