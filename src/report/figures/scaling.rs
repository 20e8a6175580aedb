//! A final metric over another one: a parabola through each series, and where it saturates.

use crate::config::sweep::ScalingSpec;
use crate::figures::{
    Chart, Fit, Panel, Point, Saturation, Scale, ScalingChart, ScalingCurve, Series,
};
use crate::metrics::{Better, Interval, Turn, fixed, metric_spec, p_value, parabola};
use crate::report::compare::summarise;
use crate::report::figures::builder::{Builder, KindOfFigure, scale_of};
use crate::report::figures::findings::{best_point, led};
use crate::report::select::{Configuration, ReportError, short_label};

impl KindOfFigure for ScalingSpec {
    /// Its points are whole configurations.
    fn names_configurations(&self) -> bool {
        true
    }

    fn x_label(&self, _builder: &Builder<'_>) -> String {
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
            let (mut points, mut places): (Vec<Point>, Vec<(usize, f64)>) = Default::default();
            for c in of_series {
                if let Some(point) = self.measured_point(builder, c) {
                    places.extend(builder.arm(c).map(|arm| (arm, point.x)));
                    points.push(point);
                }
            }
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            let name = builder.series_name(value.as_ref());
            let fit = fit_of(&means(&points), scale);
            let band = band_of(builder, &places, scale);
            let look = builder.series_look(value.as_ref());
            let turn = turn_of(builder, &places, scale);
            let good = builder.not_clearly_worse(&places);
            let first = good.and_then(|places| places.first().copied());
            let lead = led(title, &name);
            let words = self.saturation_words(turn, first, &points, better);
            builder.findings.extend(words.map(|words| lead + &words));
            let saturation = match (turn, fit) {
                (Some(turn), Some(fit)) => Some(Saturation {
                    x: turn.at,
                    y: fit.at(turn.at),
                    turn: Some(turn.interval),
                }),
                _ => first.and_then(|x| {
                    let point = points.iter().find(|p| p.x.total_cmp(&x).is_eq())?;
                    let y = point.estimate?.value;
                    Some(Saturation { x, y, turn: None })
                }),
            };
            let series = Series { name, look, points };
            builder.seed_lines |= !series.seed_lines().is_empty();
            curves.push(ScalingCurve {
                series,
                fit,
                band,
                saturation,
            });
        }
        Ok(Box::new(ScalingChart { scale, curves }))
    }

    fn note(&self, builder: &Builder<'_>, seeds: &str, _panels: &[Panel]) -> String {
        let over = if self.log_x { "log₁₀ x" } else { "x" };
        let ring = if builder.better() == Better::Neither {
            ""
        } else {
            " Ringed: the first point that is not clearly worse than the best, or, on a fit, a turn that a straight line does not explain, with its interval."
        };
        let points = builder.marks_words("Points", seeds);
        let thin = builder.seed_lines_words();
        format!(
            "{points}.{thin} Marks that would hide each other stand side by side. Dotted, with its 95 % band: least-squares parabola in {over} through the means.{ring}"
        )
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

    /// Where a series saturates, in words: a turn only if a straight line is clearly wrong.
    fn saturation_words(
        &self,
        turn: Option<Turn>,
        first: Option<f64>,
        points: &[Point],
        better: Better,
    ) -> Option<String> {
        let best = best_point(points, better)?;
        let (x_spec, y_spec) = (
            metric_spec(&self.x_metric),
            metric_spec(&self.measured.metric),
        );
        let unit = x_spec.unit;
        let x_text = |x: f64| fixed(x, x_spec.decimals);
        let at = |x: f64| format!("{} {unit}", x_text(x)).trim_end().to_owned();
        let value = fixed(best.estimate?.value, y_spec.decimals);
        let turns = match turn {
            Some(Turn { at: x, interval, p }) => format!(
                "turns at {} [{}, {}] (a straight line: {})",
                at(x),
                x_text(interval.low),
                x_text(interval.high),
                p_value(p)
            ),
            None => "no turn within the data is shown: the curve may be straight, or turn outside"
                .to_owned(),
        };
        let first = match first {
            Some(x) if x.total_cmp(&best.x).is_ne() => {
                format!("; not clearly worse from {} on", at(x))
            }
            Some(x) if points.first().is_some_and(|p| p.x.total_cmp(&x).is_ne()) => {
                "; everything before it is clearly worse".to_owned()
            }
            // Before the first point there is nothing.
            Some(_) | None => String::new(),
        };
        Some(format!("{turns}; best at {}, {value}{first}.", at(best.x)))
    }
}

/// The turn of a series, in the units of x.
fn turn_of(builder: &Builder<'_>, places: &[(usize, f64)], scale: Scale) -> Option<Turn> {
    let scaled = |x: f64| match scale {
        Scale::Linear => x,
        Scale::Log => x.log10(),
    };
    let back = |u: f64| match scale {
        Scale::Linear => u,
        Scale::Log => 10f64.powf(u),
    };
    let places: Vec<(usize, f64)> = places.iter().map(|(arm, x)| (*arm, scaled(*x))).collect();
    let turn = builder.analysis().turn(&places, builder.better())?;
    Some(Turn {
        at: back(turn.at),
        interval: Interval {
            low: back(turn.interval.low),
            high: back(turn.interval.high),
        },
        p: turn.p,
    })
}

/// The interval of the fit of a series along its places, evenly spaced on the scale of x; empty without one.
fn band_of(builder: &Builder<'_>, places: &[(usize, f64)], scale: Scale) -> Vec<(f64, Interval)> {
    let scaled = |x: f64| match scale {
        Scale::Linear => x,
        Scale::Log => x.log10(),
    };
    let places: Vec<(usize, f64)> = places.iter().map(|(arm, x)| (*arm, scaled(*x))).collect();
    let ends = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = places
        .iter()
        .fold(ends, |(l, h), (_, x)| (l.min(*x), h.max(*x)));
    if low >= high {
        return Vec::new();
    }
    let step = (high - low) / f64::from(BAND_PIECES);
    let xs: Vec<f64> = (0..=BAND_PIECES)
        .map(|k| low + step * f64::from(k))
        .collect();
    let back = |u: f64| match scale {
        Scale::Linear => u,
        Scale::Log => 10f64.powf(u),
    };
    let fitted = builder.analysis().fitted(&places, &xs).unwrap_or_default();
    xs.iter().map(|u| back(*u)).zip(fitted).collect()
}

/// Pieces of the band of a fit, whose corners are not seen: it bends little.
const BAND_PIECES: u32 = 24;

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

    #[test]
    fn nothing_is_said_of_what_stands_before_the_first_point() {
        let spec = ScalingSpec {
            x_metric: "training/flops".to_owned(),
            ..ScalingSpec::default()
        };
        let words = |ys: &[f64], first| {
            let words = spec.saturation_words(None, Some(first), &points(ys), Better::Higher);
            words.unwrap()
        };
        assert!(!words(&[0.9, 0.2, 0.1], 10.0).contains("before it"));
        assert!(words(&[0.1, 0.9, 0.2], 100.0).contains("everything before it is clearly worse"));
        assert!(words(&[0.1, 0.9, 0.95], 100.0).contains("not clearly worse from 100"));
    }

    #[test]
    fn two_places_have_no_fit() {
        assert_eq!(fit_of(&means(&points(&[0.1, 0.2])), Scale::Log), None);
    }
}
