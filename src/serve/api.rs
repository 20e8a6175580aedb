//! Sweeps and their runs as JSON.

use crate::live::{RunView, SweepView};
use crate::rundir::pauses;
use crate::serve::request::Request;
use crate::serve::response::Response;
use crate::serve::site::Site;
use serde_json::{Value, json};

/// Rows on a page of a list, if none are asked for, and at most.
const USUAL_ROWS: usize = 100;
const MOST_ROWS: usize = 1000;

/// `/api/sweeps`: every sweep, and why runners that live start nothing.
pub(crate) fn sweeps(site: &Site) -> Result<Response, Response> {
    let sweeps = site.ask(|watch| {
        let mut all = Vec::new();
        for row in watch.sweeps()? {
            let view = watch.sweep(&row.name)?;
            let mut json = sweep_json(&view);
            json["registered"] = json!(row.registered);
            json["at_work"] = json!(view.at_work.len());
            all.push(json);
        }
        Ok(all)
    })?;
    let pauses = pauses(site.root()).unwrap_or_default();
    Ok(Response::json(
        &json!({ "sweeps": sweeps.unwrap_or_default(), "pauses": pauses }),
    ))
}

/// `/api/sweeps/NAME`: where a sweep stands, with the attempts at work.
pub(crate) fn sweep(site: &Site, name: &str) -> Result<Response, Response> {
    let view = site.must_ask(|watch| watch.sweep(name))?;
    let mut json = sweep_json(&view);
    let work = view.at_work.iter().map(|work| {
        let mut work = json!(work);
        // Of a long training the last part is enough for a line.
        if let Some(losses) = work["progress"]["losses"].as_array_mut() {
            let from = losses.len().saturating_sub(200);
            losses.drain(..from);
        }
        work
    });
    json["at_work"] = work.collect();
    json["pauses"] = json!(pauses(site.root()).unwrap_or_default());
    Ok(Response::json(&json))
}

fn sweep_json(view: &SweepView) -> Value {
    json!({
        "name": view.name, "question": view.question, "trials": view.trials, "runs": view.states.total(),
        "states": view.states, "silent": view.silent, "over": view.is_over(), "secs_left": view.secs_left,
    })
}

/// `/api/sweeps/NAME/runs`: one page of the runs that fit `state` and every word of `text`.
pub(crate) fn runs(site: &Site, name: &str, request: &Request) -> Result<Response, Response> {
    let (page, size) = request.page(USUAL_ROWS, MOST_ROWS)?;
    let runs = site.must_ask(|watch| watch.sweep(name))?.runs;
    let state = request.value("state").filter(|state| !state.is_empty());
    let text = request.value("text").unwrap_or_default().to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let fits = |run: &&RunView| {
        let is_meant = |word: &&str| {
            run.label.to_lowercase().contains(*word)
                || run.run.0.starts_with(*word)
                || run.stage.name() == *word
        };
        state.is_none_or(|state| state == run.state) && words.iter().all(is_meant)
    };
    let mut found: Vec<&RunView> = runs.iter().filter(fits).collect();
    order(&mut found, request.value("sort").unwrap_or_default())?;
    let matched = found.len();
    let shown: Vec<&RunView> = found
        .into_iter()
        .skip(page.saturating_mul(size))
        .take(size)
        .collect();
    Ok(Response::json(&json!({
        "total": runs.len(), "matched": matched, "page": page, "size": size, "runs": shown,
    })))
}

/// By a column; the other way round behind `-`.
fn order(runs: &mut [&RunView], by: &str) -> Result<(), Response> {
    let (column, back) = by
        .strip_prefix('-')
        .map_or((by, false), |column| (column, true));
    match column {
        "" => {}
        "run" => runs.sort_by(|a, b| a.run.cmp(&b.run)),
        "stage" => runs.sort_by_key(|run| run.stage),
        "state" => runs.sort_by_key(|run| run.state),
        "label" => runs.sort_by(|a, b| a.label.cmp(&b.label)),
        "trials" => runs.sort_by_key(|run| run.trials),
        "attempts" => runs.sort_by_key(|run| run.attempts),
        "secs" => runs.sort_by(|a, b| {
            let secs = |run: &RunView| run.secs.unwrap_or(-1.0);
            secs(a).total_cmp(&secs(b))
        }),
        _ => {
            return Err(Response::error(
                400,
                "`sort` is a column: run, stage, state, label, trials, attempts or secs",
            ));
        }
    }
    if back {
        runs.reverse();
    }
    Ok(())
}
