//! Curves along training: the mean over seeds, their range, and each seed faintly.

use crate::figures::axes::step_axis;
use crate::figures::canvas::{Canvas, Stroke};
use crate::figures::chart::{Arrangement, Chart, Coordinates, Frame, Room, Values};
use crate::figures::marks::{label_ends, series_swatch};
use crate::figures::rows::FigureRows;
use crate::figures::theme::{Look, series_look};

/// Curves along training: the mean over seeds, their range, and each seed faintly.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingChart {
    /// The curves.
    pub curves: Vec<Curve>,
}

/// A configuration along training.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Shown in the legend; empty if it is the only one.
    pub name: String,
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
            x: points().map(|p| p.0).collect(),
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
        let axis = step_axis(&self.values().x, room.plot_width());
        room.with(Coordinates::Numbers(axis))
    }

    fn draw(&self, canvas: &mut Canvas<'_>, at: &Frame<'_>) {
        let bands: Vec<_> = self.curves.iter().map(Curve::band).collect();
        for (index, (curve, band)) in self.curves.iter().zip(&bands).enumerate() {
            draw_spread(canvas, at, curve, band, &series_look(index));
        }
        let mut ends = Vec::new();
        for (index, band) in bands.iter().enumerate() {
            let look = series_look(index);
            let line: Vec<_> = band.iter().map(|b| (at.x(b.0), at.y(b.1))).collect();
            let stroke = Stroke {
                color: look.color,
                width: 2.2,
                alpha: 1.0,
            };
            canvas.dashed(&line, look.dash, stroke);
            mark_curve(canvas, &line, &look, index);
            ends.push(line.last().map(|p| p.1));
        }
        if at.names_at_ends {
            label_ends(canvas, at.plot, &self.names(), &ends, at.plot.right);
        }
    }

    fn draw_swatch(&self, canvas: &mut Canvas<'_>, index: usize, left: f64, middle: f64) {
        series_swatch(canvas, index, (left, middle));
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

/// The range of the seeds and each seed, below all means; nothing for one seed.
fn draw_spread(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    curve: &Curve,
    band: &[(f64, f64, f64, f64)],
    look: &Look,
) {
    if curve.seeds.len() < 2 {
        return;
    }
    if band.len() > 1 {
        let highs = band.iter().map(|b| (at.x(b.0), at.y(b.3)));
        let lows = band.iter().rev().map(|b| (at.x(b.0), at.y(b.2)));
        let outline: Vec<_> = highs.chain(lows).collect();
        canvas.polygon(&outline, look.color, 0.13);
    }
    let thin = Stroke {
        color: look.color,
        width: 0.8,
        alpha: 0.35,
    };
    for seed in &curve.seeds {
        let line: Vec<_> = seed.points.iter().map(|p| (at.x(p.0), at.y(p.1))).collect();
        canvas.path(&line, thin);
    }
}

/// A handful of markers along a curve, at different places for neighbouring curves.
fn mark_curve(canvas: &mut Canvas<'_>, line: &[(f64, f64)], look: &Look, index: usize) {
    if line.len() <= 12 {
        for (x, y) in line {
            canvas.marker(*x, *y, 7.0, look);
        }
        return;
    }
    let stride = line.len() / 5;
    for (x, y) in line
        .iter()
        .skip(stride / 2 + index * stride / 8)
        .step_by(stride.max(1))
    {
        canvas.marker(*x, *y, 7.0, look);
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
            seeds: vec![
                seed(1, &[(0.0, 1.0), (10.0, 2.0), (20.0, 3.0)]),
                seed(2, &[(0.0, 3.0), (20.0, 5.0)]),
            ],
        };
        assert_eq!(curve.band(), [(0.0, 2.0, 1.0, 3.0), (20.0, 4.0, 3.0, 5.0)]);
    }
}
