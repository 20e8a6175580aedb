//! From one row of logits to a token: temperature, nucleus, inverse distribution function.

use crate::config::spec::SamplingRecipe;
use rand::RngCore;

/// Draws the next token from one row of logits.
///
/// Probabilities are computed in f64. With temperature 0 the largest logit wins, the lowest id on a
/// tie; otherwise `uniform`, a number in [0, 1), says which. Nucleus (Holtzman et
/// al. 2020): the smallest set of most probable tokens whose mass reaches `top_p`. `None` if no
/// logit is finite or one is NaN.
pub fn draw_token(logits: &[f32], recipe: &SamplingRecipe, uniform: f64) -> Option<u32> {
    let (best, max) = argmax(logits)?;
    let (temperature, top_p) = (recipe.temperature.get(), recipe.top_p.get());
    if temperature <= 0.0 {
        return u32::try_from(best).ok();
    }
    let weigh = |&l: &f32| ((f64::from(l) - f64::from(max)) / temperature).exp();
    if top_p >= 1.0 {
        let mut mass = 0.0;
        let sums = logits.iter().map(|l| {
            mass += weigh(l);
            mass
        });
        let sums: Vec<f64> = sums.collect();
        let threshold = uniform * mass;
        let token = sums.partition_point(|&below| below <= threshold);
        let last = || logits.iter().rposition(|l| weigh(l) > 0.0);
        let token = Some(token).filter(|&t| t < sums.len()).or_else(last)?;
        return u32::try_from(token).ok();
    }
    let mut weights: Vec<(usize, f64)> = logits.iter().map(weigh).enumerate().collect();
    keep_nucleus(&mut weights, top_p);
    let mass: f64 = weights.iter().map(|(_, w)| w).sum();
    let threshold = uniform * mass;
    let mut below = 0.0;
    for &(token, weight) in &weights {
        below += weight;
        if threshold < below {
            return u32::try_from(token).ok();
        }
    }
    // Rounding may leave the threshold at the very end: the last token with any mass.
    let last = weights.iter().rev().find(|(_, w)| *w > 0.0)?;
    u32::try_from(last.0).ok()
}

/// The largest logit and the lowest index that has it.
fn argmax(logits: &[f32]) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    for (i, &l) in logits.iter().enumerate() {
        if l.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, m)| l > m) {
            best = Some((i, l));
        }
    }
    best.filter(|(_, m)| m.is_finite())
}

/// Sorts by falling weight (rising token id on a tie) and cuts behind the nucleus.
fn keep_nucleus(weights: &mut Vec<(usize, f64)>, top_p: f64) {
    // Ids differ, so no two are equal and an unstable sort has one result.
    weights.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let total: f64 = weights.iter().map(|(_, w)| w).sum();
    let mut mass = 0.0;
    let kept = weights
        .iter()
        .position(|(_, w)| {
            mass += w;
            mass >= top_p * total
        })
        .map_or(weights.len(), |last| last + 1);
    weights.truncate(kept);
}

/// The number in [0, 1) that a sample's next token is drawn by, the top 53 bits of 64; with temperature 0 none is taken.
pub(crate) fn uniform(recipe: &SamplingRecipe, rng: &mut impl RngCore) -> f64 {
    if recipe.temperature.get() <= 0.0 {
        return 0.0;
    }
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SeedTree;

    fn recipe(temperature: f64, top_p: f64) -> SamplingRecipe {
        SamplingRecipe {
            temperature: temperature.try_into().unwrap(),
            top_p: top_p.try_into().unwrap(),
            max_new_tokens: 1.try_into().unwrap(),
        }
    }

    fn shares(logits: &[f32], recipe: &SamplingRecipe, draws: u32) -> Vec<f64> {
        let mut rng = SeedTree::root(1).rng();
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..draws {
            let token = draw_token(logits, recipe, uniform(recipe, &mut rng)).unwrap();
            counts[token as usize] += 1.0 / f64::from(draws);
        }
        counts
    }

    // Probabilities 0.5, 0.25, 0.125, 0.125; 40,000 draws have standard error 0.0025 at most.
    #[test]
    fn tokens_come_with_their_probabilities() {
        let logits = [2.0f32.ln() * 2.0, 2.0f32.ln(), 0.0, 0.0];
        let got = shares(&logits, &recipe(1.0, 1.0), 40_000);
        for (got, want) in got.iter().zip([0.5, 0.25, 0.125, 0.125]) {
            assert!((got - want).abs() < 0.012, "{got} {want}");
        }
    }

    // Mass of many improbable tokens: 1000 tokens at -8 against one at 0 have 0.251 together.
    #[test]
    fn the_tail_keeps_its_mass() {
        let mut logits = vec![-8.0f32; 1001];
        logits[0] = 0.0;
        let got = shares(&logits, &recipe(1.0, 1.0), 40_000);
        let tail: f64 = got[1..].iter().sum();
        let want = 1000.0 * (-8.0f64).exp() / (1.0 + 1000.0 * (-8.0f64).exp());
        assert!((tail - want).abs() < 0.012, "{tail} {want}");
    }

    // 0.5 alone reaches 0.5; 0.5 + 0.25 reaches 0.7 and the rest is renormalised to 2/3 and 1/3.
    #[test]
    fn the_nucleus_is_the_smallest_set_that_reaches_its_mass() {
        let logits = [0.0f32, 2.0f32.ln(), 2.0f32.ln() * 2.0, 0.0];
        assert_eq!(
            shares(&logits, &recipe(1.0, 0.4), 128),
            [0.0, 0.0, 1.0, 0.0]
        );
        let got = shares(&logits, &recipe(1.0, 0.7), 40_000);
        assert!((got[2] - 2.0 / 3.0).abs() < 0.012, "{got:?}");
        assert!((got[1] - 1.0 / 3.0).abs() < 0.012, "{got:?}");
    }

    #[test]
    fn temperature_zero_is_greedy_and_draws_nothing() {
        let mut rng = SeedTree::root(2).rng();
        let before = rng.clone();
        let greedy = recipe(0.0, 1.0);
        let token = draw_token(&[1.0, 3.0, 3.0], &greedy, uniform(&greedy, &mut rng));
        assert_eq!(token, Some(1));
        assert_eq!(rng, before);
    }

    #[test]
    fn logits_that_are_not_numbers_give_no_token() {
        let logits = [0.0, f32::NAN];
        assert_eq!(draw_token(&logits, &recipe(1.0, 1.0), 0.5), None);
        let logits = [f32::NEG_INFINITY; 2];
        assert_eq!(draw_token(&logits, &recipe(1.0, 1.0), 0.5), None);
    }
}
