//! Tables, claims and figures of a sweep, as reports have them, kept until there is something new.

use crate::base::{Timestamp, chain, digest_bytes};
use crate::report::doc::{Span, spans};
use crate::report::grid::{ColumnKind, Grid, GridCell};
use crate::report::page::table_specs;
use crate::report::{
    Depth, ReportError, SweepResults, SweepTable, build_figure, claims, compare, load_results,
    summary, table_grid,
};
use crate::serve::response::{Response, refusal};
use crate::store::ReadStore;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// While runs end all the time, results are made anew so many times their making took after the last.
const PAUSE: u32 = 10;

/// What changes when results do: runs done, runs that will not be, when it was registered.
pub(crate) type Key = (usize, usize, Timestamp);

/// Results of one sweep.
#[derive(Debug)]
pub(crate) struct Results {
    /// What `/api/sweeps/NAME/results` answers.
    pub(crate) json: Value,
    /// A mark of what that is.
    pub(crate) mark: String,
    /// SVG documents by the names of figures.
    pub(crate) figures: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Kept {
    key: Key,
    until: Instant,
    results: Arc<Results>,
}

/// Results of every sweep that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    sweeps: Mutex<BTreeMap<String, Arc<Mutex<Option<Kept>>>>>,
}

impl Shelf {
    /// The results of a sweep in the state `key`, or of a moment ago. Only who asks for the same sweep waits.
    pub(crate) fn get(
        &self,
        name: &str,
        key: Key,
        make: impl FnOnce() -> Result<Results, Response>,
    ) -> Result<Arc<Results>, Response> {
        let place = {
            let mut sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(sweeps.entry(name.to_owned()).or_default())
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if let Some(kept) = place
            .as_ref()
            .filter(|kept| kept.key == key || begun < kept.until)
        {
            return Ok(Arc::clone(&kept.results));
        }
        let results = Arc::new(make()?);
        let pause = (begun.elapsed() * PAUSE).clamp(Duration::from_secs(1), Duration::from_mins(2));
        *place = Some(Kept {
            key,
            until: begun + pause,
            results: Arc::clone(&results),
        });
        Ok(results)
    }
}

impl Results {
    /// Reads and computes them.
    pub(crate) fn of(store: &ReadStore, root: &Path, name: &str) -> Result<Self, Response> {
        let told = |error: ReportError| match error {
            ReportError::Store(error) => refusal(&error),
            other => Response::error(500, &chain(&other)),
        };
        let results = load_results(store, root, name, "", Depth::Scores).map_err(told)?;
        let claims = claims(&results).map_err(told)?;
        let tables = tables(&results).map_err(told)?;
        let claims: Vec<Value> = claims
            .iter()
            .map(|claim| {
                json!({ "statement": claim.statement, "verdict": claim.verdict.words(), "text": text(&claim.words()) })
            })
            .collect();
        let mut figures = BTreeMap::new();
        let mut listed = Vec::new();
        for spec in &results.sweep.report.figures {
            // One that cannot be drawn yet costs nothing but itself.
            let drawn = build_figure(&results, spec)
                .and_then(|figure| Ok((crate::figures::draw(&figure)?, figure)));
            match drawn {
                Ok((drawing, figure)) => {
                    listed.push(json!({ "name": figure.name, "title": figure.title, "caption": figure.caption, "findings": figure.findings }));
                    figures.insert(figure.name, drawing.svg);
                }
                Err(error) => listed.push(json!({ "name": spec.head.name, "title": spec.head.title, "missing": chain(&error) })),
            }
        }
        let json = json!({
            "coverage": text(&summary::coverage(&results)), "claims": claims, "tables": tables, "figures": listed,
            "unread": results.sweep.unread,
        });
        let drawn: String = figures.values().map(String::as_str).collect();
        let mark = digest_bytes(format!("{json}{drawn}").as_bytes());
        Ok(Self {
            json,
            mark: format!("\"{}\"", mark.short()),
            figures,
        })
    }
}

fn tables(results: &SweepResults) -> Result<Vec<Value>, ReportError> {
    table_specs(results)
        .iter()
        .map(|spec| Ok(table_json(&compare(results, spec)?)))
        .collect()
}

fn table_json(table: &SweepTable) -> Value {
    let grid: Grid = table_grid(table);
    let columns = grid.columns.iter().map(|column| {
        let kind = match column.kind {
            ColumnKind::Config => "config",
            ColumnKind::Result => "result",
            ColumnKind::Words => "words",
        };
        json!({ "head": column.head, "kind": kind })
    });
    let cell =
        |cell: &GridCell| json!({ "text": cell.text, "best": cell.strong, "missing": cell.faint });
    let rows = grid
        .rows
        .iter()
        .map(|row| row.iter().map(cell).collect::<Vec<_>>());
    json!({
        "name": table.name, "title": table.title, "columns": columns.collect::<Vec<_>>(), "rows": rows.collect::<Vec<_>>(),
        "notes": grid.notes, "answer": summary::answer(table).iter().map(|line| text(line)).collect::<Vec<_>>(),
    })
}

/// Running text in parts: `{"text"}`, `{"strong"}` or `{"code"}`. Links lead to files beside a written page; here they are text.
fn text(marked: &str) -> Vec<Value> {
    let part = |span: Span| match span {
        Span::Text(text) => json!({ "text": text }),
        Span::Strong(text) => json!({ "strong": text }),
        Span::Code(text) => json!({ "code": text }),
        Span::Link(link) => json!({ "text": link.text }),
    };
    spans(marked).into_iter().map(part).collect()
}
