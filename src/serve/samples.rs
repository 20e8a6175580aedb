//! Texts that a run sampled: lines of its `samples.jsonl`.

use crate::plan::SAMPLES_ARTIFACT;
use crate::rundir::RunDir;
use crate::serve::request::Request;
use crate::serve::response::Response;
use crate::serve::site::Site;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};

/// Samples on a page, if none are asked for, and at most.
const USUAL_ROWS: usize = 20;
const MOST_ROWS: usize = 200;

/// `/api/runs/ID/samples`: one page of the samples whose line holds `text`.
pub(crate) fn samples(site: &Site, id: &str, request: &Request) -> Result<Response, Response> {
    let (page, size) = request.page(USUAL_ROWS, MOST_ROWS)?;
    let wanted = request.value("text").unwrap_or_default().to_lowercase();
    let run = site.must_ask(|watch| watch.store().find_run(id))?;
    let path = RunDir::new(site.root(), &run)
        .artifacts()
        .join(SAMPLES_ARTIFACT);
    let (mut matched, mut shown) = (0_usize, Vec::new());
    let first = page.saturating_mul(size);
    let mut read = || -> io::Result<()> {
        for line in BufReader::new(File::open(&path)?).split(b'\n') {
            let line = line?;
            let is_meant = wanted.is_empty()
                || String::from_utf8_lossy(&line)
                    .to_lowercase()
                    .contains(&wanted);
            if line.is_empty() || !is_meant {
                continue;
            }
            if (first..first.saturating_add(size)).contains(&matched) {
                // A line that is none is shown as the text that it is.
                let value = serde_json::from_slice(&line);
                shown.push(value.unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&line))));
            }
            matched += 1;
        }
        Ok(())
    };
    match read() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Response::error(500, &error.to_string()))
        }
        _ => Ok(Response::json(&json!({
            "run": run, "matched": matched, "page": page, "size": size, "samples": shown,
        }))),
    }
}
