//! What a run will cost, from sizes alone: rough, but by stated formulas.
//!
//! - Text to tokens: with a vocabulary of V pieces a token covers about
//!   `1.9 + 0.3 · (log2 V − 9)` characters (1.9 measured for 512 pieces on English; 4.3 at 128 k),
//!   and the chat template adds 8 tokens to a document.
//! - Operations of one token forward: `2·P + 4·layers·heads·head-width·c`, where P counts the
//!   weights of matrix products (the output head included, the embedding table not) and c is the
//!   mean number of positions that it attends to, half its document (a prompt with both replies).
//!   Training costs three times as much: once forward, twice backward.
//! - Memory: 48 MiB for the process; in training 16 bytes a parameter (weight, gradient, two
//!   moments, 4 each), in bf16 22 (weight 2, and in f32 a working copy, the gradient, the master
//!   weight and two moments), else its own size; activations of the positions that are
//!   computed at once (a whole row at least), `layers · (10·width + 4·intermediate)` numbers each when
//!   training (one layer's worth and `layers · width` if layers are computed again) and one layer's
//!   worth otherwise; two blocks of 1024 × V logits.
//! - A data file or a model that is not there counts as `[inputs]` says; without that as nothing.

use crate::config::ModelSizes;
use crate::config::spec::{
    BatchSize, Batching, DataSource, DpoRecipe, Duration, EvalRecipe, Monitor, OnlineDpoRecipe,
    Precision, SelectMethod, SftRecipe, Share, TrainRuntime,
};
use crate::plan::error::PlanError;
use crate::plan::resolve::Resolver;
use crate::plan::stage::{PairSet, SampleStageRecipe, SelectRows, SelectStageRecipe};
use serde::{Deserialize, Serialize};
use std::num::{NonZeroU64, NonZeroUsize};
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

    /// The shape that a base file states.
    pub(crate) fn of(sizes: &ModelSizes) -> Self {
        let size = |value: NonZeroU64| value.get() as f64;
        Self {
            vocab: size(sizes.vocab_size),
            width: size(sizes.hidden_size),
            layers: size(sizes.layers),
            intermediate: size(sizes.intermediate_size),
            queries: size(sizes.heads) * size(sizes.head_size),
            keys: size(sizes.kv_heads) * size(sizes.head_size),
            tied: sizes.tied,
        }
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
        self.mean().min(window as f64) / 2.0
    }

    fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            tokens: self.tokens + other.tokens,
        }
    }

    fn first(self, most: Option<NonZeroUsize>) -> Self {
        match most.map(|most| most.get() as f64) {
            Some(most) if most < self.count => Self {
                count: most,
                tokens: self.mean() * most,
            },
            _ => self,
        }
    }
}

/// The state of an estimate: what is computed, by passes.
pub(crate) struct Estimator<'r, 'a> {
    pub(crate) shape: Option<&'r ModelShape>,
    pub(crate) resolver: &'r mut Resolver<'a>,
    /// What makes further pairs for this run.
    pub(crate) online: Option<&'r OnlineDpoRecipe>,
    /// Rows that a filter leaves of this run's training data.
    pub(crate) kept: Option<usize>,
    /// Layers are computed again in the backward pass.
    pub(crate) recompute: bool,
}

const TEMPLATE_TOKENS: f64 = 8.0;
const PROCESS_BYTES: f64 = (48u64 << 20) as f64;
/// Positions computed at once where the runtime does not say.
const DEFAULT_MICRO_TOKENS: f64 = 4096.0;

impl Estimator<'_, '_> {
    /// `sequences` with text of the template a row, where the file itself cannot tell: two for
    /// pairs.
    fn documents(&mut self, data: &[DataSource], sequences: f64) -> Result<Documents, PlanError> {
        let chars_per_token = self.shape.map_or(4.0, ModelShape::chars_per_token);
        let mut sum = Documents::default();
        for source in data {
            let size = self.resolver.text_size(&source.path)?;
            let expected = self.resolver.expected(&source.path);
            let (rows, tokens_per_row) = match (size, expected) {
                (Some(size), _) if size.rows > 0 => {
                    let (rows, chars) = (size.rows as f64, size.chars as f64);
                    let sequences = if size.pairs { 2.0 } else { sequences };
                    let tokens = chars / rows / chars_per_token + sequences * TEMPLATE_TOKENS;
                    (rows, tokens)
                }
                (None, Some(expected)) => {
                    let (Some(rows), Some(tokens)) = (expected.rows, expected.tokens_per_row)
                    else {
                        continue;
                    };
                    (rows.get() as f64, tokens.get() as f64)
                }
                _ => continue,
            };
            let used = match (source.count, source.fraction) {
                (Some(count), _) => (count.get() as f64).min(rows),
                (None, Some(fraction)) => rows * fraction.get(),
                (None, None) => rows,
            };
            sum.count += used;
            sum.tokens += used * tokens_per_row;
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
        let param_bytes = match precision {
            _ if trained.0 <= 0.0 => number,
            Precision::F32 => 16.0,
            Precision::Bf16 => 22.0,
        };
        let activations = match self.recompute {
            _ if trained.0 <= 0.0 => per_layer,
            true => shape.layers * shape.width + per_layer,
            false => shape.layers * per_layer,
        };
        let memory = PROCESS_BYTES
            + param_bytes * shape.params()
            + number * at_once * activations
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
        sequences: f64,
    ) -> Result<(f64, f64), PlanError> {
        let Some(monitor) = monitor else {
            return Ok((0.0, 0.0));
        };
        let documents = self.documents(&monitor.data, sequences)?;
        let times = 2.0 + (steps / monitor.every_steps.get() as f64).floor();
        Ok((times * documents.tokens, documents.context(window)))
    }

    /// Supervised fine-tuning. A padded row is taken to be half padding.
    pub(crate) fn sft(
        &mut self,
        recipe: &SftRecipe,
        runtime: &TrainRuntime,
    ) -> Result<Estimate, PlanError> {
        let documents = self
            .documents(&recipe.rows.data, 1.0)?
            .first(self.kept.and_then(NonZeroUsize::new))
            .first(recipe.rows.max_examples);
        let window = recipe.layout.max_seq_len as f64;
        let padded = recipe.layout.batching == Batching::Padded;
        let row = if padded {
            (2.0 * documents.mean()).min(window)
        } else {
            window
        };
        let step = match recipe.layout.batch {
            BatchSize::Tokens(tokens) => tokens as f64,
            BatchSize::Rows(rows) => rows as f64 * row,
        };
        let trained = match recipe.training.duration {
            Duration::Steps(steps) => steps as f64 * step,
            Duration::Epochs(epochs) => epochs * documents.tokens * if padded { 2.0 } else { 1.0 },
        };
        let steps = if step > 0.0 { trained / step } else { 0.0 };
        let measured = self.monitor(
            recipe.training.monitor.as_ref(),
            steps,
            recipe.layout.max_seq_len,
            1.0,
        )?;
        let at_once = at_once(runtime, step, row);
        let context = documents.context(recipe.layout.max_seq_len);
        Ok(self.total(
            (trained, context),
            measured,
            at_once,
            recipe.training.precision,
        ))
    }

    /// Offline DPO: each prompt and both replies to it, forward and backward.
    pub(crate) fn dpo(
        &mut self,
        recipe: &DpoRecipe,
        runtime: &TrainRuntime,
    ) -> Result<Estimate, PlanError> {
        let made = self.made_pairs(recipe.pairs.online_fraction)?;
        let pairs = self
            .documents(&recipe.rows.data, 2.0)?
            .first(self.kept.and_then(NonZeroUsize::new));
        let pairs = pairs.and(made).first(recipe.rows.max_examples);
        let batch = recipe.pairs.global_batch_size.get() as f64;
        let steps = match recipe.training.duration {
            Duration::Steps(steps) => steps as f64,
            Duration::Epochs(epochs) => (epochs * pairs.count / batch).ceil(),
        };
        let trained = match recipe.training.duration {
            Duration::Steps(_) => steps * batch * pairs.mean(),
            Duration::Epochs(epochs) => epochs * pairs.tokens,
        };
        let window = recipe.pairs.limits.max_seq_len;
        let mut measured = self.monitor(recipe.training.monitor.as_ref(), steps, window, 2.0)?;
        let step = batch * pairs.mean();
        let at_once = at_once(runtime, step, pairs.mean());
        if recipe.objective.couples_pairs() && at_once < step {
            // Every pair is scored before the first gradient.
            measured.0 += trained;
            measured.1 = measured.1.max(pairs.context(window));
        }
        let mut copy = 0.0;
        if let Some(update) = recipe.reference.reference_update {
            // Its own copy of the weights, and a pass over each step's pairs from its first move on.
            let rest = (steps - update.every_steps.get() as f64).max(0.0) / steps.max(1.0);
            measured.0 += trained * rest;
            measured.1 = measured.1.max(pairs.context(window));
            copy = 4.0 * self.shape.map_or(0.0, ModelShape::params);
        }
        let mut estimate = self.total(
            (trained, pairs.context(window)),
            measured,
            at_once,
            recipe.training.precision,
        );
        estimate.peak_memory_bytes += copy as u64;
        Ok(estimate)
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
            let pairs = self.documents(&set.rows.data, 2.0)?;
            tokens += pairs.tokens;
            context = context.max(pairs.context(set.limits.max_seq_len));
        }
        let made = self.made_pairs(None)?;
        tokens += made.tokens;
        context = context.max(made.context(usize::MAX));
        let at_once = at_once(runtime, tokens, 0.0);
        Ok(self.total((0.0, 0.0), (tokens, context), at_once, precision))
    }

    /// Filtering: methods that ask a model see every row once forward (`ifd` twice), `less` forward and
    /// backward.
    pub(crate) fn select(
        &mut self,
        recipe: &SelectStageRecipe,
        runtime: &TrainRuntime,
    ) -> Result<Estimate, PlanError> {
        let (data, window, sequences) = match &recipe.rows {
            SelectRows::Chat { rows, max_seq_len } => (&rows.data, *max_seq_len, 1.0),
            SelectRows::Pairs { rows, limits } => (&rows.data, limits.max_seq_len, 2.0),
        };
        let documents = self.documents(data, sequences)?;
        let passes = match &recipe.select.method {
            SelectMethod::Ifd | SelectMethod::ImplicitRewardGap | SelectMethod::Deita(_) => 2.0,
            SelectMethod::Less(_) => 3.0,
            method if method.needs_model() => 1.0,
            _ => 0.0,
        };
        let measured = passes * documents.tokens;
        let at_once = at_once(runtime, measured, 0.0);
        let context = documents.context(window);
        let precision = recipe.select.precision.unwrap_or(Precision::F32);
        Ok(self.total((0.0, 0.0), (measured, context), at_once, precision))
    }

    /// Pairs that a round makes, at most: one a prompt, each reply as long as its budget.
    fn made_pairs(&mut self, fraction: Option<Share>) -> Result<Documents, PlanError> {
        let Some(online) = self.online else {
            return Ok(Documents::default());
        };
        let prompts = self.documents(&online.prompts.data, 1.0)?;
        let count =
            prompts.first(online.prompts.per_round).count * fraction.map_or(1.0, Share::get);
        let reply = online.sampling.max_new_tokens.get() as f64 + TEMPLATE_TOKENS;
        Ok(Documents {
            count,
            tokens: count * 2.0 * reply,
        })
    }

    /// Sampling: of each sample the whole budget of new tokens.
    pub(crate) fn sample(
        &mut self,
        recipe: &SampleStageRecipe,
        runtime: &TrainRuntime,
    ) -> Result<Estimate, PlanError> {
        let prompts = self.documents(&recipe.prompts.data, 1.0)?;
        let prompts = prompts.first(recipe.prompts.per_round);
        let new = recipe.sampling.max_new_tokens.get() as f64;
        let tokens = prompts.count * recipe.samples.get() as f64 * (new + 2.0 * TEMPLATE_TOKENS);
        let at_once = at_once(runtime, tokens, 0.0);
        Ok(self.total((0.0, 0.0), (tokens, new / 2.0), at_once, recipe.precision))
    }

    /// Judging: how much there is to judge is known only when it has been sampled.
    pub(crate) fn judge() -> Estimate {
        Estimate {
            peak_memory_bytes: PROCESS_BYTES as u64,
            ..Estimate::default()
        }
    }

    /// Every evaluated document once forward; of each sample the whole budget of new tokens.
    pub(crate) fn eval(
        &mut self,
        recipe: &EvalRecipe,
        runtime: &TrainRuntime,
    ) -> Result<Estimate, PlanError> {
        let (mut tokens, mut context) = (0.0, 0.0f64);
        for set in recipe.likelihood.values() {
            let documents = self.documents(&set.data, 1.0)?;
            tokens += documents.tokens;
            context = context.max(documents.context(set.max_seq_len));
        }
        for set in recipe.preference.values() {
            let pairs = self.documents(&set.data, 2.0)?;
            tokens += pairs.tokens;
            context = context.max(pairs.context(set.limits.max_seq_len));
        }
        for set in recipe.stories.values() {
            let prompts = self.documents(&set.data, 1.0)?.first(set.max_prompts);
            let new = set.sampling.max_new_tokens.get() as f64;
            tokens += prompts.count * set.samples.get() as f64 * (new + 2.0 * TEMPLATE_TOKENS);
            context = context.max(new / 2.0);
        }
        let at_once = at_once(runtime, tokens, 0.0);
        Ok(self.total((0.0, 0.0), (tokens, context), at_once, recipe.precision))
    }
}

/// Positions of one pass: what fits the runtime's limit, at least one whole row of the step.
fn at_once(runtime: &TrainRuntime, step: f64, row: f64) -> f64 {
    let most = runtime
        .micro_batch_tokens
        .map_or(DEFAULT_MICRO_TOKENS, |tokens| tokens.get() as f64);
    step.min(most.max(row))
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
