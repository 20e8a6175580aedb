//! Curves along training, and what is written under their panels.

use crate::figures::{Chart, Curve, SeedCurve};
use crate::metrics::{Better, fixed, mean, metric_set, metric_spec};
use crate::plan::{RunId, StageKind};
use crate::report::compare::summarise;
use crate::report::figures::Builder;
use crate::report::figures::lines::led;
use crate::report::select::{Configuration, ReportError, StepRow, TrialResult, short_label};

impl Builder<'_> {
    /// The chart of one panel.
    pub(super) fn training(
        &mut self,
        title: &str,
        members: &[Configuration<'_>],
    ) -> Result<Chart, ReportError> {
        let mut curves = Vec::new();
        for c in members {
            let name = self.curve_name(c);
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
        if self.spec.panels.is_some() {
            for curve in &curves {
                let text = turn_words(
                    curve,
                    self.better(),
                    metric_spec(&self.spec.metric).decimals,
                );
                let lead = led(title, &curve.name);
                self.findings.extend(text.map(|text| lead + &text));
            }
        }
        Ok(Chart::Training { curves })
    }

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
        let metric = self.spec.metric.clone();
        if let Some(curve) = self.recorded(trial, &metric)? {
            return Ok(Some(curve));
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

    /// The name of a configuration's curve within its panel.
    fn curve_name(&self, c: &Configuration<'_>) -> String {
        if let Some(axis) = &self.spec.series {
            return self.series_name(c.assignments.get(axis));
        }
        let rest: Vec<String> = self
            .varying
            .iter()
            .filter(|axis| self.spec.panels.as_ref() != Some(*axis))
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

    /// Final metrics, or last values of step metrics, of a panel's configurations, a line each:
    /// `loss 1.482 ± 0.020`.
    pub(super) fn under(&mut self, members: &[Configuration<'_>]) -> Result<String, ReportError> {
        let mut lines = Vec::new();
        for c in members {
            let name = self.curve_name(c);
            let lead = if members.len() > 1 {
                led("", &name)
            } else {
                String::new()
            };
            for key in self.spec.under.clone() {
                let known = metric_spec(&key);
                let what = match (known.suffix, metric_set(&key)) {
                    ("", _) => key.clone(),
                    (_, "") => known.name.to_owned(),
                    (_, set) => format!("{set}: {}", known.name),
                };
                let last = self.last_values(c, &key)?;
                if let Some(estimate) = mean(&last) {
                    let mut value = fixed(estimate.value, known.decimals);
                    if let Some(i) = estimate.t_interval(0.95) {
                        value += &format!(" ± {}", fixed(i.half_width(), known.decimals));
                    }
                    lines.push(format!("{lead}{what} {value}"));
                    continue;
                }
                let cell = summarise(self.results, c, &key);
                let label = short_label(c.assignments, &self.varying);
                for (seed, _, text) in &cell.missing {
                    let gap = format!("{label}, seed {seed}: {text}");
                    if !self.gaps.contains(&gap) {
                        self.gaps.push(gap);
                    }
                }
                let mut value = match cell.estimate {
                    Some(e) => fixed(e.value, known.decimals),
                    None => cell.missing.first().map_or("no value", |m| m.1).to_owned(),
                };
                if let Some(i) = cell.interval {
                    value += &format!(" ± {}", fixed(i.half_width(), known.decimals));
                }
                self.runs.extend(cell.seeds.into_iter().map(|s| s.2));
                lines.push(format!("{lead}{what} {value}"));
            }
        }
        Ok(lines.join("\n"))
    }
}

/// Where the mean of a curve is best, and where it ends.
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
    Some(if best.0 < last.0 {
        let end = fixed(last.1, decimals);
        format!(
            "{word} mean {value} at step {}, {end} at the last step, {}.",
            best.0, last.0
        )
    } else {
        format!("{word} mean {value} at the last step, {}.", last.0)
    })
}
