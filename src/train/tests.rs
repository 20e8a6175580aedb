//! The loop on the shipped model and real rows.

use super::*;
use crate::arch::{DecoderConfig, forward_flops};
use crate::base::SeedTree;
use crate::config::parse_toml;
use crate::config::spec::{
    BatchSize, Batching, DataSource, Duration, LayoutRecipe, LoraRecipe, LoraTarget, LossMask,
    OptimizerRecipe, PairLimits, PreferenceLoss, ScheduleRecipe, Truncation,
};
use crate::data::{
    PairPlan, SftPlan, TextFormat, TokenBatch, TokenizedPair, load_chat, load_pairs, pair_batches,
};
use crate::model::{Decoder, FrozenParams, Lora, Params, Recompute};
use candle_core::{DType, Device, Tensor, Var};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

pub(super) static OPTIMIZER: LazyLock<OptimizerRecipe> = LazyLock::new(|| {
    parse_toml(
        "learning-rate = 2e-3\nbeta1 = 0.9\nbeta2 = 0.95\neps = 1e-8\nweight-decay = 0.1\nmax-grad-norm = 1",
    )
    .unwrap()
});

static SCHEDULE: LazyLock<ScheduleRecipe> =
    LazyLock::new(|| parse_toml("decay = 'cosine'\nwarmup-ratio = 0.1\nmin-ratio = 0.1").unwrap());

/// A loss as a recipe spells it.
pub(super) fn loss(text: &str) -> PreferenceLoss {
    parse_toml(text).unwrap()
}

fn model_dir() -> &'static Path {
    Path::new("models/stories260k")
}

pub(super) fn shipped() -> (DecoderConfig, Params) {
    let config = DecoderConfig::from_file(model_dir()).unwrap();
    let params = Params::load(model_dir(), &config, &Device::Cpu, DType::F32).unwrap();
    (config, params)
}

fn source(path: &str, count: usize) -> Vec<DataSource> {
    vec![DataSource {
        path: path.into(),
        fraction: None,
        count: NonZeroUsize::new(count),
        columns: std::collections::BTreeMap::new(),
        fold: None,
    }]
}

pub(super) fn sft(config: &DecoderConfig, steps: u64, micro_batch_tokens: usize) -> SftObjective {
    sft_of(48, config, steps, micro_batch_tokens)
}

/// As [`sft`], of so many conversations.
fn sft_of(
    rows: usize,
    config: &DecoderConfig,
    steps: u64,
    micro_batch_tokens: usize,
) -> SftObjective {
    let layout = LayoutRecipe {
        max_masked_fraction: None,
        max_seq_len: 64,
        batching: Batching::BestFit,
        loss_mask: LossMask::AssistantOnly,
        batch: BatchSize::Tokens(512),
    };
    let data = source("data/sft/instruct_train.jsonl", rows);
    let seed = SeedTree::root(5);
    let (rows, _) = load_chat(Path::new("."), &data, &seed).unwrap();
    let format = TextFormat::open(model_dir(), None).unwrap();
    let examples = format.encode_chats(&rows).unwrap();
    SftObjective {
        monitors: vec![SftMonitor {
            name: "held".to_owned(),
            examples: examples[..4].to_vec(),
        }],
        plan: SftPlan::new(
            examples,
            &layout,
            Duration::Steps(steps),
            &seed,
            format.pad_token(),
        )
        .unwrap(),
        max_seq_len: 64,
        micro_batch_tokens,
        config: config.clone(),
        monitor_every: Some(4),
    }
}

/// Takes note of everything; stops, or dies, after a given step.
#[derive(Default)]
pub(super) struct Script {
    pub(super) metrics: BTreeMap<u64, BTreeMap<String, f64>>,
    pub(super) checkpoint_at: Option<u64>,
    pub(super) stop_after: Option<u64>,
    pub(super) die_after: Option<u64>,
    pub(super) seen: u64,
}

impl Observer for Script {
    fn on_metrics(&mut self, step: u64, metrics: &BTreeMap<String, f64>) -> Result<(), TrainError> {
        self.seen = step;
        self.metrics
            .entry(step)
            .or_default()
            .extend(metrics.clone());
        if self.die_after == Some(step) {
            return Err(TrainError::Nothing("killed".to_owned()));
        }
        Ok(())
    }
    fn on_checkpoint(&mut self, _: u64) -> Result<(), TrainError> {
        Ok(())
    }
    fn wants_checkpoint(&mut self, step: u64) -> bool {
        self.checkpoint_at == Some(step)
    }
    fn stop_requested(&mut self) -> bool {
        self.stop_after == Some(self.seen)
    }
}

/// An engine whose updates show in `params`.
pub(super) fn engine(config: &DecoderConfig, params: &Params) -> HostEngine {
    HostEngine::new(config, Trained::All(params.clone()), &OPTIMIZER).unwrap()
}

pub(super) fn training(
    config: &DecoderConfig,
    params: &Params,
    steps: u64,
    work: &Path,
) -> Training {
    training_of(engine(config, params), steps, work)
}

pub(super) fn training_of(engine: HostEngine, steps: u64, work: &Path) -> Training {
    let schedule = LrSchedule::new(&SCHEDULE, OPTIMIZER.learning_rate.get(), steps);
    let (work, owner) = (work.to_owned(), "run".to_owned());
    Training::new(Box::new(engine), &OPTIMIZER, schedule, work, owner)
}

/// What a step computes before its update, and its gradients end to end.
pub(super) fn backward(
    objective: &mut dyn Objective,
    engine: &mut HostEngine,
    step: u64,
) -> (StepOutput, Vec<f32>) {
    let out = objective.backward(engine, step).unwrap();
    let mut gradients = Vec::new();
    let mut take = |values: &[f32]| gradients.extend_from_slice(values);
    engine.take_gradients(&mut take).unwrap();
    (out, gradients)
}

pub(super) fn bits(params: &Params) -> Vec<u32> {
    let flat = |v: &Var| {
        v.as_detached_tensor()
            .to_dtype(DType::F32)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    params
        .iter()
        .flat_map(|(_, v)| flat(v))
        .map(f32::to_bits)
        .collect()
}

#[test]
fn ten_steps_on_real_rows_lower_the_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (config, params) = shipped();
    let mut objective = sft(&config, 10, 4096);
    let mut script = Script::default();
    let mut training = training(&config, &params, 10, dir.path());
    assert_eq!(
        training.run(&mut objective, &mut script).unwrap(),
        Ending::Finished
    );
    let loss = |step: u64| script.metrics[&step]["loss"];
    assert!(loss(10) < loss(1) - 0.5, "{} to {}", loss(1), loss(10));
    // Before the first step, every four steps, and after the last.
    let measured: Vec<u64> = script
        .metrics
        .iter()
        .filter(|(_, m)| m.contains_key("eval_held/loss"))
        .map(|(step, _)| *step)
        .collect();
    assert_eq!(measured, [0, 4, 8, 10]);
    let held = |step: u64| script.metrics[&step]["eval_held/loss"];
    assert!(held(10) < held(0));
    for key in [
        "grad_norm",
        "learning_rate",
        "num_tokens",
        "mean_token_accuracy",
    ] {
        assert!(script.metrics[&7].contains_key(key), "{key}");
    }
}

fn in_bf16() -> (DecoderConfig, Params) {
    let config = DecoderConfig::from_file(model_dir()).unwrap();
    let params = Params::load(model_dir(), &config, &Device::Cpu, DType::BF16).unwrap();
    (config, params)
}

/// Mean relative difference allowed between the losses of 100 steps in bf16 and in f32, and the
/// largest of one step: 1 and 4 units of rounding of an 8-bit significand, 2⁻⁸ each. (Seen: 1.0e-3
/// and 8e-3, with another seed 1.1e-3 and 1.1e-2.)
const BF16_LOSS: (f64, f64) = (1.0 / 256.0, 4.0 / 256.0);

#[test]
fn a_hundred_steps_in_bf16_follow_the_loss_of_f32() {
    let dir = tempfile::tempdir().unwrap();
    let curve = |(config, params): (DecoderConfig, Params)| -> Vec<f64> {
        // More conversations than 100 steps see: of few, learnt by heart, the loss is near 0, and so are the
        // losses that errors are divided by.
        let mut objective = sft_of(1294, &config, 100, 4096);
        objective.monitor_every = None;
        let mut script = Script::default();
        let mut run = training(&config, &params, 100, dir.path());
        run.run(&mut objective, &mut script).unwrap();
        script.metrics.values().map(|m| m["loss"]).collect()
    };
    let (wide, short) = (curve(shipped()), curve(in_bf16()));
    assert_eq!((wide.len(), short.len()), (100, 100));
    assert!(wide[99] < 0.8 * wide[0], "{} to {}", wide[0], wide[99]);
    let errors = wide.iter().zip(&short).map(|(w, s)| (s / w - 1.0).abs());
    let errors: Vec<f64> = errors.collect();
    let mean = errors.iter().sum::<f64>() / 100.0;
    let worst = errors.iter().fold(0.0f64, |m, &e| m.max(e));
    assert!(mean > 1e-6, "nothing was rounded");
    assert!(
        mean < BF16_LOSS.0 && worst < BF16_LOSS.1,
        "{mean:e} {worst:e}"
    );
}

/// The most advanced whole state of `run` below `works`.
pub(super) fn newest_state(works: &[PathBuf]) -> Option<SavedState> {
    FoundStates::of(works, "run").unwrap().next_whole().unwrap()
}

#[test]
fn a_resumed_training_in_bf16_ends_with_the_bits_of_an_undisturbed_one() {
    let dir = tempfile::tempdir().unwrap();
    let (config, straight) = in_bf16();
    let mut run = training(&config, &straight, 6, &dir.path().join("straight"));
    run.run(&mut sft(&config, 6, 256), &mut Script::default())
        .unwrap();
    let works = [dir.path().join("1"), dir.path().join("2")];
    let (_, first) = in_bf16();
    let mut stopped = Script {
        stop_after: Some(3),
        ..Script::default()
    };
    let mut run = training(&config, &first, 6, &works[0]);
    let ending = run.run(&mut sft(&config, 6, 256), &mut stopped).unwrap();
    assert_eq!(ending, Ending::Interrupted);
    let (_, second) = in_bf16();
    let mut run = training(&config, &second, 6, &works[1]);
    let saved = newest_state(&works).unwrap();
    run.restore(&saved).unwrap();
    run.run(&mut sft(&config, 6, 256), &mut Script::default())
        .unwrap();
    assert!(bits(&second) == bits(&straight), "the weights differ");
}

// One step of 1e-5 is less than half the spacing of bf16 at all weights above 0.005, and would be
// rounded away; a hundred of them in the master weights add up to 1e-3.
#[test]
fn updates_too_small_for_bf16_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let moved = |(config, params): (DecoderConfig, Params)| -> f64 {
        let before = params.working().unwrap().detached();
        let before: Vec<Tensor> = before.iter().map(|(_, t)| t.copy().unwrap()).collect();
        let schedule = ScheduleRecipe {
            decay: crate::config::spec::Decay::Constant,
            warmup_ratio: 0.0.try_into().unwrap(),
            min_ratio: 1.0.try_into().unwrap(),
            decay_ratio: None,
        };
        let schedule = LrSchedule::new(&schedule, 1e-5, 100);
        let recipe = OptimizerRecipe {
            weight_decay: 0.0.try_into().unwrap(),
            ..*OPTIMIZER
        };
        let work = dir.path().to_owned();
        let engine = HostEngine::new(&config, Trained::All(params.clone()), &recipe).unwrap();
        let mut run = Training::new(Box::new(engine), &recipe, schedule, work, "run".to_owned());
        let mut objective = sft(&config, 100, 4096);
        objective.monitor_every = None;
        run.run(&mut objective, &mut Script::default()).unwrap();
        let after = params.working().unwrap();
        let sum = |t: Tensor| t.sum_all().unwrap().to_scalar::<f32>().unwrap();
        let moved = before.iter().zip(after.iter()).map(|(before, (_, after))| {
            let distance = (after.as_tensor() - before).unwrap().abs().unwrap();
            f64::from(sum(distance))
        });
        moved.sum::<f64>() / before.iter().map(|t| t.elem_count() as f64).sum::<f64>()
    };
    let (wide, short) = (moved(shipped()), moved(in_bf16()));
    assert!(wide > 3e-4, "{wide:e}");
    assert!((short / wide - 1.0).abs() < 0.2, "{short:e} {wide:e}");
}

fn adapters() -> (DecoderConfig, Lora) {
    let config = DecoderConfig::from_file(model_dir()).unwrap();
    let base = FrozenParams::load(model_dir(), &config, &Device::Cpu, DType::F32).unwrap();
    let recipe = LoraRecipe {
        rank: 4.try_into().unwrap(),
        alpha: 8.0.try_into().unwrap(),
        targets: <LoraTarget as strum::VariantArray>::VARIANTS.to_vec(),
    };
    let lora = Lora::new(base, &recipe, &SeedTree::root(3)).unwrap();
    (config, lora)
}

#[test]
fn adapters_are_trained_and_go_on_after_a_stop_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let run = |lora: &Lora, config: &DecoderConfig, work: &Path, stop_after, from: &[PathBuf]| {
        let schedule = LrSchedule::new(&SCHEDULE, 1e-2, 12);
        let work = work.to_owned();
        let trained = Trained::Adapters(lora.clone());
        let engine = Box::new(HostEngine::new(config, trained, &OPTIMIZER).unwrap());
        let mut run = Training::new(engine, &OPTIMIZER, schedule, work, "run".to_owned());
        if let Some(saved) = newest_state(from) {
            run.restore(&saved).unwrap();
        }
        let mut script = Script {
            stop_after,
            ..Script::default()
        };
        run.run(&mut sft(config, 12, 512), &mut script).unwrap();
        script.metrics
    };
    let (config, straight) = adapters();
    let metrics = run(&straight, &config, &dir.path().join("a"), None, &[]);
    let loss = |step: u64| metrics[&step]["loss"];
    assert!(loss(12) < loss(1) - 0.2, "{} to {}", loss(1), loss(12));

    let works = [dir.path().join("b")];
    let (_, first) = adapters();
    run(&first, &config, &works[0], Some(5), &[]);
    let (_, second) = adapters();
    run(&second, &config, &dir.path().join("c"), None, &works);
    let bits = |lora: &Lora| -> Vec<u32> {
        let merged = lora.merged(lora.dtype()).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        merged
            .iter()
            .flat_map(|(_, t)| flat(t))
            .map(f32::to_bits)
            .collect()
    };
    assert!(bits(&second) == bits(&straight), "the weights differ");
}

/// Relative distance of two gradients.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let (mut difference, mut size) = (0.0, 0.0);
    for (&left, &right) in a.iter().zip(b) {
        difference += f64::from(left - right).powi(2);
        size += f64::from(left).powi(2);
    }
    (difference / size).sqrt()
}

#[test]
fn a_step_split_into_one_two_or_eight_parts_has_one_gradient() {
    let (config, params) = shipped();
    let mut engine = engine(&config, &params);
    let outputs = [512, 256, 64].map(|limit| {
        let mut objective = sft(&config, 4, limit);
        let parts = objective.plan.step(1).unwrap().micro_batches(limit).len();
        (parts, backward(&mut objective, &mut engine, 1))
    });
    assert_eq!(outputs[0].0, 1);
    assert!(outputs[1].0 >= 2 && outputs[2].0 >= 8);
    for (_, split) in &outputs[1..] {
        let whole = &outputs[0].1;
        assert!((split.0.loss / whole.0.loss - 1.0).abs() < 1e-6);
        let error = distance(&whole.1, &split.1);
        assert!(error < 1e-6, "{error:e}");
    }
}

#[test]
fn layers_computed_again_give_the_bits_of_layers_kept() {
    let run = |recompute| {
        let (config, params) = shipped();
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(&config, &params).with_recompute(recompute);
        let mut training = training_of(engine, 3, dir.path());
        let mut objective = sft(&config, 3, 4096);
        training
            .run(&mut objective, &mut Script::default())
            .unwrap();
        bits(&params)
    };
    assert!(run(Recompute::Nothing) == run(Recompute::Layers));
}

#[test]
fn a_killed_and_resumed_training_ends_with_the_bits_of_an_undisturbed_one() {
    let dir = tempfile::tempdir().unwrap();
    let (config, straight) = shipped();
    let mut run = training(&config, &straight, 6, &dir.path().join("straight"));
    run.run(&mut sft(&config, 6, 256), &mut Script::default())
        .unwrap();
    let undisturbed = run.state.clone();

    // Attempt 1 dies after step 4, its last state is of step 3; attempt 2 is asked to stop after
    // step 5; attempt 3 ends.
    let works = [1, 2, 3].map(|n| dir.path().join(n.to_string()));
    let mut killed = Script {
        checkpoint_at: Some(3),
        die_after: Some(4),
        ..Script::default()
    };
    let (_, first) = shipped();
    let mut run = training(&config, &first, 6, &works[0]);
    assert!(run.run(&mut sft(&config, 6, 256), &mut killed).is_err());

    let mut stopped = Script {
        stop_after: Some(5),
        ..Script::default()
    };
    let (_, second) = shipped();
    let mut run = training(&config, &second, 6, &works[1]);
    let saved = newest_state(&works).unwrap();
    assert_eq!(saved.step(), 3);
    run.restore(&saved).unwrap();
    assert_eq!(
        run.run(&mut sft(&config, 6, 256), &mut stopped).unwrap(),
        Ending::Interrupted
    );
    assert_eq!(stopped.metrics.keys().copied().collect::<Vec<_>>(), [4, 5]);

    let (_, third) = shipped();
    let mut run = training(&config, &third, 6, &works[2]);
    let saved = newest_state(&works).unwrap();
    run.restore(&saved).unwrap();
    run.run(&mut sft(&config, 6, 256), &mut Script::default())
        .unwrap();
    assert!(bits(&third) == bits(&straight), "the weights differ");
    assert_eq!(run.state, undisturbed);
}

pub(super) fn pairs(count: usize) -> Vec<TokenizedPair> {
    let limits = PairLimits {
        max_seq_len: 128,
        max_prompt_len: 96,
        truncation: Truncation::KeepEnd,
    };
    let sources = source("data/pref/polite_train.jsonl", count);
    let (rows, _) = load_pairs(Path::new("."), &sources, &SeedTree::root(1)).unwrap();
    let format = TextFormat::open(model_dir(), None).unwrap();
    format.encode_pairs(&rows, &limits).unwrap().0
}

pub(super) fn dpo(
    config: &DecoderConfig,
    params: &Params,
    micro_batch_tokens: usize,
) -> DpoObjective {
    let pairs = pairs(8);
    let mut decoder = Decoder::frozen(config, &params.detached()).unwrap();
    let scores = score_pairs(&mut decoder, &pairs, 512, &mut |_| Ok(())).unwrap();
    let keys = pairs.iter().map(|p| p.key.as_str());
    DpoObjective {
        reference: Some(ReferenceLogps::from_scores(keys.zip(&scores))),
        plan: PairPlan::new(pairs.len(), 4, Duration::Steps(8), &SeedTree::root(2)).unwrap(),
        monitors: vec![PairMonitor {
            name: "seen".to_owned(),
            pairs: pairs.clone(),
        }],
        pairs,
        moving: None,
        loss: loss("loss = 'sigmoid'\nbeta = 0.1"),
        micro_batch_tokens,
        config: config.clone(),
        monitor_every: Some(100),
    }
}

#[test]
fn dpo_starts_at_ln_2_and_raises_the_margin() {
    let dir = tempfile::tempdir().unwrap();
    let (config, params) = shipped();
    let mut objective = dpo(&config, &params, 512);
    let mut script = Script::default();
    let mut training = training(&config, &params, 8, dir.path());
    training.run(&mut objective, &mut script).unwrap();
    let at = |step: u64, key: &str| script.metrics[&step][key];
    assert!((at(0, "eval_seen/loss") - 2.0f64.ln()).abs() < 1e-6);
    assert!((at(1, "loss") - 2.0f64.ln()).abs() < 1e-4);
    assert!(at(8, "eval_seen/rewards/margins") > at(0, "eval_seen/rewards/margins") + 0.1);
    assert!(at(8, "eval_seen/loss") < at(0, "eval_seen/loss"));
    assert!(at(8, "eval_seen/rewards/accuracies") > 0.7);
    for key in [
        "rewards/chosen",
        "rewards/rejected",
        "logps/chosen",
        "logps/rejected",
    ] {
        assert!(script.metrics[&3].contains_key(key), "{key}");
    }
}

#[test]
fn a_preference_step_split_into_parts_has_one_gradient() {
    let (config, params) = shipped();
    let mut engine = engine(&config, &params);
    let outputs = [4096, 1].map(|limit| {
        let mut objective = dpo(&config, &params, limit);
        backward(&mut objective, &mut engine, 0)
    });
    let error = distance(&outputs[0].1, &outputs[1].1);
    assert!(error < 1e-6, "{error:e}");
    assert!((outputs[0].0.loss - outputs[1].0.loss).abs() < 1e-6);
}

/// Both sequences of every pair as segments of their own, prompts computed twice.
fn apart(pairs: &[TokenizedPair]) -> TokenBatch {
    let mut batch = TokenBatch::new();
    for pair in pairs {
        for reply in [&pair.chosen, &pair.rejected] {
            let tokens = [pair.prompt.as_slice(), reply.as_slice()].concat();
            batch.push_segment(&pair.id, &tokens, |i| i >= pair.prompt.len(), 0, 0);
        }
    }
    batch
}

/// Relative error allowed between prompts computed once and twice.
const SHARED: f64 = 1e-5;

#[test]
fn a_shared_prompt_gives_the_scores_and_gradients_of_two_sequences() {
    let (config, params) = shipped();
    let vars: BTreeMap<String, Var> = params
        .iter()
        .map(|(n, v)| (n.to_owned(), v.clone()))
        .collect();
    let decoder = Decoder::trainable(&config, &params).unwrap();
    let pairs = pairs(8);
    let refs: Vec<&TokenizedPair> = pairs.iter().collect();
    let shared = &pair_batches(&refs, 4096)[0].batch;
    let apart = apart(&pairs);
    assert!(shared.len() < apart.len());
    assert_eq!(shared.targets, apart.targets);
    // Token weights that differ by reply, so that no gradient cancels by chance.
    let weights: Vec<f32> = (0..shared.targets.len())
        .map(|i| (i as f32 * 0.7).sin())
        .collect();
    let weights = Tensor::new(weights, &Device::Cpu).unwrap();
    let [one, two] = [shared, &apart].map(|batch| {
        let hidden = hidden_states(&decoder, batch).unwrap();
        let logps = decoder
            .token_logps(&hidden, &batch.target_rows, &batch.targets)
            .unwrap();
        let mut store = (&logps * &weights)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let mut grads = Gradients::default();
        grads.accumulate(&vars, &mut store).unwrap();
        (logps.to_vec1::<f32>().unwrap(), grads)
    });
    for (one, two) in one.0.iter().zip(&two.0) {
        let error = f64::from((one - two).abs() / two.abs());
        assert!(error < SHARED, "{one} {two}");
    }
    for (name, grad) in one.1.iter() {
        let flat = |g: &Tensor| g.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let error = distance(&flat(grad), &flat(two.1.get(name).unwrap()));
        assert!(error < SHARED, "{name}: {error:e}");
    }
}

#[test]
fn a_shared_prompt_is_counted_once() {
    let (config, params) = shipped();
    let pairs = pairs(8);
    let refs: Vec<&TokenizedPair> = pairs.iter().collect();
    let shared = &pair_batches(&refs, 4096)[0].batch;
    let whole: usize = pairs.iter().map(TokenizedPair::tokens).sum();
    let prompts: usize = pairs.iter().map(|p| p.prompt.len()).sum();
    assert_eq!(shared.len(), whole - prompts);
    // What is saved: a forward pass over each prompt.
    let mut saved = TokenBatch::new();
    for pair in &pairs {
        saved.push_segment(&pair.id, &pair.prompt, |_| false, 0, 0);
    }
    let flops = |batch: &TokenBatch| forward_flops(&config, &batch.pass());
    let error = flops(shared) + flops(&saved) - flops(&apart(&pairs));
    assert!(error.abs() < 1e-9 * flops(shared), "{error}");
    let mut objective = dpo(&config, &params, 4096);
    objective.plan = PairPlan::new(8, 8, Duration::Steps(1), &SeedTree::root(2)).unwrap();
    let (out, _) = backward(&mut objective, &mut engine(&config, &params), 0);
    assert_eq!(out.positions, shared.len() as u64);
    assert!((out.flops / (3.0 * flops(shared)) - 1.0).abs() < 1e-12);
}

#[test]
fn a_killed_and_resumed_preference_training_ends_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (config, straight) = shipped();
    let mut run = training(&config, &straight, 4, &dir.path().join("straight"));
    run.run(&mut dpo(&config, &straight, 256), &mut Script::default())
        .unwrap();
    let works = [1, 2].map(|n| dir.path().join(n.to_string()));
    let mut killed = Script {
        checkpoint_at: Some(2),
        die_after: Some(3),
        ..Script::default()
    };
    let (_, first) = shipped();
    let mut objective = dpo(&config, &first, 256);
    let mut run = training(&config, &first, 4, &works[0]);
    assert!(run.run(&mut objective, &mut killed).is_err());
    let (_, second) = shipped();
    let mut run = training(&config, &second, 4, &works[1]);
    let saved = newest_state(&works).unwrap();
    run.restore(&saved).unwrap();
    run.run(&mut objective, &mut Script::default()).unwrap();
    assert!(bits(&second) == bits(&straight), "the weights differ");
}

#[test]
fn every_loss_has_one_gradient_however_its_step_is_split() {
    let (config, params) = shipped();
    let mut engine = engine(&config, &params);
    let mut objective = dpo(&config, &params, 4096);
    // Another reference than the policy itself, so that no log-ratio is 0 and no order a tie.
    let mut scores = score_pairs(&mut engine, &objective.pairs, 512, &mut |_| Ok(())).unwrap();
    for (i, score) in scores.iter_mut().enumerate() {
        score.chosen.logp += [1.5, -2.25, 0.5, -1.0][i % 4];
        score.rejected.logp += [-1.0, 3.5, 2.0, -0.25, 0.75][i % 5];
    }
    let keys = objective.pairs.iter().map(|p| p.key.as_str());
    objective.reference = Some(ReferenceLogps::from_scores(keys.zip(&scores)));
    let with = |text: &str| loss(&format!("{text}\nbeta = 0.1"));
    let losses = [
        with("loss = 'kto-pair'"),
        with("loss = { aot = { label-smoothing = 0.1 } }"),
        with("loss = 'aot-unpaired'\nlength-normalized = true"),
        with("loss = { bco-pair = { reward-shift = true } }"),
        with("loss = 'sigmoid'\nsft-weight = 0.5"),
        with("loss = { simpo = { gamma = 0.5 } }"),
        with("loss = 'orpo'"),
    ];
    for loss in losses {
        objective.loss = loss;
        let mut outputs = Vec::new();
        for limit in [4096, 1] {
            objective.micro_batch_tokens = limit;
            outputs.push(backward(&mut objective, &mut engine, 0));
        }
        let error = distance(&outputs[0].1, &outputs[1].1);
        assert!(error < 1e-5, "{loss:?}: {error:e}");
        let error = (outputs[0].0.loss - outputs[1].0.loss).abs();
        assert!(error < 1e-5, "{loss:?}: {error:e}");
        let extra = outputs[1].0.flops / outputs[0].0.flops;
        let passes = if loss.couples_pairs() { 4.0 / 3.0 } else { 1.0 };
        assert!((extra - passes).abs() < 0.01, "{loss:?}: {extra}");
    }
}

#[test]
fn a_loss_without_a_reference_trains_without_one() {
    let (config, params) = shipped();
    let mut objective = dpo(&config, &params, 512);
    objective.reference = None;
    objective.loss = loss("loss = { simpo = { gamma = 0.5 } }\nbeta = 2");
    objective.check_references().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::default();
    let mut training = training(&config, &params, 8, dir.path());
    training.run(&mut objective, &mut script).unwrap();
    let at = |step: u64, key: &str| script.metrics[&step][key];
    assert!(at(8, "eval_seen/loss") < at(0, "eval_seen/loss"));
    assert!(at(8, "eval_seen/rewards/margins") > at(0, "eval_seen/rewards/margins"));
}

#[test]
fn a_pair_without_a_stored_reference_is_named() {
    let (config, params) = shipped();
    let mut objective = dpo(&config, &params, 512);
    objective.reference = Some(ReferenceLogps::default());
    let error = objective.check_references().unwrap_err().to_string();
    assert!(
        error.contains("no reference log-probabilities for pair `polite-"),
        "{error}"
    );
}

#[test]
fn a_loss_that_is_not_finite_fails_with_step_and_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (config, params) = shipped();
    let norm = params.get("model.norm.weight").unwrap();
    norm.set(&(norm.as_tensor() * f64::NAN).unwrap().detach())
        .unwrap();
    let mut objective = sft(&config, 2, 512);
    objective.monitor_every = None;
    let mut run = training(&config, &params, 2, dir.path());
    let error = run
        .run(&mut objective, &mut Script::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the loss is NaN at step 1; examples of the batch: `"),
        "{error}"
    );
}

#[test]
fn pairs_scored_together_are_scored_as_each_alone() {
    let (config, params) = shipped();
    let mut decoder = Decoder::frozen(&config, &params.detached()).unwrap();
    let pairs = pairs(6);
    let together = score_pairs(&mut decoder, &pairs, 4096, &mut |_| Ok(())).unwrap();
    for (pair, score) in pairs.iter().zip(&together) {
        for (reply, got) in [
            (&pair.chosen, score.chosen),
            (&pair.rejected, score.rejected),
        ] {
            let tokens = [pair.prompt.as_slice(), reply.as_slice()].concat();
            let positions: Vec<u32> = (0..tokens.len() as u32).collect();
            let hidden = decoder
                .hidden(&tokens, &positions, &[0, tokens.len() as u32])
                .unwrap();
            let logits = decoder
                .logits(&hidden)
                .unwrap()
                .to_dtype(DType::F64)
                .unwrap();
            let logps = candle_nn::ops::log_softmax(&logits, 1)
                .unwrap()
                .to_vec2::<f64>()
                .unwrap();
            let from = pair.prompt.len();
            let want: f64 = (from..tokens.len())
                .map(|i| logps[i - 1][tokens[i] as usize])
                .sum();
            assert!((got.logp - want).abs() < 1e-4, "{} {want}", got.logp);
            assert_eq!(got.tokens, reply.len());
        }
    }
}
