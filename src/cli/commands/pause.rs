//! `lions pause`.

use crate::base::{Clock as _, SystemClock, Timestamp};
use crate::cli::commands::cancel::{Named, named};
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::text::counted;
use crate::cli::ui::Ui;
use crate::store::Store;
use serde_json::json;

/// Start nothing more of sweeps or runs until `resume`
///
/// What is running saves its state and stops; a `lions run` that is running heeds it at once and waits.
/// Of runs that sweeps share, those that are not paused go on. A sweep that is halved is paused with its rungs, also
/// with those to come.
#[derive(Debug, clap::Args)]
pub(crate) struct PauseArgs {
    /// Runs, by the first digits of their ids, or sweeps, by name or file
    #[arg(required = true)]
    what: Vec<String>,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &PauseArgs) -> Result<u8, CommandError> {
    let since = Some(SystemClock.now());
    let done = order(global, &args.what, since)?;
    if ui.json {
        ui.print_json(&json!({ "paused": done.changed, "paused_before": done.unchanged }))?;
        return Ok(DONE);
    }
    let before = match done.unchanged {
        0 => String::new(),
        count => format!(", {count} paused before"),
    };
    ui.text(&format!(
        "{} paused{before}; `lions resume` lets it go on",
        done.changed_text()
    ));
    Ok(DONE)
}

/// What pausing or resuming did.
#[derive(Default)]
pub(crate) struct Ordered {
    pub(crate) changed: usize,
    pub(crate) unchanged: usize,
    sweeps: usize,
}

impl Ordered {
    /// `1 sweep`, `2 runs`, `1 sweep and 2 runs`.
    pub(crate) fn changed_text(&self) -> String {
        let runs = self.changed - self.sweeps;
        match (self.sweeps, runs) {
            (0, runs) => counted(runs, "run"),
            (sweeps, 0) => counted(sweeps, "sweep"),
            (sweeps, runs) => format!("{} and {}", counted(sweeps, "sweep"), counted(runs, "run")),
        }
    }
}

/// Pauses what the words mean since a time, or takes that back.
pub(crate) fn order(
    global: &Global,
    words: &[String],
    since: Option<Timestamp>,
) -> Result<Ordered, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let named = named(&project, &must_open(&project)?, words)?;
    let mut store = Store::of_project(&project.root).map_err(store_error)?;
    let mut done = Ordered::default();
    for word in named {
        let changed = match &word {
            Named::Sweep { name, .. } => store.pause_sweep(name, since),
            Named::Run(run) => store.pause_run(run, since),
        };
        if changed.map_err(store_error)? {
            done.changed += 1;
            done.sweeps += usize::from(matches!(word, Named::Sweep { .. }));
        } else {
            done.unchanged += 1;
        }
    }
    Ok(done)
}
