//! What a decoder costs, from its shape alone.

use crate::arch::config::DecoderConfig;

/// Number of parameters; a tied head counts once.
pub fn parameter_count(config: &DecoderConfig) -> u64 {
    config
        .tensors()
        .values()
        .map(|shape| shape.iter().product::<usize>() as u64)
        .sum()
}

/// Floating-point operations of one forward pass per token that sees `context` tokens on average:
/// twice the weights of all products, the head included, plus `4 H E` a layer and seen token.
/// A training step costs three times as much.
pub fn flops_per_token(config: &DecoderConfig, context: f64) -> f64 {
    let (d, f, e) = (
        config.hidden_size,
        config.intermediate_size,
        config.head_dim,
    );
    let projections = d * e * (2 * config.heads + 2 * config.kv_heads) + 3 * d * f;
    let attention: f64 = config
        .windows
        .iter()
        .map(|window| {
            let seen = window.map_or(context, |w| context.min(w as f64));
            4.0 * (config.heads * e) as f64 * seen
        })
        .sum();
    2.0 * (config.layers() * projections + d * config.vocab_size) as f64 + attention
}

/// Floating-point operations of the head's product for one position, a part of
/// [`flops_per_token`]: positions that predict no target do without it.
pub fn head_flops(config: &DecoderConfig) -> f64 {
    2.0 * (config.hidden_size * config.vocab_size) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    // 512 * 64 embedding + 64 norm + 5 layers * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 172 + 2 * 64)
    #[test]
    fn the_shipped_model_has_260032_parameters() {
        let config = DecoderConfig::from_file(Path::new("models/stories260k")).unwrap();
        assert_eq!(parameter_count(&config), 260_032);
        // 2 * (5 * 45312 + 64 * 512) + 5 * 4 * 64 * 100
        assert!((flops_per_token(&config, 100.0) - 646_656.0).abs() < 1e-6);
    }
}
