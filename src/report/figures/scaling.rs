//! A final metric over another one: a parabola through each series, and where it saturates.

use crate::config::sweep::ScalingSpec;
use crate::figures::{
    Chart, Fit, Panel, Point, Saturation, Scale, ScalingChart, ScalingCurve, Series,
};
use crate::metrics::{Better, fixed, metric_spec, parabola};
use crate::report::compare::summarise;
use crate::report::figures::builder::{Builder, KindOfFigure, ONE_SEED, scale_of};
use crate::report::figures::findings::{best_point, led};
use crate::report::select::{Configuration, ReportError, short_label};
use std::collections::BTreeMap;

impl KindOfFigure for ScalingSpec {
    /// Its points are whole configurations.
    fn names_configurations(&self) -> bool {
        true
    }

    fn x_label(&self) -> String {
        let log = if self.log_x { ", log scale" } else { "" };
        format!(
            "{}{log}",
            metric_spec(&self.x_metric).full_label(&self.x_metric)
        )
    }

    fn chart(
        &self,
        builder: &mut Builder<'_>,
        title: &str,
        members: &[Configuration<'_>],
    ) -> Result<Box<dyn Chart>, ReportError> {
        if self.x_metric.is_empty() {
            return Err(ReportError::NoX {
                figure: builder.head.name.clone(),
            });
        }
        let (scale, better) = (scale_of(self.log_x), builder.better());
        let mut curves = Vec::new();
        for value in builder.series_values(members) {
            let of_series: Vec<_> = builder.of_series(members, value.as_ref()).collect();
            let mut points: Vec<Point> = Vec::new();
            for c in of_series {
                points.extend(self.measured_point(builder, c));
            }
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            let name = builder.series_name(value.as_ref());
            let fit = fit_of(&means(&points), scale);
            let saturation = saturation(&points, fit, better);
            let curve = ScalingCurve {
                series: Series { name, points },
                fit,
                saturation,
            };
            let words = self.saturation_words(&curve, better);
            let lead = led(title, &curve.series.name);
            builder.findings.extend(words.map(|words| lead + &words));
            curves.push(curve);
        }
        Ok(Box::new(ScalingChart { scale, curves }))
    }

    fn note(&self, builder: &Builder<'_>, seeds: &str, _panels: &[Panel]) -> String {
        let over = if self.log_x { "log₁₀ x" } else { "x" };
        let ring = if builder.better() == Better::Neither {
            ""
        } else {
            " Ringed: where a series saturates; a dashed line down marks the turn of its fit."
        };
        let spread = if seeds == ONE_SEED {
            "Points: one seed each, so no interval.".to_owned()
        } else {
            format!("Points: mean over {seeds}; whiskers: 95 % t-interval of that mean.")
        };
        format!("{spread} Dotted: least-squares parabola in {over} through the means.{ring}")
    }
}

impl ScalingSpec {
    /// A configuration whose x is measured too; noted if it has no place.
    fn measured_point(&self, builder: &mut Builder<'_>, c: &Configuration<'_>) -> Option<Point> {
        let key = &self.x_metric;
        let place = summarise(builder.results, c, key);
        let label = short_label(c.assignments, &builder.varying);
        let Some(x) = place.estimate.map(|e| e.value) else {
            let gaps = place.missing.iter();
            let gaps =
                gaps.map(|(seed, _, text)| format!("{label}, seed {seed}: {text} (`{key}`)"));
            builder.gaps.extend(gaps);
            return None;
        };
        if self.log_x && x <= 0.0 {
            let gap = format!("{label}: {key} is {x}, which a logarithmic axis cannot show");
            builder.gaps.push(gap);
            return None;
        }
        let mut point = builder.point(c, x);
        for seed in &mut point.seeds {
            let own = place.seeds.iter().find(|s| s.0 == seed.seed);
            seed.x = own.map(|s| s.1);
        }
        Some(point)
    }

    /// Where a series saturates, in words.
    fn saturation_words(&self, curve: &ScalingCurve, better: Better) -> Option<String> {
        let found = curve.saturation?;
        let (x_spec, y_spec) = (
            metric_spec(&self.x_metric),
            metric_spec(&self.measured.metric),
        );
        let x_text = |x: f64| fixed(x, x_spec.decimals);
        let at = format!("{} {}", x_text(found.x), x_spec.unit);
        let value = fixed(found.y, y_spec.decimals);
        if !found.on_fit {
            let why = match curve.fit {
                None => "fewer than three places on x, so no fit",
                Some(_) => "the fit does not turn within the data",
            };
            let last = curve.series.points.iter().rfind(|p| p.estimate.is_some());
            let edge = if last.is_some_and(|p| p.x <= found.x) {
                ", the last of the series"
            } else {
                ""
            };
            return Some(format!(
                "{why}; best observed point at {}{edge}, {value}.",
                at.trim_end()
            ));
        }
        let turns = seed_turns(&curve.series.points, scale_of(self.log_x), better);
        let low = turns.iter().copied().fold(f64::INFINITY, f64::min);
        let high = turns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let seeds = match turns.len() {
            0 | 1 => String::new(),
            n => format!("; of {n} single seeds: {} to {}", x_text(low), x_text(high)),
        };
        Some(format!(
            "saturates at {}, {value} (turn of the fit{seeds}).",
            at.trim_end()
        ))
    }
}

fn means(points: &[Point]) -> Vec<(f64, f64)> {
    let mean = |p: &Point| Some((p.x, p.estimate?.value));
    points.iter().filter_map(mean).collect()
}

/// The least-squares parabola, over log₁₀ x on a logarithmic axis.
fn fit_of(points: &[(f64, f64)], scale: Scale) -> Option<Fit> {
    let u = |x: f64| match scale {
        Scale::Linear => x,
        Scale::Log => x.log10(),
    };
    let points: Vec<(f64, f64)> = points.iter().map(|(x, y)| (u(*x), *y)).collect();
    parabola(&points).map(|parabola| Fit { parabola, scale })
}

/// The turn of a fit, if it is a best value and within the points.
fn turn(points: &[(f64, f64)], fit: Fit, better: Better) -> Option<f64> {
    let right_kind = match better {
        Better::Higher => fit.parabola.c < 0.0,
        Better::Lower => fit.parabola.c > 0.0,
        Better::Neither => false,
    };
    let x = fit.turn().filter(|_| right_kind)?;
    let low = points.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|p| p.0).fold(f64::NEG_INFINITY, f64::max);
    (low..=high).contains(&x).then_some(x)
}

/// The turn of the fit, else the best observed point; none where no side is better.
fn saturation(points: &[Point], fit: Option<Fit>, better: Better) -> Option<Saturation> {
    if better == Better::Neither {
        return None;
    }
    let on_fit = fit.and_then(|fit| Some((turn(&means(points), fit, better)?, fit)));
    if let Some((x, fit)) = on_fit {
        return Some(Saturation {
            x,
            y: fit.at(x),
            on_fit: true,
        });
    }
    let best = best_point(points, better)?;
    Some(Saturation {
        x: best.x,
        y: best.estimate?.value,
        on_fit: false,
    })
}

/// Where the fits of single seeds turn, for seeds that have every point and whose fit turns.
fn seed_turns(points: &[Point], scale: Scale, better: Better) -> Vec<f64> {
    let measured: Vec<&Point> = points.iter().filter(|p| p.estimate.is_some()).collect();
    let mut of_seed: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    for point in &measured {
        for seed in &point.seeds {
            let place = (seed.x.unwrap_or(point.x), seed.value);
            of_seed.entry(seed.seed).or_default().push(place);
        }
    }
    let whole = of_seed.into_values().filter(|p| p.len() == measured.len());
    whole
        .filter_map(|points| turn(&points, fit_of(&points, scale)?, better))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::mean;

    fn points(ys: &[f64]) -> Vec<Point> {
        let point = |(k, y): (i32, &f64)| Point {
            x: 10f64.powi(k),
            estimate: mean(&[*y]),
            interval: None,
            seeds: Vec::new(),
            absent: String::new(),
        };
        (1..).zip(ys).map(point).collect()
    }

    // Over u = log10 x = 1, 2, 3: y = 1 − (u − 2)² turns at 2, that is x = 100.
    #[test]
    fn a_series_saturates_where_its_fit_turns_inside_the_data() {
        let points = points(&[0.0, 1.0, 0.0]);
        let fit = fit_of(&means(&points), Scale::Log);
        let found = saturation(&points, fit, Better::Higher).unwrap();
        assert!(found.on_fit && (found.x - 100.0).abs() < 1e-9 && (found.y - 1.0).abs() < 1e-9);
        // The same parabola has no lowest point: the best observed is the first.
        let found = saturation(&points, fit, Better::Lower).unwrap();
        assert!(!found.on_fit && (found.x - 10.0).abs() < 1e-12);
        assert_eq!(saturation(&points, fit, Better::Neither), None);
    }

    // 1 − 0.01·(u − 4)² rises over u = 1, 2, 3: it turns outside.
    #[test]
    fn a_series_that_still_rises_has_its_best_observed_point() {
        let points = points(&[0.91, 0.96, 0.99]);
        let fit = fit_of(&means(&points), Scale::Log);
        assert!((fit.unwrap().turn().unwrap().log10() - 4.0).abs() < 1e-9);
        let found = saturation(&points, fit, Better::Higher).unwrap();
        assert_eq!((found.on_fit, found.y), (false, 0.99));
    }

    #[test]
    fn two_places_have_no_fit() {
        assert_eq!(fit_of(&means(&points(&[0.1, 0.2])), Scale::Log), None);
    }
}
