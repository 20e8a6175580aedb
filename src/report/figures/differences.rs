//! Paired differences from one configuration: a mark for each other one, and a line at zero.

use crate::config::sweep::{AxisValue, DifferencesSpec};
use crate::figures::{BarChart, Chart, Panel, Point, ReferenceLine, SeedValue, Series};
use crate::metrics::{Estimate, Interval, mean};
use crate::report::compare::summarise;
use crate::report::figures::builder::{Builder, KindOfFigure, ONE_SEED, assignments_text};
use crate::report::select::{Configuration, ReportError, short_label};
use std::collections::{BTreeMap, BTreeSet};

impl KindOfFigure for DifferencesSpec {
    fn names_configurations(&self) -> bool {
        true
    }

    fn reference(&self) -> Option<&BTreeMap<String, AxisValue>> {
        Some(&self.baseline)
    }

    fn has_levels(&self) -> bool {
        false
    }

    fn x_label(&self, _builder: &Builder<'_>) -> String {
        "configuration".to_owned()
    }

    fn y_label(&self, metric: String) -> String {
        format!("difference in {metric}")
    }

    fn chart(
        &self,
        builder: &mut Builder<'_>,
        _title: &str,
        members: &[Configuration<'_>],
    ) -> Result<Box<dyn Chart>, ReportError> {
        let baseline = builder.reference.clone();
        let intervals = intervals(builder, members, baseline.as_ref());
        let mut points = Vec::new();
        for (index, (c, interval)) in members.iter().zip(intervals).enumerate() {
            builder.note_cell(c);
            let mark = (index as f64, interval);
            points.push(difference(builder, c, baseline.as_ref(), mark));
        }
        let seeds = baseline.as_ref().map_or(0, |c| builder.note_cell(c));
        let label = |c: &Configuration<'_>| short_label(c.assignments, &builder.varying);
        Ok(Box::new(BarChart {
            categories: members.iter().map(label).collect(),
            from_zero: false,
            series: vec![Series {
                name: String::new(),
                look: 0,
                points,
            }],
            reference: Some(ReferenceLine {
                name: format!("baseline, {}", assignments_text(&self.baseline)),
                point: zero(seeds),
            }),
            forest: true,
        }))
    }

    fn note(&self, builder: &Builder<'_>, seeds: &str, _panels: &[Panel]) -> String {
        let marks = builder.whiskers_words("Points", seeds);
        let dots = if seeds == ONE_SEED {
            "."
        } else {
            ", all marks together; dots: single seeds."
        };
        format!("{marks}{dots} Differences are paired by seed and by row. Dashed: none.")
    }
}

impl Builder<'_> {
    /// Shows the runs of a configuration and notes what is missing; returns its number of values.
    fn note_cell(&mut self, c: &Configuration<'_>) -> usize {
        let cell = summarise(self.results, c, &self.measured.metric);
        let label = short_label(c.assignments, &self.varying);
        self.note_gaps(&label, &cell.missing);
        self.runs.extend(cell.seeds.iter().map(|s| s.2.clone()));
        cell.seeds.len()
    }
}

/// The line at no difference.
fn zero(seeds: usize) -> Point {
    Point {
        x: 0.0,
        estimate: Some(Estimate {
            value: 0.0,
            stderr: None,
            n: seeds,
        }),
        interval: None,
        seeds: Vec::new(),
        absent: String::new(),
    }
}

/// Of each member's difference, all of them right together.
fn intervals(
    builder: &Builder<'_>,
    members: &[Configuration<'_>],
    baseline: Option<&Configuration<'_>>,
) -> Vec<Option<Interval>> {
    let analysis = builder.analysis();
    let base = baseline.and_then(|c| builder.arm(c));
    let interval = |c: &Configuration<'_>| -> Option<Interval> {
        let compared = analysis.compare(builder.arm(c)?, base?, members.len(), None)?;
        compared.interval
    };
    members.iter().map(interval).collect()
}

/// The mean difference over the seeds that both have; pairs that share both runs count once.
fn difference(
    builder: &mut Builder<'_>,
    c: &Configuration<'_>,
    baseline: Option<&Configuration<'_>>,
    (x, interval): (f64, Option<Interval>),
) -> Point {
    let value = |trial| {
        let found = builder.results.metric(trial, &builder.measured.metric)?;
        Some(found.value).filter(|v| v.is_finite())
    };
    let mut pairs = BTreeSet::new();
    let mut seeds: Vec<SeedValue> = Vec::new();
    for ours in &c.trials {
        let mut others = baseline.iter().flat_map(|c| &c.trials);
        let Some(theirs) = others.find(|t| t.seed == ours.seed) else {
            continue;
        };
        if let (Some(a), Some(b)) = (value(ours), value(theirs))
            && pairs.insert((&ours.eval, &theirs.eval))
        {
            seeds.push(SeedValue {
                seed: ours.seed,
                value: a - b,
                x: None,
                run: ours.eval.to_string(),
            });
        }
    }
    let estimate = mean(&seeds.iter().map(|s| s.value).collect::<Vec<_>>());
    builder.seeds.extend(estimate.map(|e| e.n));
    Point {
        x,
        estimate,
        interval,
        seeds,
        absent: "no pair".to_owned(),
    }
}
