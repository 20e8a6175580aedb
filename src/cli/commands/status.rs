//! `lions status`.

use crate::base::{Clock as _, SystemClock, Timestamp};
use crate::cli::database::{open, store_error, unknown_sweep};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::pick::{OnlyStage, TrialFilter};
use crate::cli::project::Project;
use crate::cli::sweep_file::{Changes, SweepWord};
use crate::cli::text::{bytes, counted, secs};
use crate::cli::ui::{Tone, Ui};
use crate::cli::watch::{Looker, Page, WatchState, follow, watch};
use crate::live::{self, silent_since};
use crate::plan::RunId;
use crate::queue::{Blocker, RunState};
use crate::report::ColumnFit::{Cut, Whole, Wrap};
use crate::rundir::{RunDir, attempt_at_work, pauses};
use crate::store::{ReadStore, RunRow, StateCounts, TrialRow, read_notes};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};

/// Show sweeps, or the runs and trials of one
///
/// Only reads: it never changes a state.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Sweep name, or its file; all sweeps if absent
    sweep: Option<String>,
    #[command(flatten)]
    changes: Changes,
    /// List trials instead of runs
    #[arg(long, requires = "sweep")]
    trials: bool,
    /// Follow what is running: a screen with keys, or where no terminal is a line at each change until all is done
    #[arg(long, short, conflicts_with = "trials")]
    watch: bool,
    #[command(flatten)]
    picked: TrialFilter,
    #[command(flatten)]
    only: OnlyStage,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &StatusArgs) -> Result<u8, CommandError> {
    let word = args.sweep.clone().map(|sweep| SweepWord {
        sweep,
        changes: args.changes.clone(),
    });
    if word.is_none() && (!args.picked.is_empty() || args.only.stage.is_some()) {
        let error = CommandError::user("`--where` and `--only` pick from one sweep");
        return Err(error.hint("name it: `lions status SWEEP`"));
    }
    let near = word.as_ref().and_then(SweepWord::near);
    let project = Project::find(global.root.as_deref(), near)?;
    let name = word.as_ref().map(SweepWord::name).transpose()?;
    let Some(store) = open(&project)? else {
        if ui.json {
            ui.out("[]");
        } else {
            ui.text("nothing has run here yet; `lions run sweeps/quickstart.toml` begins");
        }
        return Ok(DONE);
    };
    if args.watch {
        return watched(ui, &project, &store, name);
    }
    for pause in pauses(&project.root).map_err(CommandError::user)? {
        let since = pause.since.iso8601();
        ui.warn(&format!(
            "`lions run` has paused since {since}: {}",
            pause.reason
        ));
    }
    match &name {
        None => sweeps(ui, &store)?,
        Some(name) if args.trials => trials(ui, &project, &store, name, args)?,
        Some(name) => runs(ui, &project, &store, name, args)?,
    }
    Ok(DONE)
}

/// The same again and again.
fn watched(
    ui: &Ui,
    project: &Project,
    store: &ReadStore,
    name: Option<String>,
) -> Result<u8, CommandError> {
    if let Some(name) = &name {
        store
            .sweep(name)
            .map_err(|e| unknown_sweep(project, store, e))?;
    }
    let Some(mut looker) = Looker::open(&project.root)? else {
        return Ok(DONE);
    };
    if ui.json || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return follow(ui, &mut looker, name.as_deref());
    }
    let first = name.map_or(Page::Sweeps, Page::Sweep);
    watch(&mut looker, WatchState::new(first), ui.colors_out())
}

fn sweeps(ui: &Ui, store: &ReadStore) -> Result<(), CommandError> {
    let sweeps = store.sweeps().map_err(store_error)?;
    if ui.json {
        return ui.print_json(&sweeps);
    }
    if sweeps.is_empty() {
        ui.text("no sweep is known here; `lions run <sweep file>` registers one, with the runs that it finds done");
        return Ok(());
    }
    let disk = store.published_bytes().map_err(store_error)?;
    let mut rows = Vec::new();
    for sweep in &sweeps {
        let states = states_text(ui, &sweep.states, silent_runs(store, &sweep.name)?);
        let size = disk.get(&sweep.name).copied().unwrap_or_default();
        rows.push(vec![
            ui.tone(Tone::Strong, &sweep.name),
            sweep.trials.to_string(),
            sweep.states.total().to_string(),
            with_orders(ui, states, sweep.paused, sweep.priority),
            bytes(size as f64),
            sweep.registered.iso8601(),
        ]);
    }
    let columns = [
        ("sweep", Whole),
        ("trials", Whole),
        ("runs", Whole),
        ("state", Wrap),
        ("made", Whole),
        ("last run", Whole),
    ];
    ui.headed_table(columns, rows);
    Ok(())
}

/// `3 ready, paused since 2026-11-28T22:00:00Z, priority 2`.
fn with_orders(ui: &Ui, states: String, paused: Option<Timestamp>, priority: i64) -> String {
    let mut parts = vec![states];
    if let Some(since) = paused {
        let since = since.iso8601();
        parts.push(ui.tone(Tone::Warn, &format!("paused since {since}")));
    }
    if priority != 0 {
        parts.push(format!("priority {priority}"));
    }
    parts.join(", ")
}

/// Runs that are leased and whose lease has run out.
fn silent_runs(store: &ReadStore, sweep: &str) -> Result<usize, CommandError> {
    let now = SystemClock.now();
    let states = store.run_states(sweep).map_err(store_error)?;
    let silent = states
        .iter()
        .filter(|(_, state)| silent_since(*state, now).is_some());
    Ok(silent.count())
}

/// `31 done, 2 running, 1 failed`.
fn states_text(ui: &Ui, states: &StateCounts, silent: usize) -> String {
    let parts = [
        (states.succeeded, "done", Tone::Good),
        (
            states.leased.saturating_sub(silent),
            "running",
            Tone::Accent,
        ),
        (silent, "silent", Tone::Warn),
        (states.ready, "ready", Tone::Dim),
        (states.blocked, "waiting", Tone::Dim),
        (states.failed, "failed", Tone::Bad),
        (states.skipped, "skipped", Tone::Warn),
        (states.cancelled, "cancelled", Tone::Warn),
    ];
    let shown = parts.iter().filter(|(count, ..)| *count > 0);
    let shown: Vec<_> = shown
        .map(|(count, word, tone)| ui.tone(*tone, &format!("{count} {word}")))
        .collect();
    if shown.is_empty() {
        "empty".to_owned()
    } else {
        shown.join(", ")
    }
}

fn runs(
    ui: &Ui,
    project: &Project,
    store: &ReadStore,
    name: &str,
    args: &StatusArgs,
) -> Result<(), CommandError> {
    let sweep = store
        .sweep(name)
        .map_err(|e| unknown_sweep(project, store, e))?;
    let mut runs = store.runs(name).map_err(store_error)?;
    let uses = uses(project, store, name, args)?;
    runs.retain(|run| {
        uses.contains_key(&run.id) && args.only.stage.is_none_or(|kind| kind == run.kind)
    });
    let counts = store.state_counts(name).map_err(store_error)?;
    let notes = read_notes(&project.root, name).map_err(store_error)?;
    if ui.json {
        let mut value = json!({
            "sweep": name, "tags": sweep.tags, "notes": notes, "states": counts, "runs": runs,
        });
        if let Some(halving) = &sweep.halving {
            value["halving"] = json!(halving);
        }
        return ui.print_json(&value);
    }
    ui.text(&format!(
        "{}  {}",
        ui.tone(Tone::Strong, name),
        sweep.question
    ));
    if !sweep.tags.is_empty() {
        ui.text(&format!("tags: {}", sweep.tags.join(", ")));
    }
    for note in &notes {
        ui.text(&format!(
            "{}  {}",
            ui.tone(Tone::Dim, &note.at.iso8601()),
            note.text
        ));
    }
    if let Some(halving) = &sweep.halving {
        for standing in halving.stopped() {
            ui.text(&ui.tone(Tone::Dim, &standing.line(&halving.spec.metric)));
        }
    }
    let states = states_text(ui, &counts, silent_runs(store, name)?);
    let orders = store.orders(name).map_err(store_error)?;
    ui.text(&with_orders(ui, states, orders.paused, orders.priority));
    ui.out("");
    let last = store.last_attempts(name).map_err(store_error)?;
    let now = SystemClock.now();
    let mut rows = Vec::new();
    for run in &runs {
        let trials = uses.get(&run.id).copied().unwrap_or(0);
        let times = last.get(&run.id).copied();
        // Folders that this user may not enter say nothing.
        let held = match run.state {
            RunState::Ready => attempt_at_work(&RunDir::new(&project.root, &run.id)).ok(),
            _ => None,
        };
        let held = held.flatten();
        let waits = live::queue_reason(&project.root, &run.id, run.state).map(|(reason, _)| reason);
        rows.push(run_row(ui, run, trials, (times, held, waits), now));
    }
    let columns = [
        ("run", Whole),
        ("stage", Whole),
        ("state", Whole),
        ("trials", Whole),
        ("attempts", Whole),
        ("took", Whole),
        ("", Wrap),
    ];
    ui.headed_table(columns, rows);
    Ok(())
}

/// When an attempt was claimed, and when it ended.
type Times = (Timestamp, Option<Timestamp>);

fn run_row(
    ui: &Ui,
    run: &RunRow,
    trials: usize,
    (last, held, waits): (Option<Times>, Option<u32>, Option<String>),
    now: Timestamp,
) -> Vec<String> {
    let silent = silent_since(run.state, now);
    // What became of a silent attempt after it was seen last nobody knows.
    let took = last.map(|(started, ended)| {
        let end = ended.or(silent).unwrap_or(now);
        secs(end.secs_since(started))
    });
    let note = match (silent, held) {
        (Some(since), _) => {
            let since = since.iso8601();
            format!("no heartbeat since {since}; the next `lions run` takes it back")
        }
        (None, Some(attempt)) => Blocker::Held { attempt }.to_string(),
        (None, None) if waits.is_some() => {
            format!("waits at the scheduler: {}", waits.unwrap_or_default())
        }
        (None, None) if run.paused.is_some() && !run.state.is_final() => {
            "`lions resume` lets it go on".to_owned()
        }
        (None, None) => first_line(run.message.as_deref().unwrap_or_default()),
    };
    vec![
        run.id.to_string(),
        run.kind.name().to_owned(),
        match run.paused {
            Some(_) if matches!(run.state, RunState::Ready | RunState::Blocked) => {
                ui.tone(Tone::Warn, "paused")
            }
            _ => state_word(ui, run.state),
        },
        trials.to_string(),
        run.attempts.to_string(),
        took.unwrap_or_default(),
        note,
    ]
}

fn trials(
    ui: &Ui,
    project: &Project,
    store: &ReadStore,
    name: &str,
    args: &StatusArgs,
) -> Result<(), CommandError> {
    let trials = picked_trials(project, store, name, args)?;
    if ui.json {
        return ui.print_json(&trials);
    }
    ui.out(&counted(trials.len(), "trial"));
    let columns = [
        ("trial", Whole),
        ("seed", Whole),
        ("state", Whole),
        ("configuration", Cut),
        ("runs", Wrap),
    ];
    ui.headed_table(columns, trials.iter().map(|trial| trial_row(ui, trial)));
    Ok(())
}

/// How many of the trials that the command line picks need each run.
fn uses(
    project: &Project,
    store: &ReadStore,
    name: &str,
    args: &StatusArgs,
) -> Result<BTreeMap<RunId, usize>, CommandError> {
    if args.picked.is_empty() {
        return store.uses(name).map_err(store_error);
    }
    let mut uses = BTreeMap::new();
    for trial in picked_trials(project, store, name, args)? {
        for run in trial.runs {
            *uses.entry(run.id).or_default() += 1;
        }
    }
    Ok(uses)
}

/// The trials that the command line picks.
fn picked_trials(
    project: &Project,
    store: &ReadStore,
    name: &str,
    args: &StatusArgs,
) -> Result<Vec<TrialRow>, CommandError> {
    let unknown = |error| unknown_sweep(project, store, error);
    let mut trials = store.trials(name).map_err(unknown)?;
    let sweep = store.sweep(name).map_err(unknown)?;
    args.picked.keep_trials(&sweep.axes, &mut trials)?;
    Ok(trials)
}

fn trial_row(ui: &Ui, trial: &TrialRow) -> Vec<String> {
    let runs: Vec<_> = trial.runs.iter().map(|run| run.id.to_string()).collect();
    vec![
        trial.index.to_string(),
        trial.seed.to_string(),
        state_word(ui, trial.state),
        trial.label.clone(),
        runs.join(" "),
    ]
}

/// A run's state in one word.
pub(crate) fn state_word(ui: &Ui, state: RunState) -> String {
    let word = live::state_word(state, SystemClock.now());
    ui.tone(Tone::of_state(word), word)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
