//! Curves along training, and what is written under their panels.

use crate::config::sweep::TrainingSpec;
use crate::figures::{Chart, Curve, Panel, SeedCurve, TrainingChart, looks_of};
use crate::metrics::{
    Analysis, Arm, Better, Column, Comparison, Estimate, Interval, SeedValues, fixed, mean,
    metric_spec,
};
use crate::plan::{RunId, StageKind};
use crate::report::column::ColumnReader;
use crate::report::compare::summarise;
use crate::report::figures::builder::{Builder, KindOfFigure, ONE_SEED, scale_of};
use crate::report::figures::findings::led;
use crate::report::select::{
    Configuration, ReportError, StepRow, TrialResult, configuration_key, short_label,
};
use std::collections::BTreeMap;

impl KindOfFigure for TrainingSpec {
    fn names_configurations(&self) -> bool {
        self.measured.series.is_none()
    }

    fn x_label(&self, _builder: &Builder<'_>) -> String {
        let log = if self.log_x { " (log scale)" } else { "" };
        format!("optimiser step{log}")
    }

    fn chart(
        &self,
        builder: &mut Builder<'_>,
        title: &str,
        members: &[Configuration<'_>],
    ) -> Result<Box<dyn Chart>, ReportError> {
        let mut curves = Vec::new();
        for c in members {
            let name = builder.curve_name(c);
            let mut seeds: Vec<SeedCurve> = Vec::new();
            for trial in &c.trials {
                if let Some(curve) = builder.curve(trial, c)?
                    && !seeds.iter().any(|s| s.run == curve.run)
                {
                    seeds.push(curve);
                }
            }
            if !seeds.is_empty() {
                builder.seeds.insert(seeds.len());
                let value = self
                    .measured
                    .series
                    .as_ref()
                    .and_then(|axis| c.assignments.get(axis));
                let look = builder.series_look(value);
                curves.push(Curve { name, look, seeds });
            }
        }
        // Curves of an axis stand in the order of its values.
        if self.measured.series.is_some() {
            let order = builder.series_values(members);
            let name = |v: &Option<_>| builder.series_name(v.as_ref());
            let names: Vec<String> = order.iter().map(name).collect();
            curves.sort_by_key(|c| names.iter().position(|n| *n == c.name));
        }
        if self.measured.panels.is_some() {
            for curve in &curves {
                let text = turn_words(curve, builder.better(), builder.decimals());
                let lead = led(title, &curve.name);
                builder.findings.extend(text.map(|text| lead + &text));
            }
        }
        // Configurations that no axis names are told apart by their order.
        if self.measured.series.is_none() {
            let names: Vec<String> = curves.iter().map(|c| c.name.clone()).collect();
            let looks = looks_of(&names);
            if curves.len() > 1 {
                curves
                    .iter_mut()
                    .zip(looks)
                    .for_each(|(c, look)| c.look = look);
            }
        }
        let scale = scale_of(self.log_x);
        Ok(Box::new(TrainingChart { scale, curves }))
    }

    /// Final metrics, or last values of step metrics, of a panel's configurations, a line each:
    /// `loss 1.482 ± 0.020`.
    fn under(
        &self,
        builder: &mut Builder<'_>,
        members: &[Configuration<'_>],
    ) -> Result<String, ReportError> {
        let mut lines = Vec::new();
        for c in members {
            let name = builder.curve_name(c);
            let lead = if members.len() > 1 {
                led("", &name)
            } else {
                String::new()
            };
            for key in &self.under {
                let value = builder.score(c, key)?;
                lines.push(format!("{lead}{} {value}", metric_spec(key).name_of(key)));
            }
        }
        Ok(lines.join("\n"))
    }

    fn note(&self, _builder: &Builder<'_>, seeds: &str, _panels: &[Panel]) -> String {
        if seeds == ONE_SEED {
            return "One seed a configuration.".to_owned();
        }
        let under = if self.under.is_empty() {
            ""
        } else {
            " Under each panel: mean ± half of its 95 % interval."
        };
        format!(
            "Thick line: mean over {seeds}, with a mark at each measured step; band: lowest to highest seed; thin lines: single seeds.{under}"
        )
    }
}

/// `1.482 ± 0.020`.
fn with_half_width(estimate: Estimate, interval: Option<Interval>, decimals: usize) -> String {
    let value = fixed(estimate.value, decimals);
    match interval {
        Some(i) => format!("{value} ± {}", fixed(i.half_width(), decimals)),
        None => value,
    }
}

impl Builder<'_> {
    /// A metric along the last training run of a trial that recorded it.
    fn recorded(
        &mut self,
        trial: &TrialResult,
        metric: &str,
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
            let value = |s: &StepRow| Some((s.step as f64, *s.metrics.get(metric)?));
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
        Ok(None)
    }

    /// The figure's metric along the training of a trial; what is missing is noted.
    fn curve(
        &mut self,
        trial: &TrialResult,
        c: &Configuration<'_>,
    ) -> Result<Option<SeedCurve>, ReportError> {
        let metric = self.measured.metric.clone();
        if let Some(curve) = self.recorded(trial, &metric)? {
            return Ok(Some(curve));
        }
        let label = short_label(c.assignments, &self.varying);
        let why = self.results.why_missing(trial);
        let text = if why.word == "not measured" {
            format!("no run recorded `{}`", self.measured.metric)
        } else {
            why.text
        };
        self.gaps
            .push(format!("{label}, seed {}: {text}", trial.seed));
        Ok(None)
    }

    /// The name of a configuration's curve within its panel.
    fn curve_name(&self, c: &Configuration<'_>) -> String {
        if let Some(axis) = &self.measured.series {
            return self.series_name(c.assignments.get(axis));
        }
        let rest: Vec<String> = self
            .varying
            .iter()
            .filter(|axis| self.measured.panels.as_ref() != Some(*axis))
            .cloned()
            .collect();
        if rest.is_empty() {
            String::new()
        } else {
            short_label(c.assignments, &rest)
        }
    }

    /// The last values of a step metric, one a training run; none if it is no step metric.
    fn last_values(
        &mut self,
        c: &Configuration<'_>,
        metric: &str,
    ) -> Result<Vec<f64>, ReportError> {
        let (mut runs, mut values) = (Vec::new(), Vec::new());
        for trial in &c.trials {
            if let Some(curve) = self.recorded(trial, metric)?
                && let Some((_, last)) = curve.points.last()
                && !runs.contains(&curve.run)
            {
                values.push(*last);
                runs.push(curve.run);
            }
        }
        Ok(values)
    }

    /// The interval of a final metric of a configuration, its noise pooled over the figure's.
    fn final_interval(
        &mut self,
        c: &Configuration<'_>,
        key: &str,
    ) -> Result<Option<Interval>, ReportError> {
        if !self.finals.contains_key(key) {
            let results = self.results;
            let all = results.configurations(&self.head.filter);
            let column = ColumnReader::new(results).column(&all, key)?;
            let analysis = Analysis::of(&column);
            let mut found: BTreeMap<String, Interval> = BTreeMap::new();
            for (arm, c) in all.iter().enumerate() {
                let interval = analysis.cell_interval(arm);
                found.extend(interval.map(|i| (configuration_key(c.assignments), i)));
            }
            self.finals.insert(key.to_owned(), found);
        }
        let own = configuration_key(c.assignments);
        let of_metric = self.finals.get(key);
        Ok(of_metric.and_then(|found| found.get(&own)).copied())
    }

    /// A final metric of a configuration, or the last values of a step metric, or why there is none.
    fn score(&mut self, c: &Configuration<'_>, key: &str) -> Result<String, ReportError> {
        let decimals = metric_spec(key).decimals;
        if let Some(last) = mean(&self.last_values(c, key)?) {
            return Ok(with_half_width(last, last.t_interval(0.95), decimals));
        }
        let cell = summarise(self.results, c, key);
        let label = short_label(c.assignments, &self.varying);
        self.note_gaps(&label, &cell.missing);
        self.runs.extend(cell.seeds.into_iter().map(|s| s.2));
        Ok(match cell.estimate {
            Some(estimate) => with_half_width(estimate, self.final_interval(c, key)?, decimals),
            None => cell.missing.first().map_or("no value", |m| m.1).to_owned(),
        })
    }
}

/// Where the mean of a curve is best, where it ends, and whether that is clearly worse.
fn turn_words(curve: &Curve, better: Better, decimals: usize) -> Option<String> {
    let (word, sign) = match better {
        Better::Higher => ("highest", 1.0),
        Better::Lower => ("lowest", -1.0),
        Better::Neither => return None,
    };
    let band = curve.band();
    let last = *band.last()?;
    let best = band.iter().fold(
        last,
        |best, p| {
            if sign * p.1 > sign * best.1 { *p } else { best }
        },
    );
    let value = fixed(best.1, decimals);
    if best.0 >= last.0 {
        return Some(format!("{word} mean {value} at the last step, {}.", last.0));
    }
    let change = change(curve, best.0, last.0, band.len() - 1)?;
    Some(format!(
        "{word} mean {value} at step {}, {} at the last step, {}: {}.",
        best.0,
        fixed(last.1, decimals),
        last.0,
        change.words(better, decimals)
    ))
}

/// The last step against the best one, which was picked from so many: over seeds alone, since steps of one
/// run are no independent arms whose variance could be pooled.
fn change(curve: &Curve, best: f64, last: f64, picked_from: usize) -> Option<Comparison> {
    let arm = |(index, step): (usize, f64)| -> Option<Arm> {
        let seed = |(run, seed): (usize, &SeedCurve)| {
            let mut points = seed.points.iter();
            let found = points.find(|(x, _)| x.total_cmp(&step).is_eq())?;
            Some(SeedValues {
                seed: run as u64,
                run: index * curve.seeds.len() + run,
                value: found.1,
                rows: Vec::new(),
            })
        };
        let seeds = curve.seeds.iter().enumerate().map(seed);
        Some(Arm {
            seeds: seeds.collect::<Option<_>>()?,
            row_set: None,
        })
    };
    let arms = [best, last].into_iter().enumerate().map(arm);
    let column = Column {
        arms: arms.collect::<Option<_>>()?,
        ..Column::default()
    };
    Analysis::of(&column).compare(1, 0, picked_from, None)
}
