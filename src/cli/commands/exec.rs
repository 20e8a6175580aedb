//! `lions exec`: one attempt, as the runner or a cluster starts it.

use crate::backend::{end_with_runner, git_state};
use crate::base::{Device, Shutdown};
use crate::cli::cards::access;
use crate::cli::error::{CommandError, ErrorKind, exit_code};
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::at_least;
use crate::cli::project::Project;
use crate::cli::signals;
use crate::cli::ui::Ui;
use crate::gpu::cards;
use crate::model::instruction_set;
use crate::plan::{DIGESTS_PATH, DigestCache, RunId};
use crate::rundir::{Facts, FailureClass, RunDir};
use crate::stage::{DeviceAccess, StageContext, StageError, execute};
use std::path::Path;

/// Carry out one attempt of a run in its folder (what `run` starts for each run)
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// The run: all 64 digits
    #[arg(long)]
    run: String,
    /// The attempt's number, from 1
    #[arg(long, value_parser = at_least(1_u32))]
    attempt: u32,
    /// `cpu`, `cuda:N` or `cuda:N+M`
    #[arg(long, default_value = "cpu")]
    device: String,
    /// The card's own name (`GPU-…`), which goes before its number: what a process is shown is numbered anew
    #[arg(long, value_name = "NAME", hide = true)]
    card: Option<String>,
    /// Bytes of the card that this run may allocate, where others have the rest of it
    #[arg(long, value_name = "BYTES", hide = true)]
    card_memory: Option<u64>,
    /// Compute with half the micro-batch, since memory ran out before
    #[arg(long, hide = true)]
    half_micro_batch: bool,
    /// Process number of the runner, to end with it
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<u32>,
    /// A scheduler started it, which repeats its signals and kills by itself
    #[arg(long, hide = true)]
    scheduled: bool,
}

pub(crate) fn run(_ui: &Ui, global: &Global, args: &ExecArgs) -> Result<u8, CommandError> {
    if let Some(parent) = args.parent {
        end_with_runner(parent).map_err(CommandError::user)?;
    }
    let device: Device = args.device.parse().map_err(CommandError::user)?;
    let project = Project::find(global.root.as_deref(), None)?;
    let shutdown = Shutdown::new();
    if args.scheduled {
        signals::save_on_signals(&shutdown, &shutdown)?;
    } else {
        signals::stop_on_signals(&shutdown)?;
    }
    let run_dir = prepared(&project, &args.run)?;
    let mut context = StageContext::new(project.root, run_dir, args.attempt);
    context.device = device;
    context.access = DeviceAccess {
        card: args.card.clone(),
        memory: args.card_memory,
        ..access()
    };
    context.shutdown = shutdown;
    context.halved = args.half_micro_batch;
    context.argv = std::env::args().collect();
    context.facts = facts(&context.root, device);
    context.secret = secret;
    match execute(&context) {
        Ok(_) => Ok(DONE),
        Err(StageError::Interrupted) => Ok(exit_code::INTERRUPTED),
        Err(error) => {
            let kind = match error.class() {
                FailureClass::Internal => ErrorKind::Internal,
                _ => ErrorKind::User,
            };
            Err(CommandError::of(kind, error))
        }
    }
}

/// What computes here, for the record.
fn facts(root: &Path, device: Device) -> Facts {
    // `lions run` has digested the program already, and remembered it.
    let mut digests = DigestCache::load(&root.join(DIGESTS_PATH));
    let program = std::env::current_exe().ok();
    let program = program.and_then(|path| digests.file(&path).ok()?);
    // Of several cards, which should be alike, the first.
    let shown = match device.cards()[..] {
        [index, ..] => cards().ok().map(|shown| (shown, index as usize)),
        [] => None,
    };
    let card = shown.as_ref().and_then(|(shown, index)| {
        let mut cards = shown.cards.iter();
        cards.find(|card| card.index == *index)
    });
    Facts {
        program: program.map(|digest| digest.to_string()),
        project: git_state(root),
        instructions: Some(instruction_set().to_owned()),
        card: card.map(|card| card.name.clone()),
        driver: shown.as_ref().and_then(|(shown, _)| shown.release.clone()),
        ..Facts::of_this_machine()
    }
}

/// The folder of a run, which `lions run` makes before it starts an attempt. An attempt at any other
/// id would leave a folder behind that is no run's.
fn prepared(project: &Project, run: &str) -> Result<RunDir, CommandError> {
    let dir = RunDir::new(&project.root, &RunId(run.to_owned()));
    if run.bytes().all(|digit| digit.is_ascii_hexdigit()) && dir.stage().is_file() {
        return Ok(dir);
    }
    let root = project.root.display();
    Err(
        CommandError::user(format!("no run `{run}` is prepared in `{root}`")).hint(
            "`lions run` prepares runs and starts their attempts; `--root` names the project",
        ),
    )
}

/// A key that a stage asks for by the name of its environment variable.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment is read in cli, on behalf of the stage"
)]
fn secret(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
