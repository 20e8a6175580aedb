//! A comparison table as a grid, as CSV and as JSON.

use crate::base::csv_line;
use crate::config::sweep::{AxisValue, show_value};
use crate::metrics::{Better, fixed, metric_set, metric_spec};
use crate::report::compare::{Cell, ConfigRow, MetricColumn, SweepTable};
use crate::report::grid::{ColumnKind, Grid, GridCell, GridColumn};
use crate::report::halving::StoppedRow;
use crate::report::notes::{WORDY_COLUMNS, notes};
use serde_json::json;
use std::collections::BTreeSet;

/// The table as people read it: `1.482 [1.463, 1.501]`, n, and the difference in plain words.
pub fn table_grid(table: &SweepTable) -> Grid {
    let compared = |index: usize| {
        table
            .rows
            .iter()
            .any(|r| r.cells[index].comparison.is_some())
    };
    let wordy = |index: usize| compared(index) && index < WORDY_COLUMNS;
    let column = |head: String, kind| GridColumn { head, kind };
    let mut columns: Vec<GridColumn> = table
        .axis_labels
        .iter()
        .map(|a| column(a.clone(), ColumnKind::Config))
        .collect();
    if columns.is_empty() {
        columns.push(column("configuration".to_owned(), ColumnKind::Config));
    }
    columns.push(column("n".to_owned(), ColumnKind::Result));
    for (index, metric) in table.metrics.iter().enumerate() {
        columns.push(column(head_of(metric), ColumnKind::Result));
        if wordy(index) {
            columns.push(column("against the baseline".to_owned(), ColumnKind::Words));
        }
    }
    let row = |(index, row): (usize, &ConfigRow)| {
        let mut cells: Vec<GridCell> = row
            .values
            .iter()
            .map(|v| GridCell::plain(value_text(v.as_ref())))
            .collect();
        if cells.is_empty() {
            cells.push(GridCell::plain("base"));
        }
        let n = row.cells.iter().map(|c| c.seeds.len()).max().unwrap_or(0);
        cells.push(GridCell::plain(n.to_string()));
        for (at, (metric, cell)) in table.metrics.iter().zip(&row.cells).enumerate() {
            cells.push(result_cell(metric, cell, n, compared(at) && !wordy(at)));
            if wordy(at) {
                cells.push(GridCell::plain(words(metric, row, cell, index)));
            }
        }
        cells
    };
    let rows: Vec<Vec<GridCell>> = table.rows.iter().enumerate().map(row).collect();
    let width = columns.len();
    let stopped = table.stopped.iter().map(|row| stopped_cells(row, width));
    Grid {
        title: table.title.clone(),
        columns,
        rows: rows.into_iter().chain(stopped).collect(),
        notes: notes(table),
    }
}

/// So many metrics of a table are seen without opening anything: the primary one and one beside it, which is what
/// stands on a page without scrolling.
pub(crate) const SHOWN_COLUMNS: usize = 2;

/// The configuration with the first `shown` metrics, and with the others, if there are any.
pub(crate) fn split_grid(grid: Grid, shown: usize) -> (Grid, Option<Grid>) {
    let is_config = |column: &&GridColumn| column.kind == ColumnKind::Config;
    let keys = grid.columns.iter().take_while(is_config).count();
    // The column of n stands between the configuration and the metrics of our tables; those of others stay whole.
    if grid
        .columns
        .get(keys)
        .is_none_or(|column| column.head != "n")
    {
        return (grid, None);
    }
    let keys = keys + 1;
    let metric_of = |column: usize| {
        let before = grid.columns[..=column].iter().skip(keys);
        before.filter(|c| c.kind == ColumnKind::Result).count()
    };
    let places: Vec<usize> = (0..grid.columns.len()).map(metric_of).collect();
    if places.last().is_none_or(|last| *last <= shown) {
        return (grid, None);
    }
    let part = |wanted: &dyn Fn(usize) -> bool| {
        let kept = |index: &usize| places[*index] == 0 || wanted(places[*index]);
        let kept: Vec<usize> = (0..places.len()).filter(kept).collect();
        let of_row = |row: &Vec<GridCell>| kept.iter().map(|at| row[*at].clone()).collect();
        Grid {
            title: grid.title.clone(),
            columns: kept.iter().map(|at| grid.columns[*at].clone()).collect(),
            rows: grid.rows.iter().map(of_row).collect(),
            notes: Vec::new(),
        }
    };
    (
        part(&|place| place <= shown),
        Some(part(&|place| place > shown)),
    )
}

fn head_of(metric: &MetricColumn) -> String {
    match metric.better {
        Better::Higher => format!("{} ↑", metric.key),
        Better::Lower => format!("{} ↓", metric.key),
        Better::Neither => metric.key.clone(),
    }
}

/// An axis value in a cell; a dash where the axis does not apply.
pub(crate) fn value_text(value: Option<&AxisValue>) -> String {
    value.map_or_else(|| "–".to_owned(), show_value)
}

/// The row of a configuration that was stopped: it has no result.
fn stopped_cells(row: &StoppedRow, width: usize) -> Vec<GridCell> {
    let values = row.values.iter();
    let mut cells: Vec<GridCell> = values
        .map(|value| GridCell::plain(value_text(value.as_ref())))
        .collect();
    cells.push(GridCell::plain("–"));
    cells.push(GridCell {
        text: row.words.clone(),
        faint: true,
        strong: false,
    });
    cells.resize_with(width, || GridCell::plain(""));
    cells
}

/// `1.482 [1.463, 1.501]`, or why there is no value.
fn result_cell(metric: &MetricColumn, cell: &Cell, n: usize, mark: bool) -> GridCell {
    let Some(estimate) = cell.estimate else {
        let words: BTreeSet<&str> = cell.missing.iter().map(|m| m.1).collect();
        let text = words.into_iter().collect::<Vec<_>>().join(", ");
        return GridCell {
            text,
            faint: true,
            strong: false,
        };
    };
    let mut text = fixed(estimate.value, metric.decimals);
    if let Some(i) = cell.interval {
        text += &format!(
            " [{}, {}]",
            fixed(i.low, metric.decimals),
            fixed(i.high, metric.decimals)
        );
    }
    if cell.seeds.len() != n {
        text += &format!(" (n = {})", cell.seeds.len());
    }
    if let Some(c) = cell.comparison.as_ref().filter(|_| mark) {
        text += &format!(" {}", c.verdict(metric.better).mark());
    }
    GridCell {
        text: text.trim_end().to_owned(),
        strong: cell.best,
        faint: false,
    }
}

fn words(metric: &MetricColumn, row: &ConfigRow, cell: &Cell, index: usize) -> String {
    match (&cell.comparison, row.baseline) {
        (Some(c), _) => c.words(metric.better, metric.decimals),
        (None, Some(b)) if b == index => "baseline".to_owned(),
        (None, Some(_)) => "no pair of seeds to compare".to_owned(),
        (None, None) => String::new(),
    }
}

/// Every number of the table, exact, a line per configuration and metric.
pub fn table_csv(table: &SweepTable) -> String {
    let mut heads: Vec<String> = table.axes.clone();
    heads.extend(
        [
            "metric",
            "unit",
            "better",
            "n",
            "mean",
            "low",
            "high",
            "std_dev",
            "best",
            "difference",
            "difference_low",
            "difference_high",
            "p",
            "p_family",
            "family",
            "delta",
            "verdict",
            "fixed_rows_low",
            "fixed_rows_high",
            "fixed_rows_p",
            "method",
            "missing",
            "runs",
        ]
        .map(str::to_owned),
    );
    let mut out = csv_line(&heads);
    for row in &table.rows {
        for (metric, cell) in table.metrics.iter().zip(&row.cells) {
            let mut fields: Vec<String> = row
                .values
                .iter()
                .map(|v| v.as_ref().map(show_value).unwrap_or_default())
                .collect();
            fields.extend(csv_fields(metric, cell));
            out += &csv_line(&fields);
        }
    }
    for row in &table.stopped {
        let mut fields: Vec<String> = row
            .values
            .iter()
            .map(|v| v.as_ref().map(show_value).unwrap_or_default())
            .collect();
        // All but the columns `missing` and `runs` are empty.
        fields.resize(heads.len() - 2, String::new());
        fields.extend([row.words.clone(), String::new()]);
        out += &csv_line(&fields);
    }
    out
}

fn csv_fields(metric: &MetricColumn, cell: &Cell) -> Vec<String> {
    let number = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
    let c = cell.comparison.as_ref();
    let better = match metric.better {
        Better::Higher => "higher",
        Better::Lower => "lower",
        Better::Neither => "",
    };
    vec![
        metric.key.clone(),
        metric_spec(&metric.key).unit.to_owned(),
        better.to_owned(),
        cell.seeds.len().to_string(),
        number(cell.estimate.map(|e| e.value)),
        number(cell.interval.map(|i| i.low)),
        number(cell.interval.map(|i| i.high)),
        number(cell.estimate.and_then(|e| e.std_dev())),
        if cell.best { "yes" } else { "" }.to_owned(),
        number(c.map(|c| c.difference)),
        number(c.and_then(|c| Some(c.interval?.low))),
        number(c.and_then(|c| Some(c.interval?.high))),
        number(c.and_then(|c| c.p)),
        number(c.and_then(|c| c.p_family)),
        c.map(|c| c.family.to_string()).unwrap_or_default(),
        number(c.and_then(|c| c.delta)),
        c.map(|c| c.verdict(metric.better).words().to_owned())
            .unwrap_or_default(),
        number(c.and_then(|c| Some(c.fixed_rows?.low))),
        number(c.and_then(|c| Some(c.fixed_rows?.high))),
        number(c.and_then(|c| c.fixed_rows_p)),
        c.map(|c| c.method.describe()).unwrap_or_default(),
        cell.missing
            .iter()
            .map(|(s, _, t)| format!("seed {s}: {t}"))
            .collect::<Vec<_>>()
            .join("; "),
        cell.seeds
            .iter()
            .map(|s| s.2.to_string())
            .collect::<Vec<_>>()
            .join(" "),
    ]
}

/// The table as JSON: the same content as the CSV, with seeds' values and runs.
pub fn table_json(table: &SweepTable) -> serde_json::Value {
    let cell = |(metric, cell): (&MetricColumn, &Cell)| {
        let seeds: Vec<_> = cell
            .seeds
            .iter()
            .map(|(seed, value, run)| json!({"seed": seed, "value": value, "run": run}))
            .collect();
        let missing: Vec<_> = cell
            .missing
            .iter()
            .map(|(seed, word, why)| json!({"seed": seed, "status": word, "why": why}))
            .collect();
        json!({
            "metric": metric.key, "set": metric_set(&metric.key), "unit": metric_spec(&metric.key).unit,
            "estimate": cell.estimate, "interval": cell.interval, "best": cell.best,
            "comparison": cell.comparison, "verdict": cell.comparison.as_ref().map(|c| c.verdict(metric.better)),
            "seeds": seeds, "missing": missing,
        })
    };
    let row = |row: &ConfigRow| {
        let cells: Vec<_> = table.metrics.iter().zip(&row.cells).map(cell).collect();
        json!({"configuration": row.assignments, "baseline": row.baseline, "results": cells})
    };
    let mut value = json!({"name": table.name, "title": table.title, "axes": table.axes,
        "rows": table.rows.iter().map(row).collect::<Vec<_>>()});
    if !table.stopped.is_empty() {
        let stopped = table.stopped.iter();
        let stopped =
            stopped.map(|row| json!({"configuration": row.assignments, "why": row.words}));
        value["stopped"] = stopped.collect();
    }
    value
}

/// A count with thousands apart.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    out
}
