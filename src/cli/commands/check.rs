//! `lions check`.

use crate::cli::error::{CommandError, exit_code};
use crate::cli::global::{DONE, Global};
use crate::cli::preflight::{Look, Told};
use crate::cli::project::Project;
use crate::cli::sweep_file::{Changes, SweepFile, refuse_one_name_twice};
use crate::cli::text::counted;
use crate::cli::ui::{Tone, Ui};
use crate::config::Inputs;
use crate::config::sweep::Sweep;
use crate::preflight::Depth;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Check sweep files and what they would use, without running anything
///
/// Reads each file and everything it extends, expands it into trials, types each of them and checks
/// the rules across fields. Then opens what the trials would use: model folders (`config.json` against
/// the headers of the weights, tokenizer, template) and data files (every row is read, of a file with
/// more than 16 MiB of text the beginning; a sample goes through template and tokenizer). Any mistake is shown at its place with the nearest valid name.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Sweep files
    #[arg(required = true, value_name = "SWEEP")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    /// Send every row through template and tokenizer, and read files above 16 MiB to their end
    #[arg(long)]
    deep: bool,
}

impl CheckArgs {
    /// Of one file, as if it were typed.
    pub(crate) fn of(file: PathBuf) -> Self {
        Self {
            files: vec![file],
            changes: Changes::default(),
            deep: false,
        }
    }
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &CheckArgs) -> Result<u8, CommandError> {
    let near = args.files.first().map(PathBuf::as_path);
    let project = Project::find(global.root.as_deref(), near)?;
    let depth = if args.deep {
        Depth::EveryRow
    } else {
        Depth::Sample
    };
    let mut look = Look::new(&project, depth);
    let (mut names, mut shown) = (Vec::new(), Vec::new());
    let mut code = DONE;
    for file in &args.files {
        let word = SweepFile {
            file: file.clone(),
            changes: args.changes.clone(),
        };
        let loaded = word.load_placed(ui, &project, Inputs::Required);
        let (sweep, places) = match loaded {
            Ok(loaded) => loaded,
            // With several files the others are looked at all the same.
            Err(error) if args.files.len() > 1 => {
                ui.error(&error);
                code = exit_code::USER;
                continue;
            }
            Err(error) => return Err(error),
        };
        word.warn_of_same_name(ui, &project, &sweep);
        let told = look.tell(ui, &sweep, &places);
        if told.errors > 0 {
            code = exit_code::USER;
        }
        if ui.json {
            shown.push(as_json(&sweep, &told));
        } else {
            ui.out(&verdict(ui, &sweep, &told));
        }
        names.push((file.clone(), sweep.name));
    }
    match (ui.json, shown.as_slice()) {
        (false, _) => {}
        (true, [one]) if args.files.len() == 1 => ui.print_json(one)?,
        (true, _) => ui.print_json(&shown)?,
    }
    refuse_one_name_twice(&names)?;
    Ok(code)
}

fn as_json(sweep: &Sweep, told: &Told) -> Value {
    json!({
        "sweep": sweep.name, "question": sweep.question, "trials": sweep.trials.len(),
        "configurations": configurations(sweep), "axes": sweep.axes, "problems": told.listed,
    })
}

/// `quickstart` is fine: 15 configurations, 45 trials.
fn verdict(ui: &Ui, sweep: &Sweep, told: &Told) -> String {
    let trials = counted(sweep.trials.len(), "trial");
    let configs = counted(configurations(sweep), "configuration");
    if told.errors > 0 {
        let errors = counted(told.errors, "problem");
        let word = ui.tone(Tone::Bad, "not ok");
        return format!("{word} `{}`: {errors} in {configs}, {trials}", sweep.name);
    }
    let warnings = match told.warnings {
        0 => String::new(),
        some => format!(", {}", counted(some, "warning")),
    };
    let word = ui.tone(Tone::Good, "ok");
    format!(
        "{word} `{}` is fine: {configs}, {trials}{warnings}",
        sweep.name
    )
}

/// Number of distinct assignments, seeds apart.
fn configurations(sweep: &Sweep) -> usize {
    let mut seen: Vec<_> = sweep
        .trials
        .iter()
        .map(|trial| format!("{:?}", trial.assignments))
        .collect();
    seen.sort_unstable();
    seen.dedup();
    seen.len()
}
