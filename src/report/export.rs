//! Everything that the store and the run folders hold of results, as tables for other programs.

use crate::base::{Cell, Table};
use crate::config::sweep::AxisValue;
use crate::plan::StageKind;
use crate::report::samples::side_by_side;
use crate::report::select::{ReportError, rows_in};
use crate::rundir::Usage;
use crate::store::{ReadStore, RunRow};
use serde_json::json;
use std::path::Path;

/// An empty text as the example of a column.
const TEXT: Cell = Cell::Text(None);
const WHOLE: Cell = Cell::Whole(None);
const REAL: Cell = Cell::Real(None);
const TRUTH: Cell = Cell::Truth(None);

/// Hands over every table, large ones a run at a time: `runs`, `trials`, `trial_axes`, `trial_runs`, `metrics`,
/// `training`, `rows` and `samples`, as `docs/export.md` describes them. Each comes once at least, if without rows.
///
/// # Errors
/// The store or a file of a run cannot be read, or `take` has one.
pub fn export_tables<E: From<ReportError>>(
    store: &ReadStore,
    root: &Path,
    take: &mut dyn FnMut(&Table) -> Result<(), E>,
) -> Result<(), E> {
    let runs = store.all_runs().map_err(ReportError::from)?;
    take(&runs_table(store, &runs)?)?;
    for table in trial_tables(store)? {
        take(&table)?;
    }
    for table in [
        metrics_table(),
        training_table(),
        rows_table(),
        samples_table(),
    ] {
        take(&table)?;
    }
    for run in &runs {
        for table in run_tables(store, root, run)? {
            if !table.is_empty() {
                take(&table)?;
            }
        }
    }
    Ok(())
}

fn runs_table(store: &ReadStore, runs: &[RunRow]) -> Result<Table, ReportError> {
    let mut table = Table::new(
        "runs",
        [
            ("run", TEXT),
            ("stage", TEXT),
            ("state", TEXT),
            ("attempts", WHOLE),
            ("crashes", WHOLE),
            ("created", TEXT),
            ("finished", TEXT),
            ("device", TEXT),
            ("wall_secs", REAL),
            ("cpu_secs", REAL),
            ("peak_memory_bytes", WHOLE),
            ("tokens", WHOLE),
            ("positions", WHOLE),
            ("flops", REAL),
            ("identity", TEXT),
        ],
    );
    for run in runs {
        let attempts = store.attempts(&run.id)?;
        let last = attempts
            .iter()
            .rev()
            .find(|attempt| attempt.usage.is_some());
        let usage: Option<Usage> = last.and_then(|attempt| attempt.usage);
        let whole =
            |of: fn(Usage) -> u64| Cell::Whole(usage.and_then(|u| i64::try_from(of(u)).ok()));
        table.push([
            run.id.0.as_str().into(),
            run.kind.name().into(),
            run.state.name().into(),
            u64::from(run.attempts).into(),
            u64::from(run.crashes).into(),
            run.created.iso8601().as_str().into(),
            run.finished.map(crate::base::Timestamp::iso8601).into(),
            last.map(|attempt| attempt.device.clone()).into(),
            usage.map(|u| u.wall_secs).into(),
            usage.map(|u| u.cpu_secs).into(),
            whole(|u| u.peak_memory_bytes),
            whole(|u| u.tokens),
            whole(|u| u.positions),
            usage.map(|u| u.flops).into(),
            store.identity(&run.id)?.as_str().into(),
        ]);
    }
    Ok(table)
}

fn trial_tables(store: &ReadStore) -> Result<[Table; 3], ReportError> {
    let mut trials = Table::new(
        "trials",
        [
            ("sweep", TEXT),
            ("trial", WHOLE),
            ("label", TEXT),
            ("seed", WHOLE),
            ("evaluation", TEXT),
            ("state", TEXT),
        ],
    );
    let mut axes = Table::new(
        "trial_axes",
        [
            ("sweep", TEXT),
            ("trial", WHOLE),
            ("axis", TEXT),
            ("value", TEXT),
            ("number", REAL),
        ],
    );
    let mut made = Table::new(
        "trial_runs",
        [
            ("sweep", TEXT),
            ("trial", WHOLE),
            ("position", WHOLE),
            ("run", TEXT),
            ("stage", TEXT),
        ],
    );
    for sweep in store.sweeps()? {
        let name = sweep.name.as_str();
        if sweep.trials == 0 {
            continue;
        }
        for trial in store.trials(name)? {
            let index = trial.index as u64;
            trials.push([
                name.into(),
                index.into(),
                trial.label.as_str().into(),
                trial.seed.into(),
                trial.eval.0.as_str().into(),
                trial.state.name().into(),
            ]);
            for (axis, value) in &trial.assignments {
                axes.push([
                    name.into(),
                    index.into(),
                    axis.as_str().into(),
                    text_of(value),
                    value.as_f64().into(),
                ]);
            }
            for (position, run) in (0_u64..).zip(&trial.runs) {
                made.push([
                    name.into(),
                    index.into(),
                    position.into(),
                    run.id.0.as_str().into(),
                    run.kind.name().into(),
                ]);
            }
        }
    }
    Ok([trials, axes, made])
}

fn text_of(value: &AxisValue) -> Cell {
    crate::config::sweep::show_value(value).as_str().into()
}

fn metrics_table() -> Table {
    Table::new(
        "metrics",
        [
            ("run", TEXT),
            ("stage", TEXT),
            ("metric", TEXT),
            ("value", REAL),
            ("stderr", REAL),
            ("n", WHOLE),
        ],
    )
}

fn training_table() -> Table {
    Table::new(
        "training",
        [
            ("run", TEXT),
            ("stage", TEXT),
            ("step", WHOLE),
            ("metric", TEXT),
            ("value", REAL),
        ],
    )
}

fn rows_table() -> Table {
    Table::new(
        "rows",
        [
            ("run", TEXT),
            ("set", TEXT),
            ("row", TEXT),
            ("cluster", TEXT),
            ("metric", TEXT),
            ("value", REAL),
        ],
    )
}

fn samples_table() -> Table {
    Table::new(
        "samples",
        [
            ("run", TEXT),
            ("set", TEXT),
            ("row", TEXT),
            ("sample", WHOLE),
            ("prompt", TEXT),
            ("text", TEXT),
            ("tokens", WHOLE),
            ("finished", TRUTH),
            ("scores", TEXT),
            ("judge", TEXT),
        ],
    )
}

/// Metrics, training, rows and samples of one run.
fn run_tables(store: &ReadStore, root: &Path, run: &RunRow) -> Result<[Table; 4], ReportError> {
    let (id, stage) = (run.id.0.as_str(), run.kind.name());
    let mut metrics = metrics_table();
    for (key, found) in store.metrics(&run.id)? {
        metrics.push([
            id.into(),
            stage.into(),
            key.as_str().into(),
            found.value.into(),
            found.stderr.into(),
            found.n.into(),
        ]);
    }
    let mut training = training_table();
    for (step, key, value) in store.training_steps(&run.id)? {
        training.push([
            id.into(),
            stage.into(),
            step.into(),
            key.as_str().into(),
            value.into(),
        ]);
    }
    let (mut rows, mut samples) = (rows_table(), samples_table());
    if run.kind == StageKind::Eval {
        let known = rows_in(root, &run.id)?;
        for row in &known {
            for (key, value) in &row.metrics {
                rows.push([
                    id.into(),
                    row.set.as_str().into(),
                    row.row.as_str().into(),
                    row.cluster.clone().into(),
                    key.as_str().into(),
                    (*value).into(),
                ]);
            }
        }
        let own = std::slice::from_ref(&run.id);
        let mut found = side_by_side(root, own, &[known], (None, None))?;
        found.sort_by(|a, b| (&a.set, &a.row, a.sample).cmp(&(&b.set, &b.row, b.sample)));
        for mut sample in found {
            let Some(reply) = sample.replies.pop().flatten() else {
                continue;
            };
            let judge = (!reply.judge.is_empty()).then(|| json!(reply.judge).to_string());
            samples.push([
                id.into(),
                sample.set.as_str().into(),
                sample.row.as_str().into(),
                sample.sample.into(),
                sample.prompt.as_str().into(),
                reply.text.as_str().into(),
                reply.tokens.and_then(|n| i64::try_from(n).ok()).into(),
                reply.finished.into(),
                json!(reply.scores).to_string().as_str().into(),
                judge.into(),
            ]);
        }
    }
    Ok([metrics, training, rows, samples])
}
