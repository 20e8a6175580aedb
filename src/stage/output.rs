//! What a stage makes, and what it counts of its data.

use crate::arch::{DecoderConfig, Pass, forward_flops};
use crate::base::counted;
use crate::data::{FilterReport, LoadReport};
use crate::rundir::{MetricValue, Usage};
use std::collections::BTreeMap;

/// What a stage made; becomes `result.json`.
#[derive(Debug, Default)]
pub(super) struct StageOutput {
    pub(super) artifacts: Vec<String>,
    pub(super) metrics: BTreeMap<String, MetricValue>,
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) notes: Vec<String>,
    /// Tokens, positions and operations; time and memory are filled in by the caller.
    pub(super) usage: Usage,
}

impl StageOutput {
    pub(super) fn count(&mut self, name: &str, value: usize) {
        *self.counts.entry(name.to_owned()).or_default() += value as u64;
    }

    /// Adds forward passes that computed `positions` to the usage.
    pub(super) fn spend(&mut self, config: &DecoderConfig, positions: usize, pass: &Pass) {
        self.usage.tokens += positions as u64;
        self.usage.positions += positions as u64;
        self.usage.flops += forward_flops(config, pass);
    }
}

/// Rows found and used, over all sources.
pub(super) fn count_rows(made: &mut StageOutput, report: &LoadReport) {
    for source in &report.sources {
        made.count("rows_found", source.found);
        made.count("rows_used", source.used);
    }
    if let Some(count) = report.system_turns {
        made.count("system_turns_added", count);
    }
    if let Some(filtered) = &report.filtered {
        count_filtered(made, filtered);
    }
}

/// Rows that were left out as repeats, or for the texts they hold.
fn count_filtered(made: &mut StageOutput, report: &FilterReport) {
    if let Some(count) = report.duplicates {
        made.count("rows_duplicate", count);
        if count > 0 {
            let rows = counted(count, "row");
            let note = format!("{rows} left out for repeating an earlier one");
            made.notes.push(note);
        }
    }
    let Some(count) = report.contaminated else {
        return;
    };
    made.count("rows_contaminated", count);
    made.count("evaluation_texts", report.texts);
    made.count("evaluation_texts_too_short", report.short_texts);
    if count > 0 {
        let named = report.contaminated_rows.join(", ");
        let more = count - report.contaminated_rows.len();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        made.notes.push(format!(
            "{} left out for holding texts of the evaluation: {named}{more}",
            counted(count, "row")
        ));
    }
    if report.short_texts > 0 {
        made.notes.push(format!(
            "{} of {} not looked for as a whole, having fewer words than `min-words`",
            report.short_texts,
            counted(report.texts, "evaluation text")
        ));
    }
}
