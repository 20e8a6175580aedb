//! The scalars of AdamW, the same on every device.

use crate::config::spec::OptimizerRecipe;
use crate::gpu::ops::optimizer::Step;

/// Those of step `step`, from 1, at learning rate `rate`, rounded to f32 once.
pub(super) fn scalars(recipe: &OptimizerRecipe, step: u64, rate: f64) -> Step {
    let t = step as f64;
    let (beta1, beta2) = (recipe.beta1.get(), recipe.beta2.get());
    Step {
        keep: (1.0 - rate * recipe.weight_decay.get()) as f32,
        one_minus_beta1: (1.0 - beta1) as f32,
        beta2: beta2 as f32,
        one_minus_beta2: (1.0 - beta2) as f32,
        step_size: (rate / (1.0 - beta1.powf(t))) as f32,
        root_correction: (1.0 - beta2.powf(t)).sqrt() as f32,
        eps: recipe.eps.get() as f32,
    }
}
