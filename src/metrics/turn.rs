//! Whether a curve through arms turns, and where.

use crate::metrics::column::{Analysis, Contrast};
use crate::metrics::estimate::Interval;
use crate::metrics::fit::{Parabola, parabola};
use crate::metrics::spec::Better;
use crate::metrics::verdict::ALPHA;

/// The turn of a parabola through arms at numeric places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// Where it turns.
    pub at: f64,
    /// The 95 % interval of that place (Fieller 1954): where the slope is not clearly up or down.
    pub interval: Interval,
    /// p-value of a straight line.
    pub p: f64,
}

impl Analysis<'_> {
    /// The turn to a best value through `places`, arms with their x. `None` if a straight line is not
    /// clearly wrong, if it turns the other way, or if the interval of the turn is not within the data.
    ///
    /// Slope and curvature of the least-squares parabola are contrasts of the arms, so that new seeds and
    /// new rows move them as they move any difference.
    pub fn turn(&self, places: &[(usize, f64)], better: Better) -> Option<Turn> {
        let xs = || places.iter().map(|p| p.1);
        let (low, high) = (
            xs().fold(f64::INFINITY, f64::min),
            xs().fold(f64::NEG_INFINITY, f64::max),
        );
        // From −1 to 1, where the contrasts are well conditioned.
        let (middle, half) = (f64::midpoint(low, high), (high - low) / 2.0);
        let [slope, curvature] = shape(places, middle, half)?;
        let straight = self.compare_contrast(&curvature, ALPHA, 1, None)?;
        let right_kind = match better {
            Better::Higher => straight.difference < 0.0,
            Better::Lower => straight.difference > 0.0,
            Better::Neither => false,
        };
        if !right_kind || straight.interval?.holds_zero() {
            return None;
        }
        let at = -self.contrast(&slope)?.value / (2.0 * straight.difference);
        let is_flat = |u: f64| -> Option<bool> {
            let slopes = slope.iter().zip(&curvature);
            let there: Contrast = slopes
                .map(|((arm, b), (_, c))| (*arm, b + 2.0 * u * c))
                .collect();
            Some(
                self.compare_contrast(&there, ALPHA, 1, None)?
                    .interval?
                    .holds_zero(),
            )
        };
        if at.abs() >= 1.0 || is_flat(-1.0)? || is_flat(1.0)? {
            return None;
        }
        let edge = |mut outside: f64| -> Option<f64> {
            let mut inside = at;
            for _ in 0..40 {
                let between = f64::midpoint(inside, outside);
                if is_flat(between)? {
                    inside = between;
                } else {
                    outside = between;
                }
            }
            Some(inside)
        };
        let back = |u: f64| middle + half * u;
        Some(Turn {
            at: back(at),
            interval: Interval {
                low: back(edge(-1.0)?),
                high: back(edge(1.0)?),
            },
            p: straight.p?,
        })
    }

    /// The 95 % interval of the least-squares parabola through arms at `places`, at each of `xs`; none where a noise is
    /// not known. A fitted value is a weighted mean of the arms, so that its noise is that of a contrast.
    pub fn fitted(&self, places: &[(usize, f64)], xs: &[f64]) -> Option<Vec<Interval>> {
        let units = unit_fits(&places.iter().map(|p| p.1).collect::<Vec<_>>())?;
        let interval = |x: &f64| {
            let weights = units.iter().map(|fit| fit.at(*x));
            let there: Contrast = places.iter().map(|p| p.0).zip(weights).collect();
            let fitted = self.contrast(&there)?;
            let half = fitted.real_spread()?.half_width(ALPHA)?;
            Some(Interval {
                low: fitted.value - half,
                high: fitted.value + half,
            })
        };
        xs.iter().map(interval).collect()
    }
}

/// For each of `xs` the least-squares parabola of 1 there and 0 at the others: what a value there weighs in any fit.
fn unit_fits(xs: &[f64]) -> Option<Vec<Parabola>> {
    let unit = |index: usize| {
        let one = |k: usize| f64::from(u8::from(k == index));
        let points = xs.iter().enumerate().map(|(k, x)| (*x, one(k)));
        parabola(&points.collect::<Vec<_>>())
    };
    (0..xs.len()).map(unit).collect()
}

/// Slope at the middle and curvature of the least-squares parabola as contrasts, x being scaled.
fn shape(places: &[(usize, f64)], middle: f64, half: f64) -> Option<[Contrast; 2]> {
    let scaled = places.iter().map(|p| (p.1 - middle) / half);
    let fits = unit_fits(&scaled.collect::<Vec<_>>())?;
    let arms = || places.iter().map(|p| p.0);
    Some([
        arms().zip(fits.iter().map(|f| f.b)).collect(),
        arms().zip(fits.iter().map(|f| f.c)).collect(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SeedTree;
    use crate::metrics::column::{Arm, Column, SeedValues};
    use rand::Rng as _;

    /// Six places 0 to 5, three seeds, noise of ±0.01.
    fn curve(of: impl Fn(f64) -> f64, salt: u64) -> Column {
        let mut rng = SeedTree::root(salt).rng();
        let mut arm = |x: usize| {
            let seed = |name: u64, noise: f64| SeedValues {
                seed: name,
                run: x * 3 + name as usize,
                value: of(x as f64) + 0.02 * (noise - 0.5),
                rows: Vec::new(),
            };
            Arm {
                seeds: (0..3).map(|name| seed(name, rng.random())).collect(),
                row_set: None,
            }
        };
        Column {
            arms: (0..6).map(&mut arm).collect(),
            ..Column::default()
        }
    }

    fn places() -> Vec<(usize, f64)> {
        (0..6).map(|x| (x, x as f64)).collect()
    }

    #[test]
    fn a_clear_turn_has_an_interval_that_holds_it() {
        let column = curve(|x| 0.8 - 0.02 * (x - 3.0).powi(2), 1);
        let turn = Analysis::of(&column)
            .turn(&places(), Better::Higher)
            .unwrap();
        assert!(
            turn.interval.low < 3.0 && turn.interval.high > 3.0,
            "{turn:?}"
        );
        assert!(
            turn.interval.half_width() < 0.5 && turn.p < 0.001,
            "{turn:?}"
        );
        assert_eq!(Analysis::of(&column).turn(&places(), Better::Lower), None);
    }

    // Of flat curves 40 % have a turn within the data by the fit alone.
    #[test]
    fn flat_and_rising_curves_seldom_turn() {
        let turns = |slope: f64| {
            let turns = (0..200).filter(|salt| {
                let column = curve(|x| slope * x, *salt);
                Analysis::of(&column)
                    .turn(&places(), Better::Higher)
                    .is_some()
            });
            turns.count()
        };
        assert!(turns(0.0) <= 6, "{}", turns(0.0));
        assert!(turns(0.02) <= 4, "{}", turns(0.02));
    }
}
