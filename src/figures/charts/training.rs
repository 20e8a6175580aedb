//! Curves along training: the mean over seeds, their range, and each seed faintly.

use crate::figures::axes::{Axis, Tick, measured_axis, step_axis};
use crate::figures::canvas::{Canvas, Stroke};
use crate::figures::chart::{Arrangement, Chart, Coordinates, Frame, Room, Values};
use crate::figures::data::Scale;
use crate::figures::marks::{label_ends, series_swatch};
use crate::figures::rows::FigureRows;
use crate::figures::theme::{Look, series_look};

/// Curves along training: the mean over seeds, their range, and each seed faintly.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingChart {
    /// Scale of the steps; on a logarithmic one the state before training stands left of the first step.
    pub scale: Scale,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// A configuration along training.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Shown in the legend; empty if it is the only one.
    pub name: String,
    /// Which of the looks it has ([`crate::figures::looks_of`]).
    pub look: usize,
    /// One curve per seed, each in x order.
    pub seeds: Vec<SeedCurve>,
}

/// One seed's curve.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedCurve {
    /// The seed.
    pub seed: u64,
    /// The run it came from.
    pub run: String,
    /// `(step, value)` in step order.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    /// Mean, lowest and highest over seeds at each step that every seed has: `(x, mean, low, high)`.
    pub fn band(&self) -> Vec<(f64, f64, f64, f64)> {
        let Some((first, rest)) = self.seeds.split_first() else {
            return Vec::new();
        };
        let at = |curve: &SeedCurve, x: f64| {
            let found = curve.points.binary_search_by(|p| p.0.total_cmp(&x)).ok()?;
            Some(curve.points[found].1)
        };
        let mut band = Vec::new();
        for &(x, y) in &first.points {
            let others: Option<Vec<f64>> = rest.iter().map(|c| at(c, x)).collect();
            let Some(others) = others else { continue };
            let (mut sum, mut low, mut high) = (y, y, y);
            for v in others {
                (sum, low, high) = (sum + v, low.min(v), high.max(v));
            }
            band.push((x, sum / self.seeds.len() as f64, low, high));
        }
        band
    }
}

impl Chart for TrainingChart {
    fn values(&self) -> Values {
        let seeds = || self.curves.iter().flat_map(|c| &c.seeds);
        let points = || seeds().flat_map(|s| &s.points);
        Values {
            x: points().map(|p| self.place(p.0)).collect(),
            log_x: self.scale == Scale::Log,
            marks: points().map(|p| p.1).collect(),
            ..Values::default()
        }
    }

    fn names(&self) -> Vec<String> {
        self.curves.iter().map(|c| c.name.clone()).collect()
    }

    fn ends_in_lines(&self) -> bool {
        true
    }

    fn arrange(&self, room: &Room) -> Arrangement {
        let axis = match self.scale {
            Scale::Linear => step_axis(&self.values().x, room.plot_width()),
            Scale::Log => self.log_axis(),
        };
        room.with(Coordinates::Numbers(axis))
    }

    fn draw(&self, canvas: &mut Canvas<'_>, at: &Frame<'_>) {
        let pixel = |x: f64, y: f64| (at.x(self.place(x)), at.y(y));
        let bands: Vec<_> = self.curves.iter().map(Curve::band).collect();
        for (curve, band) in self.curves.iter().zip(&bands) {
            draw_spread(canvas, curve, band, &pixel);
        }
        let mut ends = Vec::new();
        for (curve, band) in self.curves.iter().zip(&bands) {
            let look = series_look(curve.look);
            let line: Vec<_> = band.iter().map(|b| pixel(b.0, b.1)).collect();
            let stroke = Stroke {
                color: look.color,
                width: 2.2,
                alpha: 1.0,
            };
            canvas.dashed(&line, look.dash, stroke);
            mark_curve(canvas, &line, &look, at.plot.width());
            ends.push(line.last().map(|p| p.1));
        }
        if at.names_at_ends {
            let names = self.curves.iter().map(|c| (c.name.clone(), c.look));
            let names: Vec<_> = names.collect();
            label_ends(canvas, at.plot, &names, &ends, at.plot.right);
        }
    }

    fn draw_swatch(&self, canvas: &mut Canvas<'_>, index: usize, left: f64, middle: f64) {
        series_swatch(canvas, self.curves[index].look, (left, middle));
    }

    /// Of each curve the means with lowest and highest seed, then each seed.
    fn write_rows(&self, rows: &mut FigureRows) {
        for curve in &self.curves {
            let n = curve.seeds.len().to_string();
            let runs: Vec<&str> = curve.seeds.iter().map(|s| s.run.as_str()).collect();
            let runs = runs.join(" ");
            for (x, mean, low, high) in curve.band() {
                let [x, mean, low, high] = [x, mean, low, high].map(|v| v.to_string());
                rows.row([&curve.name, &x, "mean", &n, &mean, &low, &high, &runs]);
            }
            for seed in &curve.seeds {
                for (x, y) in &seed.points {
                    let (x, y, s) = (x.to_string(), y.to_string(), seed.seed.to_string());
                    rows.row([&curve.name, &x, &s, "1", &y, "", "", &seed.run]);
                }
            }
        }
    }
}

impl TrainingChart {
    /// The first step that is not before training.
    fn first(&self) -> f64 {
        let seeds = self.curves.iter().flat_map(|c| &c.seeds);
        let steps = seeds.flat_map(|s| &s.points).map(|p| p.0);
        steps.filter(|x| *x > 0.0).fold(f64::INFINITY, f64::min)
    }

    /// Where a step stands: on a logarithmic axis, what is before training at half of the first step.
    fn place(&self, step: f64) -> f64 {
        if self.scale == Scale::Linear || step > 0.0 {
            return step;
        }
        let first = self.first();
        if first.is_finite() { first / 2.0 } else { 1.0 }
    }

    /// A logarithmic axis from the first place to the last, with a tick `0` at what is before training.
    fn log_axis(&self) -> Axis {
        let values = self.values().x;
        let mut axis = measured_axis(&values, Scale::Log);
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) = values.iter().fold(ends, |(l, h), x| (l.min(*x), h.max(*x)));
        if low >= high {
            return axis;
        }
        (axis.low, axis.high) = (low, high);
        axis.ticks.retain(|t| (low..=high).contains(&t.value));
        if low < self.first() {
            axis.ticks.retain(|t| t.value >= self.first());
            let zero = Tick {
                value: low,
                text: "0".to_owned(),
            };
            axis.ticks.insert(0, zero);
        }
        axis
    }
}

/// The range of the seeds and each seed, below all means; nothing for one seed.
fn draw_spread(
    canvas: &mut Canvas<'_>,
    curve: &Curve,
    band: &[(f64, f64, f64, f64)],
    pixel: &dyn Fn(f64, f64) -> (f64, f64),
) {
    if curve.seeds.len() < 2 {
        return;
    }
    let look = series_look(curve.look);
    if band.len() > 1 {
        let highs = band.iter().map(|b| pixel(b.0, b.3));
        let lows = band.iter().rev().map(|b| pixel(b.0, b.2));
        let outline: Vec<_> = highs.chain(lows).collect();
        canvas.polygon(&outline, look.color, 0.13);
    }
    let thin = Stroke {
        color: look.color,
        width: 0.8,
        alpha: 0.35,
    };
    for seed in &curve.seeds {
        let line: Vec<_> = seed.points.iter().map(|p| pixel(p.0, p.1)).collect();
        canvas.path(&line, thin);
    }
}

/// A mark at every measured step; smaller ones where they are many, so that the line is still seen.
fn mark_curve(canvas: &mut Canvas<'_>, line: &[(f64, f64)], look: &Look, width: f64) {
    let room = width / line.len().max(1) as f64;
    let size = (room * 0.45).clamp(2.6, 7.0);
    for (x, y) in line {
        if size < 4.0 {
            canvas.disc(*x, *y, size / 2.0 + 0.4, look.color, 1.0);
        } else {
            canvas.marker(*x, *y, size, look);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_is_drawn_only_where_every_seed_has_a_value() {
        let seed = |seed, points: &[(f64, f64)]| SeedCurve {
            seed,
            run: String::new(),
            points: points.to_vec(),
        };
        let curve = Curve {
            name: String::new(),
            look: 0,
            seeds: vec![
                seed(1, &[(0.0, 1.0), (10.0, 2.0), (20.0, 3.0)]),
                seed(2, &[(0.0, 3.0), (20.0, 5.0)]),
            ],
        };
        assert_eq!(curve.band(), [(0.0, 2.0, 1.0, 3.0), (20.0, 4.0, 3.0, 5.0)]);
    }
}
