//! The first numbers of a sweep while the rest still runs: a table as soon as each of its configurations has a value.

use crate::cli::database::results;
use crate::cli::project::Project;
use crate::cli::text::{counted, secs};
use crate::cli::ui::{Ui, width_err};
use crate::config::sweep::{AxisValue, Sweep, TableSpec};
use crate::live::WorkLeft;
use crate::plan::{Plan, PlannedTrial, RunId};
use crate::report::{Cell, SweepTable, compare, default_table, grid_text, table_grid};
use crate::runner::{Reporter, RunnerEvent};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// A reporter that shows one table early, beside what another one tells.
pub(crate) struct FirstTable<'a> {
    inner: Box<dyn Reporter + 'a>,
    ui: &'a Ui,
    project: &'a Project,
    sweep: String,
    left: WorkLeft,
    /// What each evaluation that is not done is of: trials' assignments in words.
    evaluations: BTreeMap<RunId, Vec<String>>,
    /// For each table its configurations without a value; none once one table was shown.
    lack: Vec<BTreeSet<String>>,
}

impl<'a> FirstTable<'a> {
    /// Beside `inner`; `todo` are the planned operations of each run that is not done yet.
    pub(crate) fn new(
        (ui, project): (&'a Ui, &'a Project),
        inner: Box<dyn Reporter + 'a>,
        (sweep, plan): (&Sweep, &Plan),
        todo: BTreeMap<RunId, f64>,
    ) -> Self {
        let mut evaluations: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for trial in plan
            .trials
            .iter()
            .filter(|trial| todo.contains_key(&trial.eval))
        {
            let of = evaluations.entry(trial.eval.clone()).or_default();
            of.push(trial.label.clone());
        }
        let all = TableSpec::default();
        let tables: Vec<&TableSpec> = match &*sweep.report.tables {
            [] => vec![&all],
            tables => tables.iter().collect(),
        };
        let lack = tables.into_iter().map(|table| lacking(table, plan, &todo));
        // A table that was there before is not shown again.
        let lack = lack.filter(|lack| !lack.is_empty()).collect();
        Self {
            inner,
            ui,
            project,
            sweep: sweep.name.clone(),
            left: WorkLeft::new(todo),
            evaluations,
            lack,
        }
    }

    /// Notices that an evaluation is done, and shows a table that has a value of each configuration with it.
    fn notice(&mut self, run: &RunId) -> io::Result<()> {
        let done = self.evaluations.remove(run).unwrap_or_default();
        for lack in &mut self.lack {
            lack.retain(|label| !done.contains(label));
        }
        let before = self.lack.len();
        self.lack.retain(|lack| !lack.is_empty());
        // After the last evaluation all tables come.
        if self.lack.len() == before || self.evaluations.is_empty() {
            return Ok(());
        }
        let Some(table) = self.table() else {
            return Ok(());
        };
        self.lack.clear();
        let text = first_text(&table, &self.sweep, self.left.secs(self.left.elapsed()));
        self.inner.show(&text(self.ui.colors_err()))
    }

    /// The first table that has a value for each of several configurations.
    fn table(&self) -> Option<SweepTable> {
        let results = results(self.ui, self.project, &self.sweep).ok()?;
        let own = &results.sweep.report.tables;
        let all = own.is_empty().then(|| default_table(&results));
        let mut tables = own
            .iter()
            .chain(&all)
            .flat_map(|spec| compare(&results, spec));
        tables.find(covered)
    }
}

/// The configurations of a table, by their trials' assignments in words, none of whose evaluations is done.
fn lacking(table: &TableSpec, plan: &Plan, todo: &BTreeMap<RunId, f64>) -> BTreeSet<String> {
    let same = |a: &AxisValue, b: &AxisValue| a == b || (a.is_number() && a.as_f64() == b.as_f64());
    let of_table = |trial: &&PlannedTrial| {
        let mut wanted = table.filter.iter();
        wanted.all(|(axis, value)| {
            trial
                .assignments
                .get(axis)
                .is_some_and(|own| same(own, value))
        })
    };
    let (waiting, done): (Vec<_>, Vec<_>) = plan
        .trials
        .iter()
        .filter(of_table)
        .partition(|trial| todo.contains_key(&trial.eval));
    let mut lack: BTreeSet<_> = waiting.iter().map(|trial| trial.label.clone()).collect();
    for trial in done {
        lack.remove(&trial.label);
    }
    lack
}

/// Whether every configuration, of at least two, has a value of the first metric.
fn covered(table: &SweepTable) -> bool {
    let has = |cells: &[Cell]| cells.first().is_some_and(|c| c.estimate.is_some());
    table.rows.len() > 1 && table.rows.iter().all(|row| has(&row.cells))
}

/// The table without its notes, which are for all seeds; how far it is, and how long the rest takes.
fn first_text(table: &SweepTable, sweep: &str, left: Option<f64>) -> impl Fn(bool) -> String {
    let mut grid = table_grid(table);
    let first = table.rows.iter().filter_map(|row| row.cells.first());
    let (some, all) = first
        .map(|cell| (cell.seeds.len(), cell.seeds.len() + cell.missing.len()))
        .fold((usize::MAX, 0), |(few, most), (some, all)| {
            (few.min(some), most.max(all))
        });
    let rest = left.map_or_else(String::new, |left| format!(", some {} to go", secs(left)));
    grid.notes = vec![format!(
        "The first numbers, {some} of {}{rest}; `lions compare {sweep}` shows what there is by then.",
        counted(all, "seed")
    )];
    move |color| format!("\n{}", grid_text(&grid, color, width_err()))
}

impl Reporter for FirstTable<'_> {
    fn report(&mut self, event: &RunnerEvent) -> io::Result<()> {
        self.inner.report(event)?;
        match event {
            RunnerEvent::RunProgress {
                run, done, total, ..
            } => self.left.report(run, *done, *total),
            RunnerEvent::RunFinished { run, .. } => {
                self.left.end(run, true);
                self.notice(run)?;
            }
            RunnerEvent::RunFailed { run, .. }
            | RunnerEvent::RunSkipped { run, .. }
            | RunnerEvent::RunCancelled { run, .. } => {
                self.left.end(run, false);
                self.evaluations.remove(run);
            }
            _ => {}
        }
        Ok(())
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        self.inner.show(text)
    }
}
