//! Sampled texts of two configurations side by side.

use crate::base::printable;
use crate::config::sweep::{AxisValue, SamplesSpec};
use crate::report::doc::{PageBlock, paragraph};
use crate::report::grid::Grid;
use crate::report::select::{ReportError, SampleText, SweepResults, TrialResult, short_label};
use std::collections::BTreeMap;

/// The texts of `spec` under their heading: the first sample for each of the first prompts that both have, of the
/// first seed that both have; or why there are none.
///
/// # Errors
/// A file of samples is there and cannot be read.
pub(crate) fn samples_blocks(
    results: &SweepResults,
    spec: &SamplesSpec,
) -> Result<Vec<PageBlock>, ReportError> {
    let mut blocks = vec![PageBlock::Subheading(spec.title.clone())];
    let sides = [&spec.left, &spec.right];
    let Some((seed, trials)) = shared_seed(results, sides) else {
        blocks.push(paragraph("No seed has both configurations."));
        return Ok(blocks);
    };
    let [left, right] = trials.map(|trial| results.samples(&trial.eval));
    let (left, right) = (
        first_of_prompts(left?, spec),
        first_of_prompts(right?, spec),
    );
    let both = left.iter().filter_map(|ours| {
        let theirs = right.iter().find(|theirs| theirs.row == ours.row)?;
        Some((ours, theirs))
    });
    let safe = |text: &str| printable(text.trim()).into_owned();
    let row = |(ours, theirs): (&SampleText, &SampleText)| {
        [&ours.prompt, &ours.text, &theirs.text]
            .map(|text| safe(text))
            .to_vec()
    };
    let rows: Vec<Vec<String>> = both.take(spec.shown()).map(row).collect();
    if rows.is_empty() {
        let why = trials.map(|trial| results.why_missing(trial).text);
        blocks.push(paragraph(&format!(
            "No prompt of `{}` has texts of both: {}.",
            spec.set,
            why.join("; ")
        )));
        return Ok(blocks);
    }
    let mut axes: Vec<String> = results.sweep.axes.iter().map(|a| a.name.clone()).collect();
    let [a, b] = trials.map(|trial| &trial.assignments);
    axes.retain(|axis| a.get(axis) != b.get(axis));
    let [left, right] = [a, b].map(|assignments| format!("{}:", short_label(assignments, &axes)));
    let mut grid = Grid::plain(&spec.title, &["prompt:", &left, &right], rows);
    grid.notes = vec![format!(
        "What models wrote, as it is: the first sample for each prompt of {}, seed {seed}, runs {} and {}.",
        spec.set, trials[0].eval, trials[1].eval
    )];
    blocks.push(PageBlock::table(&spec.title, grid));
    Ok(blocks)
}

/// The first seed that has a trial of both sides.
fn shared_seed<'a>(
    results: &'a SweepResults,
    sides: [&BTreeMap<String, AxisValue>; 2],
) -> Option<(u64, [&'a TrialResult; 2])> {
    let [left, right] = sides.map(|wanted| results.configurations(wanted).into_iter().next());
    let (left, right) = (left?, right?);
    let mut seeds = left.trials.into_iter();
    seeds.find_map(|ours| {
        let theirs = right
            .trials
            .iter()
            .find(|theirs| theirs.seed == ours.seed)?;
        Some((ours.seed, [ours, *theirs]))
    })
}

/// The first sample of each prompt of the set.
fn first_of_prompts(mut samples: Vec<SampleText>, spec: &SamplesSpec) -> Vec<SampleText> {
    samples.retain(|sample| sample.set == spec.set && sample.sample == 0);
    samples
}
