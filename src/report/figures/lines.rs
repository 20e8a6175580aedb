//! Lines over a numeric axis, and which of its values is best.

use crate::config::sweep::{LinesSpec, show_value};
use crate::figures::axes::setting;
use crate::figures::{Chart, LineChart, Panel, Point, Series};
use crate::metrics::{Better, fixed};
use crate::report::figures::builder::{Builder, KindOfFigure, ONE_SEED, scale_of};
use crate::report::figures::findings::{beats, best_point, led};
use crate::report::select::{Configuration, ReportError};

impl KindOfFigure for LinesSpec {
    fn x(&self) -> Option<&str> {
        Some(&self.x)
    }

    fn names_configurations(&self) -> bool {
        false
    }

    fn x_label(&self) -> String {
        let log = if self.log_x { " (log scale)" } else { "" };
        format!("{}{log}", self.x)
    }

    fn chart(
        &self,
        builder: &mut Builder<'_>,
        title: &str,
        members: &[Configuration<'_>],
    ) -> Result<Box<dyn Chart>, ReportError> {
        if self.x.is_empty() {
            return Err(ReportError::NoX {
                figure: builder.head.name.clone(),
            });
        }
        let mut series = Vec::new();
        for value in builder.series_values(members) {
            let mut points = Vec::new();
            let of_series: Vec<_> = builder.of_series(members, value.as_ref()).collect();
            for c in of_series {
                if let Some(x) = self.place(builder, c)? {
                    points.push(builder.point(c, x));
                }
            }
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            series.push(Series {
                name: builder.series_name(value.as_ref()),
                points,
            });
        }
        name_best(builder, title, &self.x, &series);
        Ok(Box::new(LineChart {
            scale: scale_of(self.log_x),
            series,
        }))
    }

    fn note(&self, builder: &Builder<'_>, seeds: &str, _panels: &[Panel]) -> String {
        if seeds == ONE_SEED {
            return "One seed a configuration, so no interval.".to_owned();
        }
        let best = if builder.better() == Better::Neither {
            ""
        } else {
            " Ringed: the best mean of each line."
        };
        format!("Points: mean over {seeds}; whiskers: 95 % t-interval of that mean.{best}")
    }
}

impl LinesSpec {
    /// Where a configuration stands on x; nowhere if the axis does not apply to it.
    fn place(
        &self,
        builder: &Builder<'_>,
        c: &Configuration<'_>,
    ) -> Result<Option<f64>, ReportError> {
        let Some(setting) = c.assignments.get(&self.x) else {
            return Ok(None);
        };
        let number = setting.as_f64().or_else(|| setting.as_str()?.parse().ok());
        match number.filter(|x: &f64| x.is_finite() && (!self.log_x || *x > 0.0)) {
            Some(x) => Ok(Some(x)),
            None => Err(ReportError::NotNumeric {
                figure: builder.head.name.clone(),
                axis: self.x.clone(),
                value: show_value(setting),
            }),
        }
    }
}

/// Says the best x of each line, with its interval and for how many seeds it is the best.
fn name_best(builder: &mut Builder<'_>, title: &str, axis: &str, series: &[Series]) {
    let better = builder.better();
    if better == Better::Neither {
        return;
    }
    let decimals = builder.decimals();
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
        builder.findings.push(format!("{text}."));
    }
    if winners.len() > 1 {
        let low = winners.iter().copied().fold(f64::INFINITY, f64::min);
        let high = winners.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lead = led(title, "");
        builder.findings.push(if low < high {
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
