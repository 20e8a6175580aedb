//! `lions job`: what a job of a scheduler is.

use crate::backend::{JobSignals, Launch, watch_attempt};
use crate::base::Device;
use crate::base::fs::read_to_string;
use crate::cli::error::CommandError;
use crate::cli::global::Global;
use crate::cli::numbers::at_least;
use crate::cli::project::Project;
use crate::cli::signals;
use crate::cli::ui::Ui;
use crate::plan::RunId;
use std::path::PathBuf;

// Hidden, since people never type it.
/// Watch over one attempt (what a job that `run` submits to a scheduler does)
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct JobArgs {
    /// Runs and attempts, a line each, that were submitted together; `half` behind those with half the micro-batch
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The line of this job, from 0
    #[arg(long)]
    index: usize,
    /// `cpu` or `cuda:N`, of what the job was given
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of the run
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least(1_u32))]
    threads: u32,
}

pub(crate) fn run(_ui: &Ui, global: &Global, args: &JobArgs) -> Result<u8, CommandError> {
    // First: whatever comes from now on is heard.
    let heard = JobSignals::default();
    signals::save_on_signals(&heard.stop, &heard.warned)?;
    let device: Device = args.device.parse().map_err(CommandError::user)?;
    let project = Project::find(global.root.as_deref(), None)?;
    let text = read_to_string(&args.manifest).map_err(CommandError::user)?;
    let Some((run, attempt, halved)) = text.lines().nth(args.index).and_then(entry) else {
        let (index, file) = (args.index, args.manifest.display());
        return Err(
            CommandError::user(format!("`{file}` has no attempt of number {index}"))
                .hint("`lions run` writes it and submits jobs for its lines"),
        );
    };
    let launch = Launch {
        root: project.root,
        run,
        attempt,
        device,
        card: None,
        card_memory: None,
        threads: args.threads as usize,
        halved,
    };
    let program = std::env::current_exe().map_err(CommandError::internal)?;
    watch_attempt(&program, &launch, &heard).map_err(CommandError::user)
}

/// A line of a manifest.
fn entry(line: &str) -> Option<(RunId, u32, bool)> {
    let mut words = line.split(' ');
    let (run, attempt) = (words.next()?, words.next()?);
    let halved = words.next() == Some("half");
    Some((RunId(run.to_owned()), attempt.parse().ok()?, halved))
}
