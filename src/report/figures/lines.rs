//! Lines over a numeric axis, and which of its values is best.

use crate::config::sweep::show_value;
use crate::figures::axes::setting;
use crate::figures::{Chart, Point, Series};
use crate::metrics::{Better, fixed, metric_spec};
use crate::report::figures::{Builder, has};
use crate::report::select::{Configuration, ReportError};

impl Builder<'_> {
    /// The chart of one panel.
    pub(super) fn lines(
        &mut self,
        title: &str,
        members: &[Configuration<'_>],
    ) -> Result<Chart, ReportError> {
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
        self.name_best(title, &axis, &series);
        Ok(Chart::Lines {
            scale: self.scale(),
            series,
        })
    }

    /// Says the best x of each line, with its interval and for how many seeds it is the best.
    fn name_best(&mut self, title: &str, axis: &str, series: &[Series]) {
        let better = self.better();
        if better == Better::Neither {
            return;
        }
        let decimals = metric_spec(&self.spec.metric).decimals;
        let mut winners: Vec<f64> = Vec::new();
        for one in series {
            let Some(best) = best_point(&one.points, better) else {
                continue;
            };
            winners.push(best.x);
            let value = best.estimate.map_or(f64::NAN, |e| e.value);
            let mut text = format!("{}best {axis}: {}", led(title, &one.name), setting(best.x));
            text += &seeds_words(&seed_winners(&one.points, better), best.x);
            text += &format!(", {}", fixed(value, decimals));
            if let Some(i) = best.interval {
                let (low, high) = (fixed(i.low, decimals), fixed(i.high, decimals));
                text += &format!(" [{low}, {high}]");
            }
            self.findings.push(format!("{text}."));
        }
        if winners.len() > 1 {
            let low = winners.iter().copied().fold(f64::INFINITY, f64::min);
            let high = winners.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lead = led(title, "");
            self.findings.push(if low < high {
                let (low, high) = (setting(low), setting(high));
                format!("{lead}the best {axis} differs between the lines: {low} to {high}.")
            } else {
                format!(
                    "{lead}the best {axis} is the same in every line: {}.",
                    setting(low)
                )
            });
        }
    }
}

/// `panel, line: `, of what is not empty.
pub(super) fn led(title: &str, name: &str) -> String {
    let parts: Vec<&str> = [title, name]
        .into_iter()
        .filter(|p| !p.is_empty())
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("{}: ", parts.join(", "))
    }
}

/// Which of two values is better.
fn beats(better: Better, a: f64, b: f64) -> bool {
    if better == Better::Lower {
        a < b
    } else {
        a > b
    }
}

/// The point with the best mean, the first of equals; none of fewer than two.
pub(super) fn best_point(points: &[Point], better: Better) -> Option<&Point> {
    let mut best: Option<(&Point, f64)> = None;
    let mut count = 0;
    for point in points {
        let Some(estimate) = point.estimate else {
            continue;
        };
        count += 1;
        if best.is_none_or(|(_, value)| beats(better, estimate.value, value)) {
            best = Some((point, estimate.value));
        }
    }
    best.filter(|_| count > 1).map(|(point, _)| point)
}

/// For each seed that has a value at every point: the x of its best value, several if they are equal.
fn seed_winners(points: &[Point], better: Better) -> Vec<Vec<f64>> {
    let measured: Vec<&Point> = points.iter().filter(|p| p.estimate.is_some()).collect();
    let seeds: Vec<u64> = measured
        .first()
        .map(|p| p.seeds.iter().map(|s| s.seed).collect())
        .unwrap_or_default();
    let of = |seed: u64| -> Option<Vec<f64>> {
        let mut best = f64::NAN;
        let mut xs = Vec::new();
        for point in &measured {
            let value = point.seeds.iter().find(|s| s.seed == seed)?.value;
            if xs.is_empty() || beats(better, value, best) {
                (best, xs) = (value, vec![point.x]);
            } else if value.total_cmp(&best).is_eq() {
                xs.push(point.x);
            }
        }
        Some(xs)
    };
    seeds.into_iter().filter_map(of).collect()
}

/// ` (2 of 3 seeds; 0.5 for 1)`; nothing with fewer than two seeds.
fn seeds_words(winners: &[Vec<f64>], best: f64) -> String {
    if winners.len() < 2 {
        return String::new();
    }
    let count = |x: f64| winners.iter().filter(|w| w.contains(&x)).count();
    let mut others: Vec<f64> = winners.iter().flatten().copied().collect();
    others.retain(|x| x.total_cmp(&best).is_ne());
    others.sort_by(f64::total_cmp);
    others.dedup();
    let mut text = format!(" ({} of {} seeds", count(best), winners.len());
    if !others.is_empty() {
        let others = others
            .iter()
            .map(|x| format!("{} for {}", setting(*x), count(*x)));
        text += &format!("; {}", others.collect::<Vec<_>>().join(", "));
    }
    if winners.iter().any(|w| w.len() > 1) {
        text += "; equal values count for each";
    }
    text + ")"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::SeedValue;
    use crate::metrics::mean;

    fn point(x: f64, values: &[f64]) -> Point {
        let seeds = (1..).zip(values).map(|(seed, v)| SeedValue {
            seed,
            value: *v,
            x: None,
            run: String::new(),
        });
        Point {
            x,
            estimate: mean(values),
            interval: None,
            seeds: seeds.collect(),
            absent: String::new(),
        }
    }

    #[test]
    fn seeds_vote_for_their_best_setting_and_ties_are_said() {
        let points = [point(0.1, &[0.9, 0.9, 0.6]), point(0.5, &[0.8, 0.85, 0.7])];
        let best = best_point(&points, Better::Higher).unwrap().x;
        assert!((best - 0.1).abs() < 1e-12);
        let words = |b| seeds_words(&seed_winners(&points, b), 0.1);
        assert_eq!(words(Better::Higher), " (2 of 3 seeds; 0.5 for 1)");
        assert_eq!(words(Better::Lower), " (1 of 3 seeds; 0.5 for 2)");
        let tied = [point(0.1, &[0.9, 0.9]), point(0.5, &[0.9, 0.8])];
        assert_eq!(
            seeds_words(&seed_winners(&tied, Better::Higher), 0.1),
            " (2 of 2 seeds; 0.5 for 1; equal values count for each)"
        );
        // A seed that lacks a value has no vote.
        let gap = [point(0.1, &[0.9, 0.9]), point(0.5, &[0.8])];
        assert_eq!(seeds_words(&seed_winners(&gap, Better::Higher), 0.1), "");
    }
}
