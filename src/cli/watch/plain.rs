//! Where no terminal is: a line at each change, until nothing is left to do.

use crate::base::{Clock as _, Shutdown, SystemClock};
use crate::cli::database::store_error;
use crate::cli::error::{CommandError, exit_code};
use crate::cli::global::DONE;
use crate::cli::signals::stop_on_signals;
use crate::cli::text::{counted, secs};
use crate::cli::ui::{Tone, Ui};
use crate::cli::watch::look::Looker;
use crate::live::{RunView, SweepView};
use crate::plan::RunId;
use serde_json::json;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// How often the store is asked.
const LOOK: Duration = Duration::from_secs(1);
/// How soon a signal is noticed.
const TICK: Duration = Duration::from_millis(100);

/// Writes what changes in the sweep `name`, or in all sweeps, until all is done.
///
/// # Errors
/// The store does not answer, or has no such sweep.
pub(crate) fn follow(ui: &Ui, looker: &mut Looker, name: Option<&str>) -> Result<u8, CommandError> {
    let shutdown = Shutdown::new();
    stop_on_signals(&shutdown)?;
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    loop {
        let views = match name {
            Some(name) => looker.sweep(name).map(|view| vec![view]),
            None => looker.sweeps(),
        };
        let views = views.map_err(store_error)?;
        for view in &views {
            told.entry(view.name.clone()).or_default().tell(ui, view);
        }
        if views.iter().all(SweepView::is_over) {
            return Ok(DONE);
        }
        let until = Instant::now() + LOOK;
        while Instant::now() < until {
            if shutdown.requested() {
                return Ok(exit_code::INTERRUPTED);
            }
            thread::sleep(TICK);
        }
    }
}

/// What was told of a sweep.
#[derive(Default)]
struct Told {
    states: Option<BTreeMap<RunId, &'static str>>,
}

impl Told {
    fn tell(&mut self, ui: &Ui, view: &SweepView) {
        let now: BTreeMap<RunId, &'static str> = view
            .runs
            .iter()
            .map(|run| (run.run.clone(), run.state))
            .collect();
        let before = self.states.replace(now);
        let is_new = |run: &&RunView| match &before {
            None => run.state == "running",
            Some(before) => before.get(&run.run) != Some(&run.state),
        };
        let changed: Vec<&RunView> = view.runs.iter().filter(is_new).collect();
        if before.is_some() && changed.is_empty() {
            return;
        }
        let at = SystemClock.now();
        for run in changed {
            if ui.json {
                ui.json_row(&json!({ "kind": "run", "at": at, "sweep": view.name, "run": run }));
                continue;
            }
            let state = ui.tone(Tone::of_state(run.state), &format!("{:<9}", run.state));
            let message = run.message.as_ref().filter(|_| run.state != "done");
            let message = message.map_or_else(String::new, |message| format!("  {message}"));
            ui.out(&format!(
                "{state} {:<9} {}  {}{message}",
                run.stage.name(),
                run.run,
                run.label
            ));
        }
        if ui.json {
            ui.json_row(&json!({
                "kind": "sweep", "at": at, "sweep": view.name, "states": view.states, "silent": view.silent,
                "secs_left": view.secs_left, "over": view.is_over(),
            }));
            return;
        }
        let rest = view
            .secs_left
            .map_or_else(String::new, |rest| format!(" (left {})", secs(rest)));
        let (done, all) = (view.states.succeeded, counted(view.states.total(), "run"));
        let failed = match view.states.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        ui.out(&format!(
            "{}  {done} of {all} done{failed}{rest}",
            view.name
        ));
    }
}
