//! What a run will cost, from sizes alone: what it computes is estimated here, what that costs is
//! counted by [`crate::arch`], as for a run that has ended.
//!
//! - Documents are as long as a look at the rows has found ([`KnownLengths`]). Without one they are all as
//!   long as the mean of their text, of which, with a vocabulary of V pieces, a token covers about
//!   `1.9 + 0.3 · (log2 V − 9)` characters (1.9 measured for 512 pieces on English; 4.3 at 128 k), and
//!   the chat template adds 8 tokens to a document.
//! - Packed documents are cut where their batching cuts them; measured are their beginnings. Both replies
//!   of a pair are equally long and continue one prompt.
//! - Scored are the replies; where only the tokens of a row are known (`[inputs]`), half of a
//!   conversation and two thirds of a pair.
//! - A data file or a model that is not there counts as `[inputs]` says; without that as nothing.

use crate::arch::{
    CardFootprint, DecoderConfig, Footprint, Learned, PROCESS_BYTES, Pass, forward_flops,
    largest_pass, parameter_count, training_flops,
};
use crate::base::Device;
use crate::config::spec::{
    BatchSize, Batching, DataSource, DpoRecipe, Duration, EvalRecipe, JudgeAt, JudgedEval,
    LoraRecipe, LossMask, Monitor, OnlineDpoRecipe, Precision, SamplingRecipe, SelectMethod,
    SftRecipe, Share, TaskRecipe, TaskRequest, TrainRuntime, TrainingRecipe,
};
use crate::plan::documents::{Documents, KnownLengths};
use crate::plan::error::PlanError;
use crate::plan::resolve::Resolver;
use crate::plan::stage::{PairSet, SampleStageRecipe, SelectRows, SelectStageRecipe};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Estimated cost of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunCost {
    /// Positions computed, training and measuring together; 0 if the data are missing.
    pub tokens: u64,
    /// Floating-point operations; 0 if the model's shape is not known.
    pub flops: f64,
    /// Parameters of the model; 0 if its shape is not known.
    #[serde(default, skip_serializing_if = "is_none")]
    pub parameters: u64,
    /// Most memory on the CPU, bytes; 0 if the model's shape is not known.
    pub peak_memory_bytes: u64,
    /// Most memory of a card, bytes, without what its driver takes; 0 if the model's shape is not known.
    #[serde(default, skip_serializing_if = "is_none")]
    pub card_memory_bytes: u64,
    /// The same where all layers but one are computed again, which a run does as far as it has to.
    #[serde(default, skip_serializing_if = "is_none")]
    pub resident_card_memory_bytes: u64,
    /// The same where moreover the optimiser's state lies on the host, which it does if it has to.
    #[serde(default, skip_serializing_if = "is_none")]
    pub least_card_memory_bytes: u64,
    /// Weights that it leaves on the disk, checkpoints among them, bytes; 0 if the model's shape is not known.
    #[serde(default, skip_serializing_if = "is_none")]
    pub weights_bytes: u64,
    /// Requests to judges of chat benchmarks, at least: one whose answer fails or holds no verdict is asked again.
    #[serde(default, skip_serializing_if = "is_none")]
    pub judge_requests: u64,
    /// Tokens that the judges write in answer, at most.
    #[serde(default, skip_serializing_if = "is_none")]
    pub judge_tokens: u64,
    /// Optimiser steps of a training, of epochs about; 0 of what trains nothing, and of epochs whose data are missing.
    #[serde(skip)]
    pub steps: f64,
}

impl RunCost {
    /// The cost of what is done first and of `next`, by a model that takes the place of the first.
    fn then(self, next: &Self) -> Self {
        Self {
            tokens: self.tokens + next.tokens,
            flops: self.flops + next.flops,
            peak_memory_bytes: self.peak_memory_bytes.max(next.peak_memory_bytes),
            card_memory_bytes: self.card_memory_bytes.max(next.card_memory_bytes),
            resident_card_memory_bytes: self
                .resident_card_memory_bytes
                .max(next.resident_card_memory_bytes),
            least_card_memory_bytes: self
                .least_card_memory_bytes
                .max(next.least_card_memory_bytes),
            ..self
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Characters that a token covers, by the size of the vocabulary.
fn chars_per_token(model: &DecoderConfig) -> f64 {
    (1.9 + 0.3 * ((model.vocab_size as f64).log2() - 9.0)).max(1.0)
}

/// What a run computes.
struct Work<'a> {
    /// Forward and backward, in all steps.
    trained: Pass,
    /// Forward alone.
    measured: Pass,
    /// Positions in one pass.
    at_once: AtOnce,
    /// Whether a step takes several passes.
    split: bool,
    /// Whether the model is measured while it learns.
    monitored: bool,
    /// The share of the policy in a reference that moves, if one does.
    reference: Option<f64>,
    precision: Precision,
    lora: Option<&'a LoraRecipe>,
}

/// The state of an estimate: what is computed, by passes.
pub(crate) struct Estimator<'r, 'a> {
    pub(crate) model: Option<&'r DecoderConfig>,
    /// The folder of the model that writes the documents.
    pub(crate) folder: &'r str,
    pub(crate) lengths: &'r KnownLengths,
    pub(crate) resolver: &'r mut Resolver<'a>,
    /// What makes further pairs for this run.
    pub(crate) online: Option<&'r OnlineDpoRecipe>,
    /// Rows that a filter leaves of this run's training data.
    pub(crate) kept: Option<usize>,
    /// Layers are computed again in the backward pass.
    pub(crate) recompute: bool,
}

const TEMPLATE_TOKENS: f64 = 8.0;
/// Tokens of a question of a chat benchmark; those of MT-Bench have 60 to 90 on average, of the others up to 150.
const QUESTION_TOKENS: f64 = 100.0;

impl Estimator<'_, '_> {
    /// The documents of a mixture; of `pairs` prompt and both replies.
    fn documents(&mut self, data: &[DataSource], pairs: bool) -> Result<Documents, PlanError> {
        let mut sum = Documents::default();
        for source in data {
            let Some(documents) = self.documents_of(&source.path, pairs)? else {
                continue;
            };
            let share = source.fold.map_or(1.0, |fold| fold.share());
            let rows = documents.count() * share;
            let used = match (source.count, source.fraction) {
                (Some(count), _) => (count.get() as f64).min(rows),
                (None, Some(fraction)) => rows * fraction.get(),
                (None, None) => rows,
            };
            sum.extend(documents.resized(used));
        }
        Ok(sum)
    }

    /// The documents of a file; `None` if nothing is known of them.
    fn documents_of(&mut self, path: &str, pairs: bool) -> Result<Option<Documents>, PlanError> {
        let size = self.resolver.text_size(path)?;
        let known = self.lengths.of(self.folder, path, pairs);
        if let Some((documents, whole)) = known.filter(|(documents, _)| documents.count() > 0.0) {
            let rows = size.filter(|_| !whole).map(|size| size.rows as f64);
            let documents = documents.clone();
            return Ok(Some(match rows {
                Some(rows) if rows > documents.count() => documents.resized(rows),
                _ => documents,
            }));
        }
        let Some(size) = size else {
            let expected = self.resolver.expected(path);
            let expected = expected.and_then(|input| input.rows.zip(input.tokens_per_row));
            return Ok(expected.map(|(rows, tokens)| {
                let tokens = tokens.get() as f64;
                let scored = if pairs { 2.0 / 3.0 } else { 0.5 };
                Documents::equal(rows.get() as f64, tokens, tokens * scored)
            }));
        };
        let rows = size.rows as f64;
        let sequences = if size.pairs || pairs { 2.0 } else { 1.0 };
        let chars_per_token = self.model.map_or(4.0, chars_per_token);
        let of = |chars: u64| chars as f64 / rows / chars_per_token;
        // The end of a reply is a token of the template's.
        let tokens = of(size.chars) + sequences * TEMPLATE_TOKENS;
        let replies = of(size.reply_chars) + sequences;
        let documents = Documents::equal(rows, tokens, replies);
        Ok(Some(documents).filter(|_| size.rows > 0))
    }

    fn total(&self, work: &Work<'_>) -> RunCost {
        let tokens = (work.trained.positions() + work.measured.positions()).round() as u64;
        let Some(model) = self.model else {
            return RunCost {
                tokens,
                ..RunCost::default()
            };
        };
        let learned = work.lora.map_or(Learned::All, LoraRecipe::learned);
        let trains = work.trained.positions() > 0.0;
        let passes = (work.trained.positions() / work.at_once.cpu.max(1.0)).ceil();
        let flops = if trains {
            passes * training_flops(model, &work.trained.times(1.0 / passes), &learned)
        } else {
            0.0
        };
        let heaviest = if trains {
            &work.trained
        } else {
            &work.measured
        };
        let footprint = Footprint {
            bf16: work.precision == Precision::Bf16,
            learned: trains.then_some(&learned),
            positions: work.at_once.cpu,
            scored: work.at_once.cpu * heaviest.scored() / heaviest.positions().max(1.0),
            split: work.split,
            recompute: self.recompute,
        };
        let on_card = CardFootprint {
            bf16: footprint.bf16,
            learned: footprint.learned,
            positions: work.at_once.card,
            kept_layers: if self.recompute {
                1
            } else {
                model.layers().max(1)
            },
            measured: work.monitored,
            reference: work.reference,
            state_on_host: false,
            ranks: 1,
        };
        let recomputed = CardFootprint {
            kept_layers: 1,
            ..on_card
        };
        RunCost {
            tokens,
            flops: flops + forward_flops(model, &work.measured),
            parameters: parameter_count(model),
            peak_memory_bytes: footprint.peak(model) as u64,
            card_memory_bytes: on_card.peak(model),
            resident_card_memory_bytes: recomputed.peak(model),
            least_card_memory_bytes: CardFootprint {
                state_on_host: true,
                ..recomputed
            }
            .peak(model),
            ..RunCost::default()
        }
    }

    /// Forward passes alone, over everything at most once in a pass; no row is longer than `row`.
    fn measured(
        &self,
        (measured, row): (Pass, f64),
        runtime: &TrainRuntime,
        precision: Precision,
    ) -> RunCost {
        let step = measured.positions();
        let at_once = at_once(
            runtime,
            Passes {
                row,
                step,
                most: step,
            },
        );
        self.total(&Work {
            trained: Pass::default(),
            measured,
            at_once,
            split: false,
            monitored: false,
            reference: None,
            precision,
            lora: None,
        })
    }

    /// Supervised fine-tuning.
    pub(crate) fn sft(
        &mut self,
        recipe: &SftRecipe,
        runtime: &TrainRuntime,
    ) -> Result<RunCost, PlanError> {
        let documents = self
            .documents(&recipe.rows.data, false)?
            .first(self.kept.and_then(NonZeroUsize::new))
            .first(recipe.rows.max_examples);
        let layout = &recipe.layout;
        let (window, mask) = (layout.max_seq_len, layout.loss_mask);
        let mut epoch = documents.pass(window, layout.batching, mask);
        let (mut step, most) = match layout.batch {
            BatchSize::Tokens(tokens) => (tokens as f64, tokens.max(window) as f64),
            BatchSize::Rows(rows) => {
                let step = rows as f64 * window as f64;
                (step, step)
            }
        };
        let mut row = window as f64;
        if layout.batching == Batching::Padded {
            let (rows, positions) = documents.padded(window, layout.batch);
            (row, step) = (documents.longest(window), positions);
            // Padding is computed and not scored.
            epoch = beginnings(&rows, window).with_scored(epoch.scored());
        }
        let epochs = match recipe.training.duration {
            Duration::Steps(steps) => steps as f64 * step / epoch.positions().max(1.0),
            Duration::Epochs(epochs) => epochs,
        };
        let trained = epoch.times(epochs);
        let steps = if step > 0.0 {
            trained.positions() / step
        } else {
            0.0
        };
        let mut measured = Pass::default();
        if let Some(monitor) = &recipe.training.monitor {
            let documents = self.documents(&monitor.data, false)?;
            let pass = beginnings(&documents, window);
            measured = pass.times(measurements(monitor, steps));
        }
        let at_once = at_once(runtime, Passes { row, step, most });
        let mut estimate = self.total(&Work {
            trained,
            measured,
            at_once,
            split: at_once.cpu < step,
            monitored: recipe.training.monitor.is_some(),
            reference: None,
            precision: recipe.training.precision,
            lora: recipe.training.lora.as_ref(),
        });
        estimate.weights_bytes = self.weights_bytes(&recipe.training);
        estimate.steps = match recipe.training.duration {
            Duration::Steps(steps) => steps as f64,
            Duration::Epochs(_) => steps.ceil(),
        };
        Ok(estimate)
    }

    /// What a training leaves: a model at its end, and one for each step that is kept.
    fn weights_bytes(&self, training: &TrainingRecipe) -> u64 {
        let bytes = match training.save_precision {
            Some(Precision::Bf16) => 2,
            Some(Precision::F32) | None => 4,
        };
        let parameters = self.model.map_or(0, parameter_count);
        parameters * bytes * (1 + training.save_steps.len() as u64)
    }

    /// Offline DPO: each prompt and both replies to it, forward and backward.
    pub(crate) fn dpo(
        &mut self,
        recipe: &DpoRecipe,
        runtime: &TrainRuntime,
    ) -> Result<RunCost, PlanError> {
        let window = recipe.pairs.limits.max_seq_len;
        let made = self.made_pairs(recipe.pairs.online_fraction)?;
        let mut pairs = self
            .documents(&recipe.rows.data, true)?
            .first(self.kept.and_then(NonZeroUsize::new));
        pairs.extend(made);
        let pairs = pairs.first(recipe.rows.max_examples);
        let count = pairs.count();
        let batch = recipe.pairs.global_batch_size.get() as f64;
        let epoch = pairs.pair_pass(window);
        let (steps, epochs) = match recipe.training.duration {
            Duration::Steps(steps) => (steps as f64, steps as f64 * batch / count.max(1.0)),
            Duration::Epochs(epochs) => ((epochs * count / batch).ceil(), epochs),
        };
        let trained = epoch.times(epochs);
        let mut measured = Pass::default();
        if let Some(monitor) = &recipe.training.monitor {
            let pairs = self.documents(&monitor.data, true)?;
            measured = pairs.pair_pass(window).times(measurements(monitor, steps));
        }
        let step = batch * epoch.positions() / count.max(1.0);
        let at_once = at_once(
            runtime,
            Passes {
                row: pairs.longest_pair(&recipe.pairs.limits),
                step,
                most: 2.0 * batch * window as f64,
            },
        );
        if recipe.objective.kind.couples_pairs() && at_once.cpu < step {
            // Every pair is scored before the first gradient.
            measured.extend(&trained);
        }
        let mut copy = 0.0;
        if let Some(update) = recipe.reference.reference_update {
            // Its own copy of the weights, and a pass over each step's pairs from its first move on.
            let rest = (steps - update.every_steps.get() as f64).max(0.0) / steps.max(1.0);
            measured.extend(&trained.times(rest));
            copy = 4.0
                * self
                    .model
                    .map_or(0.0, |model| parameter_count(model) as f64);
        }
        let mut estimate = self.total(&Work {
            trained,
            measured,
            at_once,
            split: at_once.cpu < step,
            monitored: recipe.training.monitor.is_some(),
            reference: recipe
                .reference
                .reference_update
                .map(|update| update.mix.get()),
            precision: recipe.training.precision,
            lora: recipe.training.lora.as_ref(),
        });
        estimate.peak_memory_bytes += copy as u64;
        estimate.weights_bytes = self.weights_bytes(&recipe.training);
        estimate.steps = steps;
        Ok(estimate)
    }

    /// Reference log-probabilities: every pair of every set once forward.
    pub(crate) fn ref_logps(
        &mut self,
        sets: &[PairSet],
        precision: Precision,
        runtime: &TrainRuntime,
    ) -> Result<RunCost, PlanError> {
        let made = self.made_pairs(None)?;
        let (mut measured, mut row) = (made.pair_pass(usize::MAX), made.longest(usize::MAX));
        for set in sets {
            let pairs = self.documents(&set.rows.data, true)?;
            measured.extend(&pairs.pair_pass(set.limits.max_seq_len));
            row = row.max(pairs.longest_pair(&set.limits));
        }
        Ok(self.measured((measured, row), runtime, precision))
    }

    /// Filtering: methods that ask a model see every row once forward (`ifd` twice), `less` forward and
    /// backward.
    pub(crate) fn select(
        &mut self,
        recipe: &SelectStageRecipe,
        runtime: &TrainRuntime,
    ) -> Result<RunCost, PlanError> {
        let (pass, row) = match &recipe.rows {
            SelectRows::Chat { rows, max_seq_len } => {
                let documents = self.documents(&rows.data, false)?;
                let row = documents.longest(*max_seq_len);
                (beginnings(&documents, *max_seq_len), row)
            }
            SelectRows::Pairs { rows, limits } => {
                let pairs = self.documents(&rows.data, true)?;
                let row = pairs.longest_pair(limits);
                (pairs.pair_pass(limits.max_seq_len), row)
            }
        };
        let passes = match &recipe.select.method {
            SelectMethod::Ifd | SelectMethod::ImplicitRewardGap | SelectMethod::Deita(_) => 2.0,
            SelectMethod::Less(_) => 3.0,
            method if method.needs_model() => 1.0,
            _ => 0.0,
        };
        let precision = recipe.select.precision.unwrap_or(Precision::F32);
        Ok(self.measured((pass.times(passes), row), runtime, precision))
    }

    /// Pairs that a round makes, at most: one a prompt, each reply as long as its budget.
    fn made_pairs(&mut self, fraction: Option<Share>) -> Result<Documents, PlanError> {
        let Some(online) = self.online else {
            return Ok(Documents::default());
        };
        let prompts = self.documents(&online.prompts.data, false)?;
        let count =
            prompts.first(online.prompts.per_round).count() * fraction.map_or(1.0, Share::get);
        let new = online.sampling.max_new_tokens.get() as f64;
        let tokens = 2.0 * (new + TEMPLATE_TOKENS);
        Ok(Documents::equal(count, tokens, 2.0 * new))
    }

    /// Samples that use their whole budget of new tokens.
    fn samples(prompts: &Documents, samples: usize, sampling: &SamplingRecipe) -> Pass {
        let prompt = (prompts.tokens() - prompts.replies()) / prompts.count().max(1.0);
        let new = sampling.max_new_tokens.get() as f64;
        let mut pass = Pass::default();
        pass.add_samples(prompt, std::iter::repeat_n(new, samples));
        pass.times(prompts.count())
    }

    /// Sampling: of each sample the whole budget of new tokens.
    pub(crate) fn sample(
        &mut self,
        recipe: &SampleStageRecipe,
        runtime: &TrainRuntime,
    ) -> Result<RunCost, PlanError> {
        let prompts = self.documents(&recipe.prompts.data, false)?;
        let prompts = prompts.first(recipe.prompts.per_round);
        let pass = Self::samples(&prompts, recipe.samples.get(), &recipe.sampling);
        Ok(self.measured((pass, 0.0), runtime, recipe.precision))
    }

    /// An evaluation task: each row behind its solved rows, which are as long, and its choices or the whole budget of
    /// an answer.
    fn task(&mut self, task: &TaskRecipe) -> Result<Pass, PlanError> {
        let mut pass = Pass::default();
        let shots = task.few_shot.as_ref().map_or(0, |few_shot| few_shot.count);
        for file in &task.data {
            let size = self.resolver.text_size(file)?;
            let expected = self.resolver.expected(file).and_then(|input| input.rows);
            let rows = match (size, expected) {
                (Some(size), _) => size.rows as f64,
                (None, Some(rows)) => rows.get() as f64,
                (None, None) => continue,
            };
            // Of many parts each may have so many rows.
            let most = task.max_rows.filter(|_| task.parts.is_none());
            let rows = most.map_or(rows, |most| rows.min(most.get() as f64));
            let chars_per_token = self.model.map_or(4.0, chars_per_token);
            let written = size.map_or(0.0, |size| {
                size.chars as f64 / rows.max(1.0) / chars_per_token
            });
            let row = if written > 1.0 { written } else { TASK_TOKENS };
            let context = row * (1.0 + shots as f64);
            match &task.request {
                TaskRequest::Choices(_) => {
                    pass.add(rows, context, 0.0, 0.0);
                    let choices = rows * TASK_CHOICES;
                    pass.add(choices, CHOICE_TOKENS, context, choices * CHOICE_TOKENS);
                }
                TaskRequest::Generate(request) => {
                    let mut answer = Pass::default();
                    answer.add_samples(context, [request.max_new_tokens.get() as f64]);
                    pass.extend(&answer.times(rows));
                }
            }
        }
        Ok(pass)
    }

    /// Judging: how much there is to judge is known only when it has been sampled.
    pub(crate) fn judge() -> RunCost {
        RunCost {
            peak_memory_bytes: PROCESS_BYTES,
            ..RunCost::default()
        }
    }

    /// Every evaluated document once forward; of each sample the whole budget of new tokens.
    pub(crate) fn eval(
        &mut self,
        recipe: &EvalRecipe,
        runtime: &TrainRuntime,
    ) -> Result<RunCost, PlanError> {
        let (mut pass, mut row) = (Pass::default(), 0.0_f64);
        for set in recipe.likelihood.values() {
            let documents = self.documents(&set.data, false)?;
            pass.extend(&beginnings(&documents, set.max_seq_len));
            row = row.max(documents.longest(set.max_seq_len));
        }
        for set in recipe.preference.values() {
            let pairs = self.documents(&set.data, true)?;
            pass.extend(&pairs.pair_pass(set.limits.max_seq_len));
            row = row.max(pairs.longest_pair(&set.limits));
        }
        for set in recipe.stories.values() {
            let prompts = self.documents(&set.data, false)?.first(set.max_prompts);
            pass.extend(&Self::samples(&prompts, set.samples.get(), &set.sampling));
        }
        for task in recipe.tasks.values() {
            pass.extend(&self.task(task)?);
        }
        let (mut judge_requests, mut judge_tokens) = (0, 0);
        let mut local = RunCost::default();
        for set in recipe.judged.values() {
            let questions = self.questions(set)?;
            pass.extend(&replies(set).times(questions as f64));
            let requests = questions * set.benchmark.requests_a_question();
            if let Some(JudgeAt::Folder { path, precision }) = set.judge.at() {
                let judged = judgments(set).times(requests as f64);
                local = local.then(&self.local_judge(path, precision, judged, runtime)?);
                continue;
            }
            judge_requests += requests as u64;
            judge_tokens += (requests * set.judge.max_tokens.get()) as u64;
        }
        Ok(RunCost {
            judge_requests,
            judge_tokens,
            ..self
                .measured((pass, row), runtime, recipe.precision)
                .then(&local)
        })
    }

    /// What a judge of a folder computes.
    fn local_judge(
        &mut self,
        folder: &str,
        precision: Precision,
        pass: Pass,
        runtime: &TrainRuntime,
    ) -> Result<RunCost, PlanError> {
        let (_, config) = self.resolver.model(folder)?;
        let estimator = Estimator {
            model: config.as_ref(),
            folder,
            lengths: self.lengths,
            resolver: &mut *self.resolver,
            online: None,
            kept: None,
            recompute: false,
        };
        Ok(estimator.measured((pass, 0.0), runtime, precision))
    }

    /// Questions of a chat benchmark: rows of its file, as many as are used.
    fn questions(&mut self, set: &JudgedEval) -> Result<usize, PlanError> {
        let size = self.resolver.text_size(set.benchmark.questions())?;
        let most = set.max_questions.map_or(usize::MAX, NonZeroUsize::get);
        Ok(size.map_or(0, |size| size.rows as usize).min(most))
    }
}

/// Replies to a question of a chat benchmark, each of the whole budget: of each turn the prompt with what was said before.
fn replies(set: &JudgedEval) -> Pass {
    let new = set.max_new_tokens.get() as f64;
    let mut pass = Pass::default();
    for turn in 0..set.benchmark.turns() {
        pass.add_samples(
            QUESTION_TOKENS + turn as f64 * (QUESTION_TOKENS + new),
            [new],
        );
    }
    pass
}

/// An answer of a benchmark's judge of its whole budget, behind question and replies of theirs.
fn judgments(set: &JudgedEval) -> Pass {
    let told = QUESTION_TOKENS + set.max_new_tokens.get() as f64;
    let mut pass = Pass::default();
    pass.add_samples(
        QUESTION_TOKENS + set.benchmark.turns() as f64 * told,
        [set.judge.max_tokens.get() as f64],
    );
    pass
}

/// Tokens of a row of an evaluation task where nothing is known of it.
const TASK_TOKENS: f64 = 100.0;
/// Choices of a row.
const TASK_CHOICES: f64 = 4.0;
/// Tokens of a choice.
const CHOICE_TOKENS: f64 = 10.0;

/// What is measured of documents: as much of each as fits.
fn beginnings(documents: &Documents, window: usize) -> Pass {
    documents.pass(window, Batching::Padded, LossMask::AssistantOnly)
}

/// How often a set is measured along `steps` steps.
fn measurements(monitor: &Monitor, steps: f64) -> f64 {
    2.0 + (steps / monitor.every_steps.get() as f64).floor()
}

/// Positions of one pass on the CPU and on a card.
#[derive(Clone, Copy, Debug)]
struct AtOnce {
    cpu: f64,
    card: usize,
}

/// What passes are made of, in positions.
#[derive(Clone, Copy, Debug)]
struct Passes {
    /// The longest row.
    row: f64,
    /// A step, on average.
    step: f64,
    /// What no step exceeds, whatever the rows are.
    most: f64,
}

/// Positions of one pass: what fits the runtime's limit, at least the longest row. The CPU allocates what a step needs; on a
/// card a run makes room for the largest step that may come.
fn at_once(runtime: &TrainRuntime, passes: Passes) -> AtOnce {
    let on = |device: Device, step: f64| {
        let limit = runtime
            .micro_batch_tokens
            .map_or(device.usual_micro_batch(), NonZeroUsize::get);
        largest_pass(limit, whole(passes.row), whole(step))
    };
    AtOnce {
        cpu: on(Device::Cpu, passes.step.max(passes.row)) as f64,
        card: on(Device::Cuda(0), passes.most),
    }
}

/// A mean number of positions, rounded up: but for what adding up made of a whole one.
fn whole(positions: f64) -> usize {
    (positions - 1e-6).ceil().max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_takes_the_place_of_what_was_before_and_the_larger_one_counts() {
        let small = RunCost {
            tokens: 1,
            flops: 2.0,
            parameters: 1000,
            peak_memory_bytes: 3,
            card_memory_bytes: 4,
            resident_card_memory_bytes: 5,
            least_card_memory_bytes: 6,
            weights_bytes: 7,
            judge_requests: 8,
            judge_tokens: 9,
            steps: 11.0,
        };
        let large = RunCost {
            tokens: 10,
            flops: 20.0,
            parameters: 100,
            peak_memory_bytes: 30,
            card_memory_bytes: 40,
            resident_card_memory_bytes: 50,
            least_card_memory_bytes: 60,
            ..RunCost::default()
        };
        let both = RunCost {
            tokens: 11,
            flops: 22.0,
            parameters: 1000,
            weights_bytes: 7,
            judge_requests: 8,
            judge_tokens: 9,
            steps: 11.0,
            ..large
        };
        assert_eq!(small.then(&large), both);
        let other = RunCost {
            parameters: 100,
            weights_bytes: 0,
            judge_requests: 0,
            judge_tokens: 0,
            steps: 0.0,
            ..both
        };
        assert_eq!(large.then(&small), other);
    }
}
