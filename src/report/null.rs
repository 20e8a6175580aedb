//! The tables' test against arms that differ by nothing, on the user's own rows.

use crate::base::{SeedTree, counted};
use crate::config::sweep::TableSpec;
use crate::metrics::{Column, NullCheck, most_by_chance, null_check, null_half};
use crate::report::column::ColumnReader;
use crate::report::doc::{PageBlock, paragraph};
use crate::report::said::named;
use crate::report::select::{ReportError, SweepResults};
use serde::Serialize;
use std::collections::BTreeSet;

/// So many times the seeds of each configuration are split.
const DRAWS: usize = 200;

/// The most of them for a page, and so many values of seeds and rows may be compared for each of its tables: less
/// than a second.
const PAGE_DRAWS: usize = 50;
const PAGE_VALUES: usize = 20_000_000;
/// The same of values of seeds alone: each comparison fits all arms, and once more without each of them.
const PAGE_FITS: usize = 5_000_000;

/// Seeds of a half below which a page does not split: with one seed nothing would be told of how seeds differ.
const PAGE_HALF: usize = 2;

/// The check of one metric of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NullColumn {
    /// The table.
    pub table: String,
    /// The metric.
    pub metric: String,
    /// What came out; `None` if no configuration has two seeds with values on the same rows.
    pub check: Option<NullCheck>,
}

impl NullColumn {
    /// A sentence.
    pub fn words(&self) -> String {
        let Some(check) = self.check else {
            return format!(
                "{}: nothing to check, since no configuration has two different seeds on the same rows",
                self.metric
            );
        };
        format!(
            "{}: {:.1} % false alarms in {}, where {} ({}, each split at random in halves of {})",
            self.metric,
            100.0 * check.rate(),
            counted(check.comparisons, "comparison"),
            due(check.arms),
            counted(check.arms, "configuration"),
            counted(check.half, "seed")
        )
    }
}

/// What is to be expected of a test that is right.
fn due(arms: usize) -> String {
    let most = 100.0 * most_by_chance(arms);
    format!("5 % are due, by chance up to {most:.0} %")
}

fn check(column: &Column, key: &str, draws: usize) -> Option<NullCheck> {
    let seed = SeedTree::root(0).child("report/null").child(key);
    null_check(column, draws, &seed)
}

/// How often the test of the table calls halves of one configuration's seeds different, for each metric.
///
/// # Errors
/// A results file is there and cannot be read.
pub fn null_columns(
    results: &SweepResults,
    spec: &TableSpec,
) -> Result<Vec<NullColumn>, ReportError> {
    let configurations = results.configurations(&spec.filter);
    let mut reader = ColumnReader::new(results);
    let mut found = Vec::new();
    for key in &spec.metrics {
        let column = reader.column(&configurations, key)?;
        found.push(NullColumn {
            table: spec.name.clone(),
            metric: key.clone(),
            check: check(&column, key, DRAWS),
        });
    }
    Ok(found)
}

/// A folded note on how often the tables' test is wrong on these rows, by the first metric of each table; `None`
/// if no table has a configuration with enough seeds. The same results give the same note.
///
/// # Errors
/// A results file is there and cannot be read.
pub(crate) fn null_block(
    results: &SweepResults,
    specs: &[TableSpec],
) -> Result<Option<PageBlock>, ReportError> {
    let mut reader = ColumnReader::new(results);
    let mut lines = Vec::new();
    let (mut comparisons, mut alarms, mut arms) = (0, 0, 0);
    let mut seen = BTreeSet::new();
    for spec in specs {
        let Some(key) = spec.metrics.first() else {
            continue;
        };
        let configurations = results.configurations(&spec.filter);
        let names: Vec<_> = configurations.iter().map(|c| c.assignments).collect();
        if !seen.insert(format!("{key} {names:?}")) {
            continue;
        }
        let column = reader.column(&configurations, key)?;
        if null_half(&column).is_none_or(|half| half < PAGE_HALF) {
            continue;
        }
        let Some(check) = page_draws(&column).and_then(|draws| check(&column, key, draws)) else {
            continue;
        };
        (comparisons, alarms) = (comparisons + check.comparisons, alarms + check.alarms);
        arms = arms.max(check.arms);
        let line = NullColumn {
            table: spec.name.clone(),
            metric: key.clone(),
            check: Some(check),
        };
        let keys = BTreeSet::from([key.clone()]);
        let title = spec.title.trim_end_matches('.');
        lines.push(paragraph(&format!(
            "{title}: {}.",
            named(&line.words(), &keys)
        )));
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let rate = 100.0 * alarms as f64 / comparisons as f64;
    let mut blocks = vec![paragraph(
        "Seeds of one configuration differ by nothing but chance. Halves of them, drawn at random, are compared as the \
         tables compare configurations: a clear difference is a false alarm. Halves of one configuration share its \
         seeds: they tell no more than one comparison between other seeds, and of so few the rate may be far from 5 % by \
         chance.",
    )];
    blocks.extend(lines);
    Ok(Some(PageBlock::Folded {
        summary: format!(
            "How often the test is wrong on these results: {rate:.1} % false alarms, where {}",
            due(arms)
        ),
        blocks,
    }))
}

/// How often a page splits the seeds of each arm of a column; `None` where that would take seconds.
fn page_draws(column: &Column) -> Option<usize> {
    let arms = column.arms.len().max(1);
    let cells: usize = column.arms.iter().map(|arm| arm.seeds.len()).sum();
    let fits = PAGE_FITS / (arms * arms * cells.max(1));
    let seeds = column.arms.iter().flat_map(|arm| &arm.seeds);
    let values: usize = seeds.map(|seed| seed.rows.len().max(1)).sum();
    let splits = PAGE_VALUES / values.max(1);
    (fits > 1).then(|| (splits / arms).min(fits).clamp(2, PAGE_DRAWS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Arm, SeedValues};

    #[test]
    fn a_page_splits_the_seeds_of_tables_that_people_read_and_not_of_thousands_of_runs() {
        let draws = |arms: usize, seeds: usize, rows: usize| {
            let seed = |at: usize| SeedValues {
                seed: at as u64,
                run: at,
                value: 0.5,
                rows: vec![0.5; rows],
            };
            let arm = |_| Arm {
                seeds: (0..seeds).map(seed).collect(),
                row_set: None,
            };
            page_draws(&Column {
                arms: (0..arms).map(arm).collect(),
                ..Column::default()
            })
        };
        assert_eq!(draws(12, 5, 0), Some(PAGE_DRAWS));
        assert_eq!(draws(12, 5, 1000), Some(27));
        assert_eq!(draws(40, 5, 0), Some(15));
        assert_eq!(draws(100, 50, 0), None);
        assert_eq!(draws(5000, 4, 0), None);
    }
}
