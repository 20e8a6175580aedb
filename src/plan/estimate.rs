//! What a run will cost, from sizes alone: rough, but by stated formulas.
//!
//! - Text to tokens: with a vocabulary of V pieces a token covers about
//!   `1.9 + 0.3 · (log2 V − 9)` characters (1.9 measured for 512 pieces on English; 4.3 at 128 k),
//!   and the chat template adds 8 tokens to a document.
//! - Operations of one token forward: `2·P + 4·layers·heads·head-width·c`, where P counts the
//!   weights of matrix products (the output head included, the embedding table not) and c is the
//!   mean number of positions that it attends to, half its document. Training costs three times as
//!   much: once forward, twice backward.
//! - Memory: 48 MiB for the process; 16 bytes a parameter in training (weight, gradient, two
//!   moments), else its own size; activations of the positions that are computed at once,
//!   `layers · (10·width + 4·intermediate)` numbers each when training and one layer's worth
//!   otherwise; two blocks of 1024 × V logits.

use crate::config::spec::{
    BatchSize, Batching, DataSource, DpoRecipe, Duration, EvalRecipe, Monitor, Precision,
    SftRecipe, TrainRuntime,
};
use crate::plan::error::PlanError;
use crate::plan::resolve::Resolver;
use crate::plan::stage::PairSet;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Estimated cost of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Positions computed, training and measuring together; 0 if the data are missing.
    pub tokens: u64,
    /// Floating-point operations; 0 if the model's shape is not known.
    pub flops: f64,
    /// Most memory, bytes; 0 if the model's shape is not known.
    pub peak_memory_bytes: u64,
}

/// The sizes of a decoder, from `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelShape {
    vocab: f64,
    width: f64,
    layers: f64,
    intermediate: f64,
    /// Query heads times head width.
    queries: f64,
    /// Key heads times head width.
    keys: f64,
    tied: bool,
}

impl ModelShape {
    /// Reads the shape; `None` if the file is missing or lacks a size.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(folder.join("config.json")).ok()?;
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        let size = |name: &str| json.get(name).and_then(serde_json::Value::as_f64);
        let (width, heads) = (size("hidden_size")?, size("num_attention_heads")?);
        let head = size("head_dim").unwrap_or(width / heads);
        Some(Self {
            vocab: size("vocab_size")?,
            width,
            layers: size("num_hidden_layers")?,
            intermediate: size("intermediate_size")?,
            queries: heads * head,
            keys: size("num_key_value_heads").unwrap_or(heads) * head,
            tied: json
                .get("tie_word_embeddings")
                .and_then(serde_json::Value::as_bool)
                == Some(true),
        })
    }

    /// Weights of matrix products.
    fn matmul_params(&self) -> f64 {
        let attention = self.width * (2.0 * self.queries + 2.0 * self.keys);
        self.layers * (attention + 3.0 * self.width * self.intermediate) + self.vocab * self.width
    }

    /// All weights, norms included.
    pub(crate) fn params(&self) -> f64 {
        let table = if self.tied {
            0.0
        } else {
            self.vocab * self.width
        };
        self.matmul_params() + table + (2.0 * self.layers + 1.0) * self.width
    }

    /// Operations of one token forward that attends to `context` positions.
    fn flops_per_token(&self, context: f64) -> f64 {
        2.0 * self.matmul_params() + 4.0 * self.layers * self.queries * context
    }

    fn chars_per_token(&self) -> f64 {
        (1.9 + 0.3 * (self.vocab.log2() - 9.0)).max(1.0)
    }
}

/// Documents of a mixture: how many, and tokens in all.
#[derive(Clone, Copy, Debug, Default)]
struct Documents {
    count: f64,
    tokens: f64,
    /// Sequences a document: two for a pair.
    sequences: f64,
}

impl Documents {
    fn mean(self) -> f64 {
        if self.count > 0.0 {
            self.tokens / self.count
        } else {
            0.0
        }
    }

    /// Mean number of positions that a token attends to.
    fn context(self, window: usize) -> f64 {
        (self.mean() / self.sequences.max(1.0)).min(window as f64) / 2.0
    }

    fn first(self, most: Option<usize>) -> Self {
        match most.map(|most| most as f64) {
            Some(most) if most < self.count => Self {
                count: most,
                tokens: self.mean() * most,
                ..self
            },
            _ => self,
        }
    }
}

/// The state of an estimate: what is computed, by passes.
pub(crate) struct Estimator<'r, 'a> {
    pub(crate) shape: Option<&'r ModelShape>,
    pub(crate) resolver: &'r mut Resolver<'a>,
}

const TEMPLATE_TOKENS: f64 = 8.0;
const PROCESS_BYTES: f64 = (48u64 << 20) as f64;
/// Positions computed at once where the runtime does not say.
const DEFAULT_MICRO_TOKENS: f64 = 4096.0;

impl Estimator<'_, '_> {
    fn documents(&mut self, data: &[DataSource]) -> Result<Documents, PlanError> {
        let chars_per_token = self.shape.map_or(4.0, ModelShape::chars_per_token);
        let mut sum = Documents {
            sequences: 1.0,
            ..Documents::default()
        };
        for source in data {
            let size = self.resolver.text_size(&source.path)?;
            let rows = size.rows as f64;
            if rows == 0.0 {
                continue;
            }
            let used = match (source.count, source.fraction) {
                (Some(count), _) => (count as f64).min(rows),
                (None, Some(fraction)) => rows * fraction,
                (None, None) => rows,
            };
            let sequences = if size.pairs { 2.0 } else { 1.0 };
            sum.sequences = sequences;
            sum.count += used;
            sum.tokens +=
                used * (size.chars as f64 / rows / chars_per_token + sequences * TEMPLATE_TOKENS);
        }
        Ok(sum)
    }

    /// `trained` and `measured` tokens with their contexts, `at_once` positions in one pass.
    fn total(
        &self,
        trained: (f64, f64),
        measured: (f64, f64),
        at_once: f64,
        precision: Precision,
    ) -> Estimate {
        let tokens = (trained.0 + measured.0).round() as u64;
        let Some(shape) = self.shape else {
            return Estimate {
                tokens,
                ..Estimate::default()
            };
        };
        let flops = 3.0 * trained.0 * shape.flops_per_token(trained.1)
            + measured.0 * shape.flops_per_token(measured.1);
        let number = match precision {
            Precision::F32 => 4.0,
            Precision::Bf16 => 2.0,
        };
        let per_layer = 10.0 * shape.width + 4.0 * shape.intermediate;
        let (param_bytes, layers) = if trained.0 > 0.0 {
            (16.0, shape.layers)
        } else {
            (number, 1.0)
        };
        let memory = PROCESS_BYTES
            + param_bytes * shape.params()
            + number * at_once * layers * per_layer
            + 2.0 * 4.0 * 1024.0 * shape.vocab;
        Estimate {
            tokens,
            flops,
            peak_memory_bytes: memory as u64,
        }
    }

    /// Tokens of all measurements along `steps` steps, and their context.
    fn monitor(
        &mut self,
        monitor: Option<&Monitor>,
        steps: f64,
        window: usize,
    ) -> Result<(f64, f64), PlanError> {
        let Some(monitor) = monitor else {
            return Ok((0.0, 0.0));
        };
        let documents = self.documents(&monitor.data)?;
        let times = 2.0 + (steps / monitor.every_steps.max(1) as f64).floor();
        Ok((times * documents.tokens, documents.context(window)))
    }

    /// Supervised fine-tuning. A padded row is taken to be half padding.
    pub(crate) fn sft(
        &mut self,
        recipe: &SftRecipe,
        runtime: &TrainRuntime,
    ) -> Result<Estimate, PlanError> {
        let documents = self.documents(&recipe.data)?.first(recipe.max_examples);
        let window = recipe.max_seq_len as f64;
        let padded = recipe.batching == Batching::Padded;
        let row = if padded {
            (2.0 * documents.mean()).min(window)
        } else {
            window
        };
        let step = match recipe.batch {
            BatchSize::Tokens(tokens) => tokens as f64,
            BatchSize::Rows(rows) => rows as f64 * row,
        };
        let trained = match recipe.duration {
            Duration::Steps(steps) => steps as f64 * step,
            Duration::Epochs(epochs) => epochs * documents.tokens * if padded { 2.0 } else { 1.0 },
        };
        let steps = if step > 0.0 { trained / step } else { 0.0 };
        let measured = self.monitor(recipe.monitor.as_ref(), steps, recipe.max_seq_len)?;
        let at_once = at_once(runtime, step);
        let context = documents.context(recipe.max_seq_len);
        Ok(self.total((trained, context), measured, at_once, recipe.precision))
    }

    /// Offline DPO: both sequences of each pair, forward and backward.
    pub(crate) fn dpo(
        &mut self,
        recipe: &DpoRecipe,
        runtime: &TrainRuntime,
    ) -> Result<Estimate, PlanError> {
        let pairs = self.documents(&recipe.data)?.first(recipe.max_examples);
        let batch = recipe.global_batch_size.max(1) as f64;
        let steps = match recipe.duration {
            Duration::Steps(steps) => steps as f64,
            Duration::Epochs(epochs) => (epochs * pairs.count / batch).ceil(),
        };
        let trained = match recipe.duration {
            Duration::Steps(_) => steps * batch * pairs.mean(),
            Duration::Epochs(epochs) => epochs * pairs.tokens,
        };
        let window = recipe.limits.max_seq_len;
        let mut measured = self.monitor(recipe.monitor.as_ref(), steps, window)?;
        let step = batch * pairs.mean();
        let at_once = at_once(runtime, step);
        if recipe.couples_pairs() && at_once < step {
            // Every pair is scored before the first gradient.
            measured.0 += trained;
            measured.1 = measured.1.max(pairs.context(window));
        }
        Ok(self.total(
            (trained, pairs.context(window)),
            measured,
            at_once,
            recipe.precision,
        ))
    }

    /// Reference log-probabilities: every pair of every set once forward.
    pub(crate) fn ref_logps(
        &mut self,
        sets: &[PairSet],
        precision: Precision,
        runtime: &TrainRuntime,
    ) -> Result<Estimate, PlanError> {
        let (mut tokens, mut context) = (0.0, 0.0f64);
        for set in sets {
            let pairs = self.documents(&set.data)?;
            tokens += pairs.tokens;
            context = context.max(pairs.context(set.limits.max_seq_len));
        }
        let at_once = at_once(runtime, tokens);
        Ok(self.total((0.0, 0.0), (tokens, context), at_once, precision))
    }

    /// Every evaluated document once forward; of each sample the whole budget of new tokens.
    pub(crate) fn eval(
        &mut self,
        recipe: &EvalRecipe,
        runtime: &TrainRuntime,
    ) -> Result<Estimate, PlanError> {
        let (mut tokens, mut context) = (0.0, 0.0f64);
        for set in recipe.likelihood.values() {
            let documents = self.documents(&set.data)?;
            tokens += documents.tokens;
            context = context.max(documents.context(set.max_seq_len));
        }
        for set in recipe.preference.values() {
            let pairs = self.documents(&set.data)?;
            tokens += pairs.tokens;
            context = context.max(pairs.context(set.limits.max_seq_len));
        }
        for set in recipe.stories.values() {
            let prompts = self.documents(&set.data)?.first(set.max_prompts);
            let new = set.sampling.max_new_tokens as f64;
            tokens += prompts.count * set.samples as f64 * (new + 2.0 * TEMPLATE_TOKENS);
            context = context.max(new / 2.0);
        }
        let at_once = at_once(runtime, tokens);
        Ok(self.total((0.0, 0.0), (tokens, context), at_once, recipe.precision))
    }
}

fn at_once(runtime: &TrainRuntime, step: f64) -> f64 {
    let most = runtime
        .micro_batch_tokens
        .map_or(DEFAULT_MICRO_TOKENS, |tokens| tokens as f64);
    step.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The shipped model by hand: a layer has 64·(2·64 + 2·32) + 3·64·172 = 45,312 weights in
    // products, five of them 226,560; the head 512·64 = 32,768; norms 11·64 = 704.
    #[test]
    fn the_shipped_model_has_its_parameters() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
        let shape = ModelShape::read(&folder).unwrap();
        assert!(
            (shape.params() - 260_032.0).abs() < 0.5,
            "{}",
            shape.params()
        );
        // 2·259,328 + 4·5·64·100
        assert!((shape.flops_per_token(100.0) - 646_656.0).abs() < 0.5);
    }
}
