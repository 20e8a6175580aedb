//! AlpacaEval 2's length-controlled win rate (Dubois et al. 2024).
//!
//! A logistic model of the judge's preference for a model over the baseline: of the difference in length, of how
//! difficult the instruction is, and of the model. Without the first term it says what the preference would be if both
//! replies were equally long. Two models that were told to be brief and to be verbose ("gamed") are fitted along with a
//! small weight, so that what length is worth is known even where a model's lengths say little about it. The weights are
//! shrunk by their absolute values, how little is decided by cross-validation. All as `alpaca_eval` 0.6.6 does it, but to
//! the optimum, where liblinear stops early (a few thousandths of a point).

use crate::metrics::estimate::{Estimate, mean};

/// Features of a row: length, difficulty, model.
const FEATURES: usize = 3;
/// Parts of the cross-validation.
const FOLDS: usize = 5;
/// What the rows of both gamed models weigh together, and each alone.
const GAMED_WEIGHT: f64 = 0.2 / 2.0;
/// Strengths of the data against the shrinkage that are tried: from 1e-4 to 1e4, evenly in their logarithm.
const STRENGTHS: usize = 10;

/// One instruction with the replies of the model and of the baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// Length of the baseline's reply less that of the model's, characters.
    pub length_lead: f64,
    /// The published difficulty of the instruction.
    pub difficulty: f64,
    /// The judge's preference for the model, 0 to 1; none where the judge named neither.
    pub preference: Option<f64>,
}

/// A row of a gamed model, as published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gamed {
    /// Lead in length over its own standard deviation.
    pub std_delta_len: f64,
    /// The published difficulty of the instruction.
    pub difficulty: f64,
    /// The judge's preference for the gamed model, 0 to 1.
    pub preference: f64,
}

/// The fitted model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthControl {
    /// Weight of the length term.
    pub length: f64,
    /// Weight of the difficulty.
    pub difficulty: f64,
    /// What is the model's own.
    pub model: f64,
    /// The strength of the data that cross-validation chose.
    pub strength: f64,
}

impl LengthControl {
    /// The preference for the model on an instruction of `difficulty` if both replies were equally long.
    pub fn preference(&self, difficulty: f64) -> f64 {
        logistic(self.difficulty * difficulty + self.model)
    }

    /// The win rate over instructions, as a share, with the standard error over instructions; `None` without any.
    pub fn win_rate(&self, difficulties: impl IntoIterator<Item = f64>) -> Option<Estimate> {
        let preferences: Vec<f64> = difficulties
            .into_iter()
            .map(|d| self.preference(d))
            .collect();
        mean(&preferences)
    }
}

/// A row to fit.
#[derive(Clone, Copy, Debug)]
struct Row {
    features: [f64; FEATURES],
    /// The target, 0 to 1.
    target: f64,
    weight: f64,
}

/// Fits the model to the rows of one model and of the gamed ones.
///
/// `None` if fewer than two rows are there, or all leads in length are equal, so that there is no standard deviation, or
/// fewer rows than folds have a preference.
pub fn fit_length_control(rows: &[Compared], gamed: &[Gamed]) -> Option<LengthControl> {
    let leads: Vec<f64> = rows.iter().map(|row| row.length_lead).collect();
    let deviation = mean(&leads)?
        .std_dev()
        .filter(|deviation| *deviation > 0.0)?;
    let mut all: Vec<Row> = gamed
        .iter()
        .map(|row| Row {
            features: [row.std_delta_len.tanh(), row.difficulty, 0.0],
            target: row.preference,
            weight: GAMED_WEIGHT,
        })
        .collect();
    all.extend(rows.iter().filter_map(|row| {
        Some(Row {
            features: [(row.length_lead / deviation).tanh(), row.difficulty, 1.0],
            target: row.preference?,
            weight: 1.0,
        })
    }));
    let sound = |row: &Row| {
        row.features
            .iter()
            .chain([&row.target])
            .all(|x| x.is_finite())
    };
    if all.len() < FOLDS || !all.iter().all(sound) {
        return None;
    }
    let strength = best_strength(&all);
    let [length, difficulty, model] = optimum(&all, strength);
    Some(LengthControl {
        length,
        difficulty,
        model,
        strength,
    })
}

/// The strength with the least loss on rows left out; the first of equal ones.
fn best_strength(rows: &[Row]) -> f64 {
    let folds = folds(rows.len());
    let strengths = (0..STRENGTHS).map(|k| {
        let exponent = -4.0 + 8.0 * k as f64 / (STRENGTHS - 1) as f64;
        10f64.powf(exponent)
    });
    let mut best = (f64::NEG_INFINITY, f64::NAN);
    for strength in strengths {
        let score = (0..FOLDS).map(|fold| {
            let part = |own: bool| -> Vec<Row> {
                let rows = rows.iter().zip(&folds);
                let rows = rows.filter(|(_, f)| (**f == fold) == own);
                rows.map(|(row, _)| *row).collect()
            };
            score(&part(true), &optimum(&part(false), strength))
        });
        let score = score.sum::<f64>() / FOLDS as f64;
        if score > best.0 {
            best = (score, strength);
        }
    }
    best.1
}

/// The fold of each row: as scikit-learn's `GroupKFold` deals groups of equal size, the last one first.
fn folds(rows: usize) -> Vec<usize> {
    (0..rows).map(|row| (rows - 1 - row) % FOLDS).collect()
}

/// The mean weighted log-likelihood of rows.
fn score(rows: &[Row], weights: &[f64; FEATURES]) -> f64 {
    const EPSILON: f64 = 1e-15;
    let sum = rows.iter().map(|row| {
        let p = logistic(product(&row.features, weights)).clamp(EPSILON, 1.0 - EPSILON);
        row.weight * (row.target * p.ln() + (1.0 - row.target) * (1.0 - p).ln())
    });
    sum.sum::<f64>() / rows.len() as f64
}

/// The weights that minimise `‖w‖₁ + C Σ s (softplus(xw) − y xw)`, by Newton's method with the absolute values kept as
/// they are in every step (proximal Newton), and halved steps where a whole one does not lessen the sum.
fn optimum(rows: &[Row], strength: f64) -> [f64; FEATURES] {
    let mut weights = [0.0; FEATURES];
    let mut value = objective(rows, strength, &weights);
    for _ in 0..200 {
        let (gradient, curvature) = derivatives(rows, strength, &weights);
        let goal = quadratic_optimum(&weights, &gradient, &curvature);
        let mut part = 1.0;
        let (next, reached) = loop {
            let mut next = weights;
            for (w, g) in next.iter_mut().zip(goal) {
                *w += part * (g - *w);
            }
            let reached = objective(rows, strength, &next);
            // Near the optimum differences drown in rounding, and the whole step is the better one.
            if reached <= value + 1e-13 * value.abs() || part < 1e-9 {
                break (next, reached);
            }
            part /= 2.0;
        };
        let moved = next.iter().zip(weights).map(|(a, b)| (a - b).abs());
        let moved = moved.fold(0.0, f64::max);
        (weights, value) = (next, reached);
        if moved < 1e-13 {
            break;
        }
    }
    weights
}

fn objective(rows: &[Row], strength: f64, weights: &[f64; FEATURES]) -> f64 {
    let loss = rows.iter().map(|row| {
        let x = product(&row.features, weights);
        let softplus = x.max(0.0) + (-x.abs()).exp().ln_1p();
        row.weight * (softplus - row.target * x)
    });
    weights.iter().map(|w| w.abs()).sum::<f64>() + strength * loss.sum::<f64>()
}

/// First and second derivatives of the smooth part.
fn derivatives(
    rows: &[Row],
    strength: f64,
    weights: &[f64; FEATURES],
) -> ([f64; FEATURES], [[f64; FEATURES]; FEATURES]) {
    let mut gradient = [0.0; FEATURES];
    let mut curvature = [[0.0; FEATURES]; FEATURES];
    for row in rows {
        let p = logistic(product(&row.features, weights));
        let slope = strength * row.weight * (p - row.target);
        let bend = strength * row.weight * p * (1.0 - p);
        for (i, feature) in row.features.iter().enumerate() {
            gradient[i] += slope * feature;
            for (entry, other) in curvature[i].iter_mut().zip(row.features) {
                *entry += bend * feature * other;
            }
        }
    }
    (gradient, curvature)
}

/// The minimum of `‖v‖₁ + g(v − w) + (v − w)H(v − w)/2`, one weight after another.
fn quadratic_optimum(
    weights: &[f64; FEATURES],
    gradient: &[f64; FEATURES],
    curvature: &[[f64; FEATURES]; FEATURES],
) -> [f64; FEATURES] {
    let mut goal = *weights;
    for _ in 0..10_000 {
        let mut moved = 0.0f64;
        for j in 0..FEATURES {
            let bend = curvature[j][j];
            if bend <= 0.0 {
                continue; // a feature that is 0 in all rows
            }
            let bent = (0..FEATURES).map(|k| curvature[j][k] * (goal[k] - weights[k]));
            let slope = gradient[j] + bent.sum::<f64>();
            let free = goal[j] - slope / bend;
            let shrunk = free.signum() * (free.abs() - 1.0 / bend).max(0.0);
            moved = moved.max((shrunk - goal[j]).abs());
            goal[j] = shrunk;
        }
        if moved < 1e-15 {
            break;
        }
    }
    goal
}

fn product(a: &[f64; FEATURES], b: &[f64; FEATURES]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
