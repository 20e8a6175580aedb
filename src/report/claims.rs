//! The claims of a sweep: primary comparisons, declared in its file and corrected together.

use crate::base::{counted, csv_line};
use crate::config::sweep::{AxisValue, ClaimDirection, ClaimSpec, show_value};
use crate::metrics::{
    Analysis, Comparison, Contrast, Interval, Measured, Method, fixed, holm, holm_alphas,
    metric_spec, p_value, signed,
};
use crate::report::column::ColumnReader;
use crate::report::compare::{delta_of, find_baselines};
use crate::report::select::{Configuration, ReportError, SweepResults, fits};
use serde::Serialize;
use std::collections::BTreeMap;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimVerdict {
    /// The data show it.
    Supported,
    /// The data show the opposite.
    Contradicted,
    /// The data show that the difference is too small to matter.
    Equivalent,
    /// The data do not say.
    Unresolved,
    /// There is no test.
    Untested,
}

impl ClaimVerdict {
    /// The word used in prose.
    pub fn words(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Contradicted => "contradicted",
            Self::Equivalent => "no difference that matters",
            Self::Unresolved => "unresolved",
            Self::Untested => "not tested",
        }
    }
}

/// A claim with its result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClaimOutcome {
    /// What is claimed.
    pub statement: String,
    /// The metric.
    pub metric: String,
    /// What it is about: `pairs=933`.
    pub ours: String,
    /// What that is compared with: `pairs=110`.
    pub baseline: String,
    /// What is claimed of the difference.
    pub direction: ClaimDirection,
    /// Pairs of configurations that it is the mean of.
    pub pairs: usize,
    /// What became of it.
    pub verdict: ClaimVerdict,
    /// The difference, its interval at the level of Holm's step, and p-values; `None` without data.
    pub comparison: Option<Comparison>,
    /// Claims that are corrected together.
    pub family: usize,
}

impl ClaimOutcome {
    /// One sentence, in the notation of [`crate::report::doc::spans`].
    pub fn words(&self) -> String {
        let verdict = self.verdict.words();
        let lead = format!("{}: **{verdict}**", self.statement);
        let Some(c) = &self.comparison else {
            return format!("{lead}: no results to compare yet.");
        };
        let decimals = metric_spec(&self.metric).decimals;
        let (ours, baseline) = (&self.ours, &self.baseline);
        let difference = signed(c.difference, decimals);
        let mut text = format!("{lead}: {ours} against {baseline} {difference}");
        if let Some(Interval { low, high }) = c.interval {
            text += &format!(" [{}, {}]", fixed(low, decimals), fixed(high, decimals));
        }
        text += &format!(" in `{}`", self.metric);
        if self.pairs > 1 {
            text += &format!(", the mean of {} differences", self.pairs);
        }
        if let (ClaimVerdict::Equivalent, Some(delta)) = (self.verdict, c.delta) {
            text += &format!(", within ±{}", fixed(delta, decimals));
        }
        if let Some(p) = c.p_family {
            text += &format!(", {}", p_value(p));
            if self.family > 1 {
                text += &format!(" (Holm over {})", counted(self.family, "claim"));
            }
        }
        if let Method::Untested { reason } = &c.method {
            text += &format!(" ({reason})");
        }
        text + "."
    }
}

/// Every number of the claims, exact, a line each; empty without claims.
pub fn claims_csv(claims: &[ClaimOutcome]) -> String {
    if claims.is_empty() {
        return String::new();
    }
    let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
    let line = |claim: &ClaimOutcome| {
        let c = claim.comparison.as_ref();
        let direction = match claim.direction {
            ClaimDirection::Higher => "higher",
            ClaimDirection::Lower => "lower",
            ClaimDirection::Equal => "equal",
        };
        csv_line(&[
            claim.statement.clone(),
            claim.metric.clone(),
            claim.ours.clone(),
            claim.baseline.clone(),
            direction.to_owned(),
            claim.pairs.to_string(),
            claim.verdict.words().to_owned(),
            number(c.map(|c| c.difference)),
            number(c.and_then(|c| Some(c.interval?.low))),
            number(c.and_then(|c| Some(c.interval?.high))),
            number(c.and_then(|c| c.p)),
            number(c.and_then(|c| c.p_family)),
            claim.family.to_string(),
            number(c.and_then(|c| c.delta)),
            c.map(|c| c.method.describe()).unwrap_or_default(),
        ])
    };
    let heads = [
        "statement",
        "metric",
        "ours",
        "baseline",
        "direction",
        "pairs",
        "verdict",
        "difference",
        "difference_low",
        "difference_high",
        "p",
        "p_holm",
        "claims",
        "delta",
        "method",
    ];
    let lines = claims.iter().map(line);
    csv_line(&heads) + &lines.collect::<String>()
}

/// Every claim of the sweep file with its result, in its order.
///
/// # Errors
/// A results file is there and cannot be read.
pub fn claims(results: &SweepResults) -> Result<Vec<ClaimOutcome>, ReportError> {
    let specs = &results.sweep.report.claims;
    let mut reader = ColumnReader::new(results);
    let mut columns = Vec::new();
    for spec in specs {
        let configurations = results.configurations(&spec.filter);
        let contrast = contrast_of(&configurations, spec, results.sweep.chosen());
        columns.push((reader.column(&configurations, &spec.metric)?, contrast));
    }
    let measured: Vec<(Analysis<'_>, Option<Measured>)> = columns
        .iter()
        .map(|(column, (contrast, _))| {
            let analysis = Analysis::of(column);
            let measured = analysis.contrast(contrast);
            (analysis, measured)
        })
        .collect();
    let p: Vec<Option<f64>> = specs
        .iter()
        .zip(&measured)
        .map(|(spec, (analysis, measured))| p_of(results, spec, analysis, measured.as_ref()?))
        .collect();
    let (corrected, alphas) = (holm(&p), holm_alphas(&p));
    let family = p.iter().flatten().count();
    let mut outcomes = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let (contrast, pairs) = &columns[index].1;
        let delta = spec
            .delta
            .or_else(|| delta_of(&results.sweep.report, &spec.metric));
        let alpha = alphas[index].unwrap_or(crate::metrics::ALPHA);
        let mut comparison = measured[index]
            .0
            .compare_contrast(contrast, alpha, family, delta);
        if let Some(c) = comparison.as_mut().filter(|c| c.interval.is_some()) {
            (c.p, c.p_family) = (p[index], corrected[index]);
        }
        outcomes.push(ClaimOutcome {
            statement: spec.statement.trim_end_matches('.').to_owned(),
            metric: spec.metric.clone(),
            ours: text(&spec.ours),
            baseline: text(&spec.baseline),
            direction: spec.direction,
            pairs: *pairs,
            verdict: verdict(spec.direction, comparison.as_ref()),
            comparison,
            family,
        });
    }
    Ok(outcomes)
}

/// The p-value of what the claim denies: no difference, or one of `delta` or more.
fn p_of(
    results: &SweepResults,
    spec: &ClaimSpec,
    analysis: &Analysis<'_>,
    measured: &Measured,
) -> Option<f64> {
    let spread = measured
        .real_spread()
        .filter(|_| !analysis.is_constant() && !measured.identical)?;
    if spec.direction != ClaimDirection::Equal {
        return spread.p_value(measured.value);
    }
    let delta = spec
        .delta
        .or_else(|| delta_of(&results.sweep.report, &spec.metric))?;
    let room = delta - measured.value.abs();
    if room > 0.0 {
        spread.p_value(room)
    } else {
        Some(1.0)
    }
}

fn verdict(direction: ClaimDirection, comparison: Option<&Comparison>) -> ClaimVerdict {
    let Some((c, interval)) = comparison.and_then(|c| Some((c, c.interval?))) else {
        return ClaimVerdict::Untested;
    };
    let within = c.delta.is_some_and(|d| interval.within(d));
    let above = match direction {
        ClaimDirection::Higher => true,
        ClaimDirection::Lower => false,
        ClaimDirection::Equal => {
            let outside = c
                .delta
                .is_some_and(|d| interval.low > d || interval.high < -d);
            return match (within, outside) {
                (true, _) => ClaimVerdict::Supported,
                (_, true) => ClaimVerdict::Contradicted,
                _ => ClaimVerdict::Unresolved,
            };
        }
    };
    match (interval.holds_zero(), (interval.low > 0.0) == above) {
        (false, true) => ClaimVerdict::Supported,
        (false, false) => ClaimVerdict::Contradicted,
        (true, _) if within => ClaimVerdict::Equivalent,
        (true, _) => ClaimVerdict::Unresolved,
    }
}

/// Arms with their weights, and of how many pairs they are the mean: each configuration with the values of
/// `ours` and the one that has the baseline's values and otherwise its own, or the one baseline there is.
fn contrast_of(
    configurations: &[Configuration<'_>],
    spec: &ClaimSpec,
    chosen: &[String],
) -> (Contrast, usize) {
    let baselines = find_baselines(configurations, &spec.baseline, chosen);
    let pairs: Vec<(usize, usize)> = configurations
        .iter()
        .zip(baselines)
        .enumerate()
        .filter(|(_, (c, _))| fits(c.assignments, &spec.ours))
        .filter_map(|(ours, (_, base))| Some((ours, base?)))
        .filter(|(ours, base)| ours != base)
        .collect();
    let mut weights: BTreeMap<usize, f64> = BTreeMap::new();
    for (ours, base) in &pairs {
        *weights.entry(*ours).or_default() += 1.0 / pairs.len() as f64;
        *weights.entry(*base).or_default() -= 1.0 / pairs.len() as f64;
    }
    weights.retain(|_, weight| weight.abs() > 1e-12);
    (weights.into_iter().collect(), pairs.len())
}

fn text(values: &BTreeMap<String, AxisValue>) -> String {
    let parts = values
        .iter()
        .map(|(axis, value)| format!("{axis}={}", show_value(value)));
    parts.collect::<Vec<_>>().join(" ")
}
