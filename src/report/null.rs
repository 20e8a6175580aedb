//! The tables' test against arms that differ by nothing, on the user's own rows.

use crate::base::{SeedTree, counted};
use crate::config::sweep::TableSpec;
use crate::metrics::{NullCheck, null_check};
use crate::report::column::ColumnReader;
use crate::report::select::{ReportError, SweepResults};
use serde::Serialize;

/// So many times the seeds of each configuration are split.
const DRAWS: usize = 200;

/// The check of one metric of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NullColumn {
    /// The table.
    pub table: String,
    /// The metric.
    pub metric: String,
    /// What came out; `None` if no configuration has two seeds with values.
    pub check: Option<NullCheck>,
}

impl NullColumn {
    /// A sentence.
    pub fn words(&self) -> String {
        let Some(check) = self.check else {
            return format!(
                "{}: nothing to check, since no configuration has two seeds that differ",
                self.metric
            );
        };
        format!(
            "{}: {:.1} % false alarms in {}, where 5 % are due ({}, each split at random in halves of {})",
            self.metric,
            100.0 * check.rate(),
            counted(check.comparisons, "comparison"),
            counted(check.arms, "configuration"),
            counted(check.half, "seed")
        )
    }
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
        let seed = SeedTree::root(0).child("report/null").child(key);
        found.push(NullColumn {
            table: spec.name.clone(),
            metric: key.clone(),
            check: null_check(&column, DRAWS, &seed),
        });
    }
    Ok(found)
}
