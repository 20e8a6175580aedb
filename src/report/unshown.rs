//! Labels of figures that their font cannot show.

use crate::config::sweep::show_value;
use crate::figures::lacking;
use crate::report::select::SweepResults;
use std::collections::BTreeSet;

/// A sentence for each label of the sweep's figures with characters that the figures' font lacks, and what helps.
pub fn unshown_labels(results: &SweepResults) -> Vec<String> {
    if results.sweep.report.figures.is_empty() {
        return Vec::new();
    }
    let heads = results
        .sweep
        .report
        .figures
        .iter()
        .map(|figure| &figure.head);
    let titles = heads.map(|head| ("title of a figure", head.title.clone()));
    let axes = results.sweep.axes.iter();
    let names = axes.map(|axis| ("name of an axis", axis.name.clone()));
    let values = results.sweep.axes.iter().flat_map(|axis| &axis.values);
    let values = values.map(|value| ("value of an axis", show_value(value)));
    let mut said = BTreeSet::new();
    let all = titles.chain(names).chain(values);
    let fresh = all.filter(|(_, text)| said.insert(text.clone()));
    let sentence = |(what, text): (&str, String)| {
        let missing = lacking(&text);
        (!missing.is_empty()).then(|| {
            format!(
                "the figures' font has no `{missing}`, which the {what} `{text}` holds: PNG files leave it out, and \
                 SVG files need a font of the reader's; a `label` in Latin or Greek letters is drawn everywhere"
            )
        })
    };
    fresh.filter_map(sentence).collect()
}
