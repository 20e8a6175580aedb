//! `lions log`.

use crate::cli::commands::show::find;
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::at_least;
use crate::cli::project::Project;
use crate::cli::text::{counted, measured};
use crate::cli::ui::{Tone, Ui};
use crate::report::display_width;
use crate::rundir::{
    AttemptDir, AttemptEvent, JournalReader, RunDir, attempt_numbers, is_locked, tail_lines,
};
use std::time::Duration;

/// Show what a run said: its events, then what its process wrote
#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// Run, by the first digits of its id
    id: String,
    /// Attempt [default: the last]
    #[arg(long, value_name = "N", value_parser = at_least(1_u32))]
    attempt: Option<u32>,
    /// Last lines of the process's output to show
    #[arg(long, default_value_t = 40, value_name = "N", value_parser = at_least(0_usize))]
    lines: usize,
    /// Keep showing events as they come, until the attempt ends
    #[arg(long, short)]
    follow: bool,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &LogArgs) -> Result<u8, CommandError> {
    if args.follow && ui.json {
        let error =
            CommandError::user("`--json` writes one value, which `--follow` never completes");
        return Err(error.hint("leave one of them out"));
    }
    let project = Project::find(global.root.as_deref(), None)?;
    let store = must_open(&project)?;
    let id = find(&store, &args.id)?;
    let dir = RunDir::new(&project.root, &id);
    let numbers = attempt_numbers(&dir).map_err(CommandError::user)?;
    let number = match args.attempt {
        Some(number) if numbers.contains(&number) => number,
        Some(number) => {
            let failure = CommandError::user(format!("run {id} has no attempt {number}"));
            return Err(match numbers.len() {
                0 => failure.hint(format!("it has not begun; `lions why {id}` says why")),
                n => failure.hint(format!("it has {}", counted(n, "attempt"))),
            });
        }
        None => *numbers.last().ok_or_else(|| {
            CommandError::user(format!("run {id} has not begun"))
                .hint(format!("`lions why {id}` says why"))
        })?,
    };
    let attempt = dir.attempt(number);
    let mut journal = JournalReader::new(attempt.events());
    let events = journal.read_new().map_err(CommandError::user)?;
    if ui.json {
        ui.print_json(&events)?;
        return Ok(DONE);
    }
    ui.out(&ui.tone(
        Tone::Strong,
        &format!(
            "{} {id}, attempt {number}",
            store.run(&id).map_err(store_error)?.kind
        ),
    ));
    events.iter().for_each(|event| tell(ui, event));
    if args.follow {
        follow(ui, &attempt, journal, events)?;
    }
    for (name, path) in [("stdout", attempt.stdout()), ("stderr", attempt.stderr())] {
        let lines = tail_lines(&path, args.lines).map_err(CommandError::user)?;
        if !lines.is_empty() {
            ui.text(&ui.tone(Tone::Accent, &format!("{name} ({})", path.display())));
            lines.iter().for_each(|line| ui.text(&format!("  {line}")));
        }
    }
    Ok(DONE)
}

/// Tells events as they come, after those `seen`, until one ends the attempt.
fn follow(
    ui: &Ui,
    attempt: &AttemptDir,
    mut journal: JournalReader,
    mut seen: Vec<AttemptEvent>,
) -> Result<(), CommandError> {
    loop {
        if seen.iter().any(ends) {
            return Ok(());
        }
        // Looked at before the events are: what it said last is not missed.
        let lives = is_locked(attempt.path()).map_err(CommandError::user)?;
        std::thread::sleep(Duration::from_millis(300));
        seen = journal.read_new().map_err(CommandError::user)?;
        seen.iter().for_each(|event| tell(ui, event));
        if !lives && !seen.iter().any(ends) {
            ui.out("its process ended without a word");
            return Ok(());
        }
    }
}

fn ends(event: &AttemptEvent) -> bool {
    matches!(
        event,
        AttemptEvent::Finished | AttemptEvent::Interrupted | AttemptEvent::Failed { .. }
    )
}

fn tell(ui: &Ui, event: &AttemptEvent) {
    let line = match event {
        AttemptEvent::Progress { .. } => return,
        AttemptEvent::Step { step, metrics } => {
            let shown = metrics.iter();
            let shown = shown.map(|(key, value)| format!("{key} {}", measured(*value)));
            let head = format!("  step {step:>5}");
            let lines = side_by_side(&head, shown, ui.width_out());
            return lines.iter().for_each(|line| ui.out(line));
        }
        AttemptEvent::Started { device } => format!("started on {device}"),
        AttemptEvent::Begin { unit, total } => {
            let one = unit.strip_suffix('s').unwrap_or(unit);
            format!("{} to do", counted(*total, one))
        }
        AttemptEvent::Checkpointed { step } => format!("state saved after step {step}"),
        AttemptEvent::Resumed { step } => format!("goes on after step {step}"),
        AttemptEvent::Warning { message } => ui.tone(Tone::Warn, &format!("warning: {message}")),
        AttemptEvent::Finished => ui.tone(Tone::Good, "finished"),
        AttemptEvent::Interrupted => ui.tone(Tone::Warn, "interrupted, state saved"),
        AttemptEvent::Failed { message, .. } => ui.tone(Tone::Bad, &format!("failed: {message}")),
    };
    ui.text(&format!("  {line}"));
}

/// Items behind a head, as many on a line as fit the terminal; further lines begin below the first item.
fn side_by_side(
    head: &str,
    items: impl Iterator<Item = String>,
    width: Option<usize>,
) -> Vec<String> {
    let margin = " ".repeat(display_width(head));
    let width = width.unwrap_or(usize::MAX);
    let mut lines = vec![head.to_owned()];
    let mut begun = false;
    for item in items {
        let fits = |line: &String| display_width(line) + 2 + display_width(&item) <= width;
        if begun && !lines.last().is_some_and(fits) {
            lines.push(margin.clone());
        }
        if let Some(line) = lines.last_mut() {
            *line += &format!("  {item}");
        }
        begun = true;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_stands_beside_its_number() {
        let items = ["grad_norm 1.2000", "learning_rate 5.000e-6", "loss 0.6931"];
        let lines =
            |width| side_by_side("  step     1", items.map(str::to_owned).into_iter(), width);
        let one = "  step     1  grad_norm 1.2000  learning_rate 5.000e-6  loss 0.6931";
        assert_eq!(lines(None), [one]);
        assert_eq!(
            lines(Some(60)),
            [
                "  step     1  grad_norm 1.2000  learning_rate 5.000e-6",
                "              loss 0.6931"
            ]
        );
    }
}
