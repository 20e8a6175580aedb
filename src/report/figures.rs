//! Fills a figure of the sweep file with results.

use crate::config::sweep::{AxisValue, FigureKind, FigureSpec, show_value};
use crate::figures::{Chart, Curve, Figure, Panel, Point, Scale, SeedCurve, SeedValue, Series};
use crate::metrics::{Better, metric_spec};
use crate::plan::{RunId, StageKind};
use crate::report::compare::summarise;
use crate::report::select::{
    Configuration, ReportError, StepRow, SweepResults, TrialResult, configuration_key, same_value,
    short_label,
};
use std::collections::{BTreeMap, BTreeSet};

/// At most so many gaps are named under a figure; the CSV and the tables have them all.
const NAMED_GAPS: usize = 6;

/// Builds the figure of `spec`: axes that are neither on x nor a series become panels, and results
/// that are not there are named.
///
/// # Errors
/// The figure names an axis that the sweep does not have or that is not numeric where it must be,
/// or a results file cannot be read.
pub fn build_figure(results: &SweepResults, spec: &FigureSpec) -> Result<Figure, ReportError> {
    for axis in spec.x.iter().chain(&spec.series) {
        if !results.sweep.axes.iter().any(|a| a.name == *axis) {
            return Err(ReportError::UnknownAxis {
                figure: spec.name.clone(),
                axis: axis.clone(),
            });
        }
    }
    let configurations = results.configurations(&spec.filter);
    let varying = results.varying_axes(&configurations);
    let mut builder = Builder {
        results,
        spec,
        varying,
        gaps: Vec::new(),
        runs: BTreeSet::new(),
        seeds: BTreeSet::new(),
        steps: BTreeMap::new(),
    };
    let mut panels = Vec::new();
    for (title, members) in builder.panels(&configurations) {
        let chart = match spec.kind {
            FigureKind::Bars => builder.bars(&members),
            FigureKind::Lines => builder.lines(&members)?,
            FigureKind::Training => builder.training(&members)?,
        };
        panels.push(builder.panel(title, chart));
    }
    if panels.is_empty() {
        let chart = Chart::Bars {
            categories: Vec::new(),
            from_zero: false,
            series: Vec::new(),
        };
        panels.push(builder.panel(String::new(), chart));
        builder
            .gaps
            .push("no trial of the sweep fits this figure".to_owned());
    }
    let columns = if panels.len() > 1 { 2 } else { 1 };
    let note = builder.note();
    let more = builder.gaps.len().saturating_sub(NAMED_GAPS);
    builder.gaps.truncate(NAMED_GAPS);
    if more > 0 {
        builder
            .gaps
            .push(format!("and {more} more (see the tables)"));
    }
    Ok(Figure {
        name: spec.name.clone(),
        title: spec.title.clone(),
        note,
        missing: builder.gaps,
        caption: caption(spec),
        panels,
        columns,
        runs: builder.runs.iter().map(ToString::to_string).collect(),
    })
}

/// The sweep file's caption and the metric's definition.
fn caption(spec: &FigureSpec) -> String {
    let known = metric_spec(&spec.metric);
    if known.suffix.is_empty() {
        return spec.caption.clone();
    }
    let definition = known.description;
    format!("{} {definition}", spec.caption)
        .trim_start()
        .to_owned()
}

struct Builder<'a> {
    results: &'a SweepResults,
    spec: &'a FigureSpec,
    varying: Vec<String>,
    gaps: Vec<String>,
    runs: BTreeSet<RunId>,
    seeds: BTreeSet<usize>,
    steps: BTreeMap<RunId, Vec<StepRow>>,
}

impl<'a> Builder<'a> {
    /// Configurations by the values of the axes that are neither on x nor series, with a title each.
    fn panels(
        &self,
        configurations: &[Configuration<'a>],
    ) -> Vec<(String, Vec<Configuration<'a>>)> {
        let placed = |axis: &String| {
            self.spec.x.as_ref() == Some(axis) || self.spec.series.as_ref() == Some(axis)
        };
        // Without x, bars name whole configurations; without series, so do training curves.
        let free = match self.spec.kind {
            FigureKind::Bars => self.spec.x.is_none(),
            FigureKind::Training => self.spec.series.is_none(),
            FigureKind::Lines => false,
        };
        let rest: Vec<String> = self
            .varying
            .iter()
            .filter(|a| !free && !placed(a))
            .cloned()
            .collect();
        let mut panels: Vec<(String, Vec<Configuration<'a>>)> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for c in configurations {
            let own: BTreeMap<String, AxisValue> = rest
                .iter()
                .filter_map(|a| Some((a.clone(), c.assignments.get(a)?.clone())))
                .collect();
            let place = *places
                .entry(configuration_key(&own))
                .or_insert(panels.len());
            if place == panels.len() {
                let title = if rest.is_empty() {
                    String::new()
                } else {
                    short_label(&own, &rest)
                };
                panels.push((title, Vec::new()));
            }
            panels[place].1.push(c.clone());
        }
        panels
    }

    fn panel(&self, title: String, chart: Chart) -> Panel {
        let known = metric_spec(&self.spec.metric);
        let x_label = match (self.spec.kind, &self.spec.x) {
            (FigureKind::Training, _) => "optimiser step".to_owned(),
            (_, Some(x)) if self.spec.log_x => format!("{x} (log scale)"),
            (_, Some(x)) => x.clone(),
            (_, None) => "configuration".to_owned(),
        };
        Panel {
            title,
            x_label,
            y_label: known.full_label(&self.spec.metric),
            better: known.better,
            decimals: known.decimals,
            note: String::new(),
            chart,
        }
    }

    /// Values of an axis that these configurations have, in the sweep's order.
    fn values(
        &self,
        axis: Option<&String>,
        members: &[Configuration<'_>],
    ) -> Vec<Option<AxisValue>> {
        let Some(axis) = axis else { return vec![None] };
        let of = |c: &Configuration<'_>| c.assignments.get(axis).cloned();
        let mut values: Vec<Option<AxisValue>> = Vec::new();
        let order = self
            .results
            .sweep
            .axes
            .iter()
            .find(|a| a.name == *axis)
            .map(|a| a.values.clone())
            .unwrap_or_default();
        for value in order {
            if members
                .iter()
                .any(|c| of(c).is_some_and(|v| same_value(&v, &value)))
            {
                values.push(Some(value));
            }
        }
        if members.iter().any(|c| of(c).is_none()) {
            values.push(None);
        }
        values
    }

    fn series_name(&self, value: Option<&AxisValue>) -> String {
        match (&self.spec.series, value) {
            (Some(axis), Some(value)) => format!("{axis} = {}", show_value(value)),
            (Some(axis), None) => format!("without {axis}"),
            (None, _) => String::new(),
        }
    }

    /// The mean of one configuration at `x`; what is missing is noted.
    fn point(&mut self, configuration: &Configuration<'_>, x: f64) -> Point {
        let cell = summarise(self.results, configuration, &self.spec.metric);
        let label = short_label(configuration.assignments, &self.varying);
        for (seed, _, text) in &cell.missing {
            self.gaps.push(format!("{label}, seed {seed}: {text}"));
        }
        let absent = cell
            .missing
            .first()
            .map_or(String::new(), |m| m.1.to_owned());
        self.runs.extend(cell.seeds.iter().map(|s| s.2.clone()));
        self.seeds
            .extend((!cell.seeds.is_empty()).then_some(cell.seeds.len()));
        Point {
            x,
            estimate: cell.estimate,
            interval: cell.interval,
            seeds: cell
                .seeds
                .into_iter()
                .map(|(seed, value, run)| SeedValue {
                    seed,
                    value,
                    run: run.to_string(),
                })
                .collect(),
            absent,
        }
    }

    fn bars(&mut self, members: &[Configuration<'_>]) -> Chart {
        let from_zero_metric = metric_spec(&self.spec.metric).from_zero;
        let mut series = Vec::new();
        let categories: Vec<Option<AxisValue>>;
        let names: Vec<String>;
        if let Some(axis) = self.spec.x.clone() {
            categories = self.values(Some(&axis), members);
            names = categories
                .iter()
                .map(|v| {
                    v.as_ref()
                        .map_or_else(|| format!("without {axis}"), show_value)
                })
                .collect();
            for value in self.values(self.spec.series.as_ref(), members) {
                let mut points = Vec::new();
                for (index, category) in categories.iter().enumerate() {
                    let found = members.iter().find(|c| {
                        has(c, Some(&axis), category.as_ref())
                            && has(c, self.spec.series.as_ref(), value.as_ref())
                    });
                    points.extend(found.map(|c| self.point(c, index as f64)));
                }
                series.push(Series {
                    name: self.series_name(value.as_ref()),
                    points,
                });
            }
        } else {
            names = members
                .iter()
                .map(|c| short_label(c.assignments, &self.varying))
                .collect();
            let points = members
                .iter()
                .enumerate()
                .map(|(i, c)| self.point(c, i as f64))
                .collect();
            series.push(Series {
                name: String::new(),
                points,
            });
        }
        let negative = series
            .iter()
            .flat_map(|s| &s.points)
            .flat_map(|p| &p.seeds)
            .any(|s| s.value < 0.0);
        Chart::Bars {
            categories: names,
            from_zero: from_zero_metric && !negative,
            series,
        }
    }

    fn lines(&mut self, members: &[Configuration<'_>]) -> Result<Chart, ReportError> {
        let Some(axis) = self.spec.x.clone() else {
            return Err(ReportError::NoX {
                figure: self.spec.name.clone(),
            });
        };
        let mut series = Vec::new();
        for value in self.values(self.spec.series.as_ref(), members) {
            let mut points = Vec::new();
            for c in members
                .iter()
                .filter(|c| has(c, self.spec.series.as_ref(), value.as_ref()))
            {
                let Some(setting) = c.assignments.get(&axis) else {
                    continue;
                };
                let number = setting.as_f64().or_else(|| setting.as_str()?.parse().ok());
                let Some(x) =
                    number.filter(|x: &f64| x.is_finite() && (!self.spec.log_x || *x > 0.0))
                else {
                    return Err(ReportError::NotNumeric {
                        figure: self.spec.name.clone(),
                        axis,
                        value: show_value(setting),
                    });
                };
                points.push(self.point(c, x));
            }
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            series.push(Series {
                name: self.series_name(value.as_ref()),
                points,
            });
        }
        let scale = if self.spec.log_x {
            Scale::Log
        } else {
            Scale::Linear
        };
        Ok(Chart::Lines { scale, series })
    }

    fn training(&mut self, members: &[Configuration<'_>]) -> Result<Chart, ReportError> {
        let mut curves = Vec::new();
        for c in members {
            let name = match &self.spec.series {
                Some(axis) => self.series_name(c.assignments.get(axis)),
                None if self.varying.is_empty() => String::new(),
                None => short_label(c.assignments, &self.varying),
            };
            let mut seeds: Vec<SeedCurve> = Vec::new();
            for trial in &c.trials {
                if let Some(curve) = self.curve(trial, c)?
                    && !seeds.iter().any(|s| s.run == curve.run)
                {
                    seeds.push(curve);
                }
            }
            if !seeds.is_empty() {
                self.seeds.insert(seeds.len());
                curves.push(Curve { name, seeds });
            }
        }
        // Curves of an axis stand in the order of its values.
        if let Some(axis) = &self.spec.series {
            let order = self.values(Some(axis), members);
            let names: Vec<String> = order.iter().map(|v| self.series_name(v.as_ref())).collect();
            curves.sort_by_key(|c| names.iter().position(|n| *n == c.name));
        }
        Ok(Chart::Training { curves })
    }

    /// The metric along the last training run of a trial that recorded it.
    fn curve(
        &mut self,
        trial: &TrialResult,
        c: &Configuration<'_>,
    ) -> Result<Option<SeedCurve>, ReportError> {
        let training = |id: &&RunId| {
            self.results
                .runs
                .get(*id)
                .is_some_and(|r| matches!(r.kind, StageKind::Sft | StageKind::Dpo))
        };
        let runs: Vec<RunId> = trial.runs.iter().rev().filter(training).cloned().collect();
        for id in runs {
            if !self.steps.contains_key(&id) {
                let steps = self.results.steps(&id)?;
                self.steps.insert(id.clone(), steps);
            }
            let value = |s: &StepRow| Some((s.step as f64, *s.metrics.get(&self.spec.metric)?));
            let points: Vec<(f64, f64)> = self.steps[&id]
                .iter()
                .filter_map(value)
                .filter(|(_, y)| y.is_finite())
                .collect();
            if !points.is_empty() {
                self.runs.insert(id.clone());
                return Ok(Some(SeedCurve {
                    seed: trial.seed,
                    run: id.to_string(),
                    points,
                }));
            }
        }
        let label = short_label(c.assignments, &self.varying);
        let why = self.results.why_missing(trial);
        let text = if why.word == "not measured" {
            format!("no run recorded `{}`", self.spec.metric)
        } else {
            why.text
        };
        self.gaps
            .push(format!("{label}, seed {}: {text}", trial.seed));
        Ok(None)
    }

    /// What is drawn and over what the uncertainty is taken.
    fn note(&self) -> String {
        let n = match (self.seeds.first(), self.seeds.last()) {
            (Some(1), Some(1)) => {
                return match self.spec.kind {
                    FigureKind::Training => "One seed a configuration.".to_owned(),
                    FigureKind::Bars | FigureKind::Lines => {
                        "One seed a configuration, so no interval.".to_owned()
                    }
                };
            }
            (Some(low), Some(high)) if low == high => format!("{low} seeds"),
            (Some(low), Some(high)) => format!("{low} to {high} seeds"),
            _ => return "Nothing to draw yet.".to_owned(),
        };
        let known = metric_spec(&self.spec.metric);
        let best = if known.better == Better::Neither {
            ""
        } else {
            " Ringed: the best mean of each line."
        };
        match self.spec.kind {
            FigureKind::Training => format!(
                "Thick line: mean over {n}; band: lowest to highest seed; thin lines: single seeds."
            ),
            FigureKind::Lines => {
                format!("Points: mean over {n}; whiskers: 95 % t-interval of that mean.{best}")
            }
            FigureKind::Bars if known.from_zero => format!(
                "Bars: mean over {n}; whiskers: 95 % t-interval of that mean; dots: single seeds."
            ),
            FigureKind::Bars => format!(
                "Points: mean over {n}; whiskers: 95 % t-interval of that mean; dots: single seeds. The axis does not start at zero."
            ),
        }
    }
}

/// Whether a configuration has this value (or none) on an axis; any does without an axis.
fn has(c: &Configuration<'_>, axis: Option<&String>, value: Option<&AxisValue>) -> bool {
    let Some(axis) = axis else { return true };
    match (c.assignments.get(axis), value) {
        (Some(a), Some(b)) => same_value(a, b),
        (None, None) => true,
        _ => false,
    }
}
