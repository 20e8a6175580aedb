//! The first numbers of a sweep while the rest still runs: a table as soon as each of its configurations has a value.

use crate::cli::database::results;
use crate::cli::project::Project;
use crate::cli::text::{counted, secs};
use crate::cli::ui::{Ui, width_err};
use crate::live::WorkLeft;
use crate::plan::{RunId, StageKind};
use crate::report::{Cell, SweepTable, compare, default_table, grid_text, table_grid};
use crate::runner::{Reporter, RunnerEvent};
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

/// A reporter that shows one table early, beside what another one tells.
pub(crate) struct FirstTable<'a> {
    inner: Box<dyn Reporter + 'a>,
    ui: &'a Ui,
    project: &'a Project,
    left: WorkLeft,
    state: State,
}

/// Whether the table is still to come.
enum State {
    /// From then on results are looked at again.
    Waits { sweep: String, next: Instant },
    /// It was shown, or was there before.
    Told,
}

/// Looking costs at most this part of the time: with thousands of runs it takes a while.
const PART: u32 = 20;

impl<'a> FirstTable<'a> {
    /// Beside `inner`; `todo` are the planned operations of each run that is not done yet.
    pub(crate) fn new(
        ui: &'a Ui,
        project: &'a Project,
        inner: Box<dyn Reporter + 'a>,
        todo: BTreeMap<RunId, f64>,
    ) -> Self {
        Self {
            inner,
            ui,
            project,
            left: WorkLeft::new(todo),
            state: State::Told,
        }
    }

    /// The first table of the sweep that has a value for each of several configurations.
    fn table(&self, sweep: &str) -> Option<SweepTable> {
        let results = results(self.ui, self.project, sweep).ok()?;
        let own = &results.sweep.report.tables;
        let all = own.is_empty().then(|| default_table(&results));
        let tables = own.iter().chain(&all);
        tables
            .flat_map(|spec| compare(&results, spec))
            .find(covered)
    }

    /// Looks whether there is a table, and shows it.
    fn look(&mut self) -> io::Result<()> {
        let State::Waits { sweep, next } = &self.state else {
            return Ok(());
        };
        let began = Instant::now();
        if began < *next {
            return Ok(());
        }
        let sweep = sweep.clone();
        let found = self.table(&sweep);
        let Some(table) = found else {
            let next = Instant::now() + began.elapsed() * PART;
            self.state = State::Waits { sweep, next };
            return Ok(());
        };
        self.state = State::Told;
        let text = first_text(&table, &sweep, self.left.secs(self.left.elapsed()));
        self.inner.show(&text(self.ui.colors_err()))
    }
}

/// Whether every configuration, of at least two, has a value of the first metric.
fn covered(table: &SweepTable) -> bool {
    let has = |cells: &[Cell]| cells.first().is_some_and(|c| c.estimate.is_some());
    table.rows.len() > 1 && table.rows.iter().all(|row| has(&row.cells))
}

/// The table without its notes, which are for all seeds; how far it is, and how long the rest takes.
fn first_text(table: &SweepTable, sweep: &str, left: Option<f64>) -> impl Fn(bool) -> String {
    let mut grid = table_grid(table);
    let first = table.rows.iter().flat_map(|row| row.cells.first());
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
            RunnerEvent::SweepStarted { sweep, done, .. } => {
                let sweep = sweep.clone();
                // What was there before is not shown again.
                if *done == 0 || self.table(&sweep).is_none() {
                    let next = Instant::now();
                    self.state = State::Waits { sweep, next };
                }
            }
            RunnerEvent::RunProgress {
                run, done, total, ..
            } => self.left.report(run, *done, *total),
            RunnerEvent::RunFinished { run, stage, .. } => {
                self.left.end(run, true);
                // After the last one all tables come.
                if *stage == StageKind::Eval && self.left.secs(1.0) != Some(0.0) {
                    self.look()?;
                }
            }
            RunnerEvent::RunFailed { run, .. }
            | RunnerEvent::RunSkipped { run, .. }
            | RunnerEvent::RunCancelled { run, .. } => self.left.end(run, false),
            _ => {}
        }
        Ok(())
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        self.inner.show(text)
    }
}
