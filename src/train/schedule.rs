//! The learning rate of each step: linear warm-up, then a decay.

use crate::config::spec::{Decay, ScheduleRecipe};
use std::f64::consts::PI;

/// A learning rate for each of `total` steps, by the formulas of transformers'
/// `get_{cosine,linear,constant}_schedule_with_warmup`, scaled so that the decay ends at
/// `min_ratio` times the peak (as `cosine_with_min_lr`), and of `get_wsd_schedule` with its linear
/// decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrSchedule {
    peak: f64,
    decay: Decay,
    warmup: u64,
    /// First step of the decay.
    decay_start: u64,
    total: u64,
    min_ratio: f64,
}

impl LrSchedule {
    /// The schedule of `total` steps; warm-up takes `ceil(warmup_ratio * total)` of them, and the
    /// decay of `warmup-stable-decay` the last `ceil(decay_ratio * total)`.
    pub fn new(recipe: &ScheduleRecipe, peak: f64, total: u64) -> Self {
        let share = |ratio: f64| (ratio * total as f64).ceil().max(0.0) as u64;
        let warmup = share(recipe.warmup_ratio.get());
        let decay_start = match (recipe.decay, recipe.decay_ratio) {
            (Decay::WarmupStableDecay, Some(ratio)) => total.saturating_sub(share(ratio.get())),
            _ => warmup,
        };
        Self {
            peak,
            decay: recipe.decay,
            warmup,
            decay_start: decay_start.max(warmup),
            total,
            min_ratio: recipe.min_ratio.get(),
        }
    }

    /// Steps in all.
    pub fn total_steps(&self) -> u64 {
        self.total
    }

    /// Whether any step has a rate above 0: a run of one step with a warm-up has none.
    pub fn learns(&self) -> bool {
        (0..self.total).any(|step| self.learning_rate(step) > 0.0)
    }

    /// The rate used by step `step`, 0-based. With a warm-up, step 0 uses rate 0, as in
    /// transformers.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / self.warmup.max(1) as f64;
        }
        if step < self.decay_start {
            return self.peak;
        }
        let rest = self.total.saturating_sub(self.decay_start).max(1) as f64;
        let progress = ((step - self.decay_start) as f64 / rest).min(1.0);
        let factor = match self.decay {
            Decay::Constant => return self.peak,
            Decay::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
            Decay::Linear | Decay::WarmupStableDecay => 1.0 - progress,
        };
        self.peak * (factor * (1.0 - self.min_ratio) + self.min_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay, warmup_ratio: f64, min_ratio: f64, total: u64) -> Vec<f64> {
        let recipe = ScheduleRecipe {
            decay,
            warmup_ratio: warmup_ratio.try_into().unwrap(),
            min_ratio: min_ratio.try_into().unwrap(),
            decay_ratio: (decay == Decay::WarmupStableDecay).then_some(0.4.try_into().unwrap()),
        };
        let schedule = LrSchedule::new(&recipe, 1.0, total);
        (0..total).map(|k| schedule.learning_rate(k)).collect()
    }

    fn assert_close(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() < 1e-12, "{got:?} is not {want:?}");
        }
    }

    // get_linear_schedule_with_warmup(warmup 2, total 6): k/2, then (6 - k) / 4.
    #[test]
    fn linear_matches_transformers() {
        let got = rates(Decay::Linear, 0.3, 0.0, 6); // ceil(1.8) = 2
        assert_close(&got, &[0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
    }

    // get_cosine_schedule_with_warmup(warmup 1, total 5): 0.5 (1 + cos(pi (k - 1) / 4)).
    #[test]
    fn cosine_matches_transformers() {
        let root = std::f64::consts::FRAC_1_SQRT_2;
        let got = rates(Decay::Cosine, 0.1, 0.0, 5);
        assert_close(
            &got,
            &[0.0, 1.0, 0.5 * (1.0 + root), 0.5, 0.5 * (1.0 - root)],
        );
    }

    // get_wsd_schedule(num_warmup_steps=2, num_decay_steps=4, num_training_steps=10,
    // decay_type="linear"), transformers 5.23.0; ceil(0.2 * 10) = 2 and ceil(0.4 * 10) = 4.
    #[test]
    fn warmup_stable_decay_matches_transformers() {
        let got = rates(Decay::WarmupStableDecay, 0.2, 0.0, 10);
        let want = [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25];
        assert_close(&got, &want);
    }

    #[test]
    fn without_warmup_the_first_step_has_the_peak_rate_and_the_floor_is_kept() {
        assert_close(&rates(Decay::Linear, 0.0, 0.1, 3), &[1.0, 0.7, 0.4]);
        assert_close(&rates(Decay::Constant, 0.5, 0.1, 4), &[0.0, 0.5, 1.0, 1.0]);
    }
}
