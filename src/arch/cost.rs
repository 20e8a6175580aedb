//! Parameters and floating-point operations of a decoder, from its shape alone.
//!
//! Counted are the products of matrices, a multiplication with its addition as two operations:
//! the projections at every position, attention over the positions that each sees (no more than
//! the layer's window), and the head at those positions whose next token is scored. Biases, norms
//! and activations are left out, as is usual (Chowdhery et al. 2022, appendix B), and so is what an
//! engine computes twice to save memory.

use crate::arch::config::DecoderConfig;
use crate::arch::layout::Projection;

/// Positions of one or more segments of the same length in a pass.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segments {
    count: f64,
    len: f64,
    /// Positions of another segment that these continue and see.
    before: f64,
}

impl Segments {
    /// Over the positions of one segment, the number of positions that each sees, itself included.
    fn seen(self, window: Option<usize>) -> f64 {
        let Self { len, before, .. } = self;
        // So many positions at the start have no more than a window behind them; without a window
        // all have.
        let whole = window.map_or(len, |w| (w as f64 - before).clamp(0.0, len));
        let rest = window.map_or(0.0, |w| (len - whole) * w as f64);
        whole * before + whole * (whole + 1.0) / 2.0 + rest
    }
}

/// What a forward pass computes: segments of positions, and how many positions are scored. Sizes
/// may be means and need not be whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pass {
    segments: Vec<Segments>,
    scored: f64,
}

impl Pass {
    /// The pass with `count` more segments of `len` positions, which see each other and `before`
    /// positions of an earlier segment, and with `scored` more positions, of all of them together,
    /// whose next token is scored.
    #[must_use]
    pub fn with(mut self, count: f64, len: f64, before: f64, scored: f64) -> Self {
        self.add(count, len, before, scored);
        self
    }

    /// As [`Self::with`], in place.
    pub fn add(&mut self, count: f64, len: f64, before: f64, scored: f64) {
        if count > 0.0 && len > 0.0 {
            self.segments.push(Segments { count, len, before });
            self.scored += scored;
        }
    }

    /// The pass with `scored` more positions, of those that it has, whose next token is scored.
    #[must_use]
    pub fn with_scored(mut self, scored: f64) -> Self {
        self.scored += scored;
        self
    }

    /// Adds everything that `other` computes.
    pub fn extend(&mut self, other: &Self) {
        self.segments.extend(&other.segments);
        self.scored += other.scored;
    }

    /// Adds samples of `drawn` tokens each behind one prompt. The prompt is computed once and
    /// predicts the first token of all; the last token of each is drawn and never computed.
    pub fn add_samples(&mut self, prompt: f64, drawn: impl IntoIterator<Item = f64>) {
        self.add(1.0, prompt, 0.0, 1.0);
        for tokens in drawn {
            let computed = (tokens - 1.0).max(0.0);
            self.add(1.0, computed, prompt, computed);
        }
    }

    /// The same, `factor` times.
    #[must_use]
    pub fn times(&self, factor: f64) -> Self {
        let segments = self.segments.iter().map(|s| Segments {
            count: s.count * factor,
            ..*s
        });
        Self {
            segments: segments.collect(),
            scored: self.scored * factor,
        }
    }

    /// Positions in all.
    pub fn positions(&self) -> f64 {
        self.segments.iter().map(|s| s.count * s.len).sum()
    }

    /// Positions whose next token is scored.
    pub fn scored(&self) -> f64 {
        self.scored
    }

    /// Over all positions, the number of positions that each sees, itself included.
    pub fn seen(&self, window: Option<usize>) -> f64 {
        let segments = self.segments.iter();
        segments.map(|s| s.count * s.seen(window)).sum()
    }
}

/// Which weights a training changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learned {
    /// All.
    All,
    /// Low-rank adapters.
    Adapters {
        /// Rows of `A` and columns of `B`.
        rank: usize,
        /// The projections that have them in every layer, for example `q_proj`.
        targets: Vec<&'static str>,
    },
}

impl Learned {
    /// Number of weights that learn.
    pub fn parameters(&self, config: &DecoderConfig) -> u64 {
        match self {
            Self::All => parameter_count(config),
            Self::Adapters { rank, targets } => {
                let projections = config.projections().into_iter();
                let adapted = projections.filter(|p| is_target(targets, p.name));
                let sides = adapted.map(|p| (p.outputs + p.inputs) as u64).sum::<u64>();
                let each = sides.saturating_mul(*rank as u64);
                each.saturating_mul(config.layers() as u64)
            }
        }
    }

    /// Elements of the matrices that adapters change.
    pub(super) fn changed(&self, config: &DecoderConfig) -> f64 {
        let Self::Adapters { targets, .. } = self else {
            return 0.0;
        };
        let projections = config.projections().into_iter();
        let adapted = projections.filter(|p| is_target(targets, p.name));
        config.layers() as f64 * adapted.map(Projection::weights).sum::<f64>()
    }
}

fn is_target(targets: &[&str], name: &str) -> bool {
    name.rsplit('.')
        .next()
        .is_some_and(|name| targets.contains(&name))
}

/// Number of parameters, or as many as 64 bits hold; a tied head counts once.
pub fn parameter_count(config: &DecoderConfig) -> u64 {
    let tensors = config.tensors().into_values();
    tensors
        .map(|shape| shape.iter().product::<usize>() as u64)
        .fold(0, u64::saturating_add)
}

/// Operations of one forward pass.
pub fn forward_flops(config: &DecoderConfig, pass: &Pass) -> f64 {
    let projections: f64 = config
        .projections()
        .into_iter()
        .map(Projection::weights)
        .sum();
    let projections = 2.0 * pass.positions() * config.layers() as f64 * projections;
    projections + attention_flops(config, pass) + head_flops(config, pass)
}

/// Operations of one pass forward and backward in training. Backward, every product is done once for
/// the gradient of its input and, if its weight learns, once more for that of the weight; of the two
/// products of attention both operands are inputs. Adapters cost three products of low rank on
/// each matrix that they change: they are added to it, and take their gradients from its.
pub fn training_flops(config: &DecoderConfig, pass: &Pass, learned: &Learned) -> f64 {
    let (positions, layers) = (pass.positions(), config.layers() as f64);
    let projections: f64 = config
        .projections()
        .into_iter()
        .map(|p| {
            let product = 2.0 * positions * p.weights();
            match learned {
                Learned::All => 3.0 * product,
                Learned::Adapters { rank, targets } if is_target(targets, p.name) => {
                    3.0 * product + 3.0 * 2.0 * *rank as f64 * p.weights()
                }
                Learned::Adapters { .. } => 2.0 * product,
            }
        })
        .sum();
    let head = match learned {
        Learned::All => 3.0,
        Learned::Adapters { .. } => 2.0,
    };
    layers * projections + 3.0 * attention_flops(config, pass) + head * head_flops(config, pass)
}

/// Operations of attention, forward: scores, and the mean of the values by them.
fn attention_flops(config: &DecoderConfig, pass: &Pass) -> f64 {
    let seen: f64 = config.windows.iter().map(|&w| pass.seen(w)).sum();
    4.0 * (config.heads * config.head_dim) as f64 * seen
}

/// Operations of the head, forward.
fn head_flops(config: &DecoderConfig, pass: &Pass) -> f64 {
    2.0 * (config.hidden_size * config.vocab_size) as f64 * pass.scored
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn shipped() -> DecoderConfig {
        DecoderConfig::from_file(Path::new("models/stories260k")).unwrap()
    }

    fn of(text: &str) -> DecoderConfig {
        DecoderConfig::from_json(Path::new("config.json"), text).unwrap()
    }

    // 512 * 64 embedding + 64 norm + 5 layers * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 172 + 2 * 64)
    #[test]
    fn the_shipped_model_has_260032_parameters() {
        assert_eq!(parameter_count(&shipped()), 260_032);
    }

    // By the safetensors indexes of the published models: bytes in all over bytes a weight.
    #[test]
    fn published_models_have_their_numbers_of_parameters() {
        let llama = r#""hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8"#;
        let models = [
            (
                format!(r#""model_type": "llama", "vocab_size": 128256, {llama}"#),
                8_030_261_248,
            ),
            (
                format!(
                    r#""model_type": "mistral", "vocab_size": 32000, "sliding_window": 4096, {llama}"#
                ),
                7_241_732_096,
            ),
            (
                r#""model_type": "gemma", "vocab_size": 256000, "hidden_size": 2048,
                "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8,
                "num_key_value_heads": 1"#
                    .to_owned(),
                2_506_172_416,
            ),
            (
                r#""model_type": "gemma2", "vocab_size": 256000, "hidden_size": 3584,
                "intermediate_size": 14336, "num_hidden_layers": 42, "num_attention_heads": 16,
                "num_key_value_heads": 8"#
                    .to_owned(),
                9_241_705_984,
            ),
            (
                r#""model_type": "qwen2", "vocab_size": 152064, "hidden_size": 3584,
                "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
                "num_key_value_heads": 4"#
                    .to_owned(),
                7_615_616_512,
            ),
            (
                r#""model_type": "qwen3", "vocab_size": 151936, "hidden_size": 4096,
                "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
                "num_key_value_heads": 8"#
                    .to_owned(),
                8_190_735_360,
            ),
        ];
        for (text, want) in models {
            let config = of(&format!("{{{text}}}"));
            assert_eq!(parameter_count(&config), want, "{}", config.architecture);
        }
    }

    // 100 positions, 7 of them scored: 2 * 100 * 5 * 45312, the sum of 1 to 100 seen in 5 layers of
    // 4 * 64 operations each, and 7 * 2 * 64 * 512 for the head.
    #[test]
    fn operations_are_those_of_the_products() {
        let pass = Pass::default().with(1.0, 100.0, 0.0, 7.0);
        let want = 45_312_000.0 + 5.0 * 256.0 * 5050.0 + 458_752.0;
        let forward = forward_flops(&shipped(), &pass);
        assert!((forward - want).abs() < 1e-6, "{forward}");
        let all = training_flops(&shipped(), &pass, &Learned::All);
        assert!((all - 3.0 * want).abs() < 1e-6, "{all}");
    }

    // Only the gradients of q's and down's weights are computed, 4096 and 11008 of a layer's 45312,
    // and three products of rank 8 on each.
    #[test]
    fn adapters_spare_the_gradients_of_frozen_weights() {
        let pass = Pass::default().with(1.0, 100.0, 0.0, 7.0);
        let learned = Learned::Adapters {
            rank: 8,
            targets: vec!["q_proj", "down_proj"],
        };
        let (changed, frozen) = (15_104.0, 30_208.0);
        let projections = 5.0 * (200.0 * (3.0 * changed + 2.0 * frozen) + 48.0 * changed);
        let want = projections + 3.0 * 5.0 * 256.0 * 5050.0 + 2.0 * 458_752.0;
        let flops = training_flops(&shipped(), &pass, &learned);
        assert!((flops - want).abs() < 1e-6, "{flops} {want}");
        let weights = 5 * 8 * (64 + 64 + 172 + 64);
        assert_eq!(learned.parameters(&shipped()), weights);
    }

    #[test]
    fn windows_are_counted_position_by_position() {
        for (len, before) in [(5usize, 0usize), (9, 0), (4, 3), (3, 8), (6, 20)] {
            let pass = Pass::default().with(1.0, len as f64, before as f64, 0.0);
            for window in [None, Some(1), Some(4), Some(8), Some(100)] {
                let seen = |i: usize| (before + i + 1).min(window.unwrap_or(usize::MAX));
                let want: usize = (0..len).map(seen).sum();
                let got = pass.seen(window);
                assert!(
                    (got - want as f64).abs() < 1e-9,
                    "{len} {before} {window:?}: {got}"
                );
            }
        }
    }

    // The prompt's 6 positions once; of two samples all tokens but the last, behind it.
    #[test]
    fn samples_share_their_prompt() {
        let mut pass = Pass::default();
        pass.add_samples(6.0, [3.0, 1.0]);
        assert!((pass.positions() - 8.0).abs() < 1e-12);
        assert!((pass.scored() - 3.0).abs() < 1e-12);
        assert!((pass.seen(None) - (21.0 + 7.0 + 8.0)).abs() < 1e-12);
    }
}
