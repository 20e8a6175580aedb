//! One run as JSON: what it is, where it stands and why, what it said.

use crate::base::{Clock as _, SystemClock, chain};
use crate::live::{add_device_memory, state_word, why};
use crate::plan::{RunId, SAMPLES_ARTIFACT};
use crate::queue::Blocker;
use crate::rundir::{RunDir, RundirError, attempt_numbers, tail_lines};
use crate::serve::request::Request;
use crate::serve::response::Response;
use crate::serve::site::Site;
use crate::store::{ReadStore, StoreError};
use serde_json::{Value, json};

/// Lines of a log, if none are asked for, and at most.
const USUAL_LINES: usize = 100;
const MOST_LINES: usize = 1000;

/// `/api/runs/ID`: everything about a run but its curves, samples and log.
pub(crate) fn run(site: &Site, id: &str) -> Result<Response, Response> {
    let now = SystemClock.now();
    let root = site.root();
    let json = site.must_ask(|watch| {
        let store = watch.store();
        let id = store.find_run(id)?;
        let dir = RunDir::new(root, &id);
        let why = why(root, store, &id, now)?;
        let reasons: Vec<String> = why.blockers.iter().map(Blocker::to_string).collect();
        let mut json = stored(store, &id, &dir)?;
        json["state"] = json!(state_word(why.run.state, now));
        json["why"] = json!(reasons);
        json["run"] = json!(why.run);
        // What is at work stands in the first of its sweeps as in any other.
        let sweep = json["trials"][0]["sweep"].as_str().map(str::to_owned);
        if let Some(view) = sweep.map(|name| watch.sweep(&name)).transpose()? {
            json["at_work"] = json!(view.at_work.iter().find(|work| work.run == id));
            json["label"] = json!(
                view.runs
                    .iter()
                    .find(|view| view.run == id)
                    .map(|view| &view.label)
            );
        }
        Ok(json)
    })?;
    Ok(Response::json(&json))
}

/// What the store holds of a run.
fn stored(store: &ReadStore, id: &RunId, dir: &RunDir) -> Result<Value, StoreError> {
    let identity: Value = serde_json::from_str(&store.identity(id)?).unwrap_or(Value::Null);
    let mut attempts = store.attempts(id)?;
    add_device_memory(&mut attempts, dir);
    Ok(json!({
        "folder": dir.path(), "identity": identity, "attempts": attempts, "metrics": store.metrics(id)?,
        "counts": store.counts(id)?, "notes": store.notes(id)?, "artifacts": store.artifacts(id)?,
        "inputs": store.parents(id)?.iter().map(|(run, kind, _)| json!({ "run": run, "stage": kind })).collect::<Vec<_>>(),
        "trials": store.trials_of(id)?, "samples": dir.artifacts().join(SAMPLES_ARTIFACT).is_file(),
    }))
}

/// `/api/runs/ID/log`: the last lines that an attempt's process wrote.
pub(crate) fn log(site: &Site, id: &str, request: &Request) -> Result<Response, Response> {
    let lines = request.number("lines", USUAL_LINES, MOST_LINES)?;
    let run = site.must_ask(|watch| watch.store().find_run(id))?;
    let dir = RunDir::new(site.root(), &run);
    let told = |error: RundirError| Response::error(500, &chain(&error));
    let numbers = attempt_numbers(&dir).map_err(told)?;
    let last = numbers.last().copied().unwrap_or(0);
    let asked = request.number("attempt", last as usize, u32::MAX as usize)?;
    let number = u32::try_from(asked).unwrap_or(u32::MAX);
    if number != last && !numbers.contains(&number) {
        return Err(Response::error(
            404,
            &format!("run {run} has no attempt {number}"),
        ));
    }
    let attempt = dir.attempt(number);
    Ok(Response::json(&json!({
        "run": run, "attempt": number, "attempts": numbers,
        "stdout": tail_lines(&attempt.stdout(), lines).map_err(told)?,
        "stderr": tail_lines(&attempt.stderr(), lines).map_err(told)?,
    })))
}
