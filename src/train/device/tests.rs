//! The device's engine on the emulation against the host's, in every family of decoders.

use crate::arch::{CardFootprint, DecoderConfig, EMBEDDING, FloatFormat, Learned};
use crate::base::SeedTree;
use crate::config::parse_toml;
use crate::config::spec::{LoraRecipe, Precision, TrainingRecipe};
use crate::data::TokenBatch;
use crate::gpu::SharedGpu;
use crate::gpu::testing::{FAMILIES, emulated, family, ids};
use crate::model::{Companions, Decoder, DeviceModel, FrozenParams, Params, save_checkpoint};
use crate::train::device::{open_learner_on_device, open_on_device};
use crate::train::{
    Engine, EngineStart, HostLearner, Learner, Part, ReplyScore, Scorer, TrainError, open_on_host,
};
use candle_core::{DType, Device};
use half::bf16;
use std::path::{Path, PathBuf};

/// Relative error (L2, or of a sum) allowed between two orders of the same sums in f32.
pub(super) const F32: f64 = 1e-5;
/// The same of what AdamW moved weights by: of a gradient near 0 it takes the sign.
pub(super) const F32_MOVES: f64 = 1e-3;
/// Relative error allowed between log-probabilities through bf16 activations, in two orders: a rounding changes a value by
/// half a unit of its 8-bit significand at most, 2^-9, and of some thirty at random a few are left.
const BF16_SCORES: f64 = 2.0 / 512.0;
/// How many times as far as the host's bf16 that of the device may be from f32. The host rounds activations alone; the
/// device rounds their gradients too, which doubles the squares of the errors.
const BF16_ERRORS: f64 = 2.0;

pub(super) fn recipe(more: &str) -> TrainingRecipe {
    parse_toml(&format!(
        "duration = {{ steps = 3 }}\n{more}\n[optimizer]\nlearning-rate = 2e-3\nbeta1 = 0.9\nbeta2 = 0.95\neps = 1e-8\n\
         weight-decay = 0.1\nmax-grad-norm = 1\n[schedule]\ndecay = 'cosine'\nwarmup-ratio = 0.1\nmin-ratio = 0.1\n"
    ))
    .unwrap()
}

pub(super) const LORA: &str = "lora = { rank = 3, alpha = 6.0, targets = ['q_proj', 'v_proj', 'o_proj', 'gate_proj', 'down_proj'] }";

pub(super) fn device(folder: &Path, recipe: &TrainingRecipe, mix: Option<f64>) -> Box<dyn Engine> {
    open_device(folder, recipe, mix, false).unwrap()
}

fn open_device(
    folder: &Path,
    recipe: &TrainingRecipe,
    mix: Option<f64>,
    recompute: bool,
) -> Result<Box<dyn Engine>, TrainError> {
    start(folder, recipe, mix, |start| {
        let start = EngineStart {
            recompute,
            ..*start
        };
        open_on_device(Box::new(emulated(1 << 24)), &start)
    })
}

pub(super) fn start<R>(
    folder: &Path,
    recipe: &TrainingRecipe,
    mix: Option<f64>,
    open: impl FnOnce(&EngineStart<'_>) -> R,
) -> R {
    open(&EngineStart {
        source: folder,
        weights: None,
        config: &DecoderConfig::from_file(folder).unwrap(),
        recipe,
        reference: mix.map(|mix| parse_toml(&format!("every-steps = 1\nmix = {mix:?}")).unwrap()),
        seed: &SeedTree::root(7),
        recompute: false,
        positions: 40,
    })
}

pub(super) fn host(folder: &Path, recipe: &TrainingRecipe, mix: Option<f64>) -> Box<dyn Engine> {
    start(folder, recipe, mix, open_on_host).unwrap()
}

/// Documents of which some tokens count, one of them longer than the windows of some families.
pub(super) fn documents() -> TokenBatch {
    let mut batch = TokenBatch::new();
    batch.push_segment("a", &ids(1, 13), |i| i > 3, 0, 0);
    batch.push_segment("b", &ids(2, 5), |i| i != 2, 2, 0);
    batch.push_segment("c", &ids(3, 1), |_| true, 0, 0);
    batch
}

/// Two pairs: both replies of each continue one prompt.
pub(super) fn pairs() -> TokenBatch {
    let mut batch = TokenBatch::new();
    for pair in 0..2 {
        let prompt = batch.segments();
        batch.push_segment("p", &ids(pair, 9), |_| false, 0, 0);
        batch.push_suffix("p", prompt, &ids(pair + 5, 4));
        batch.push_suffix("p", prompt, &ids(pair + 9, 3));
    }
    batch
}

/// A weight of each segment that depends on what it scored.
pub(super) fn weigh(scores: &[ReplyScore]) -> Vec<f64> {
    let weight = |(s, score): (usize, &ReplyScore)| 0.02 * score.logp * [0.0, -1.0, 0.7][s % 3];
    scores.iter().enumerate().map(weight).collect()
}

/// The passes of a step: by summed log-likelihood and by weights.
fn passes(engine: &mut dyn Engine) -> Vec<f64> {
    let nll = engine.nll(&documents(), 1.0 / 13.0).unwrap();
    let mut found = vec![nll.logp];
    let mut weigh = |scores: &[ReplyScore]| {
        found.extend(scores.iter().filter(|s| s.tokens > 0).map(|s| s.logp));
        Ok(weigh(scores))
    };
    engine.weighted(&pairs(), &mut weigh).unwrap();
    found
}

pub(super) fn gradients(engine: &mut dyn Engine) -> Vec<f64> {
    let mut all = Vec::new();
    let mut take = |numbers: &[f32]| all.extend(numbers.iter().copied().map(f64::from));
    engine.take_gradients(&mut take).unwrap();
    all
}

fn steps(engine: &mut dyn Engine, steps: std::ops::Range<u64>) {
    for step in steps {
        passes(engine);
        let update = engine.update(step, 2e-3, 1.0).unwrap();
        assert_eq!(update.not_finite, None);
    }
}

pub(super) fn bytes(engine: &dyn Engine, part: Part) -> Vec<u8> {
    let mut all = Vec::new();
    let mut take = |bytes: &[u8]| {
        all.extend_from_slice(bytes);
        Ok(())
    };
    engine.visit(part, &mut take).unwrap();
    assert_eq!(all.len(), engine.arrays(part).bytes(), "{part:?}");
    all
}

pub(super) fn fill(engine: &mut dyn Engine, part: Part, from: &[u8]) {
    let mut left = from;
    let mut give = |into: &mut [u8]| {
        let (now, rest) = left.split_at(into.len());
        into.copy_from_slice(now);
        left = rest;
        Ok(())
    };
    engine.fill(part, &mut give).unwrap();
    assert!(left.is_empty(), "{part:?}");
}

/// The trained model in f32.
pub(super) fn model(engine: &dyn Engine) -> Vec<f64> {
    let bytes = bytes(engine, Part::Model(FloatFormat::F32));
    let numbers = bytes.as_chunks::<4>().0.iter();
    numbers.map(|b| f64::from(f32::from_le_bytes(*b))).collect()
}

pub(super) fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |x: f64| x * x;
    let apart: f64 = got.iter().zip(want).map(|(a, b)| square(a - b)).sum();
    let size: f64 = want.iter().copied().map(square).sum();
    assert!(size > 0.0, "nothing to compare with");
    (apart / size).sqrt()
}

pub(super) fn moved(engine: &dyn Engine, before: &[f64]) -> Vec<f64> {
    model(engine)
        .iter()
        .zip(before)
        .map(|(a, b)| a - b)
        .collect()
}

pub(super) fn close(what: &str, got: &[f64], want: &[f64], most: f64) {
    let error = distance(got, want);
    assert!(
        error <= most,
        "{what}: {error:.2e} apart, {most:.1e} allowed"
    );
}

/// Log-probabilities of the documents with targets.
pub(super) fn logps(scorer: &mut dyn Scorer) -> Vec<f64> {
    let scores = scorer.score(&documents()).unwrap();
    scores.iter().take(2).map(|s| s.logp).collect()
}

/// Both engines from the same start: what a pass scores, its gradients, and the model after three steps.
fn agree(name: &str, recipe: &TrainingRecipe) {
    let folder = family(name);
    let (mut got, mut want) = (device(&folder, recipe, None), host(&folder, recipe, None));
    let start = model(&*want);
    assert_eq!(model(&*got), start, "{name}");
    let (scored, expected) = (passes(&mut *got), passes(&mut *want));
    assert_eq!(expected.len(), 5);
    close(&format!("{name}: scores"), &scored, &expected, F32);
    let both = (gradients(&mut *got), gradients(&mut *want));
    close(&format!("{name}: gradients"), &both.0, &both.1, F32);
    steps(&mut *got, 1..4);
    steps(&mut *want, 1..4);
    let both = (moved(&*got, &start), moved(&*want, &start));
    close(&format!("{name}: moves"), &both.0, &both.1, F32_MOVES);
    close(
        &format!("{name}: weights"),
        &model(&*got),
        &model(&*want),
        F32,
    );
    let both = (
        logps(&mut *got.written().unwrap()),
        logps(&mut *want.written().unwrap()),
    );
    close(&format!("{name}: written"), &both.0, &both.1, F32);
}

/// The same in bf16, by the distances of both from f32 on the host.
fn agree_in_bf16(name: &str, folder: &Path, more: &str) {
    let in_precision = |precision| recipe(&format!("precision = '{precision}'\n{more}"));
    let (short, wide) = (in_precision("bf16"), in_precision("f32"));
    let mut got = device(folder, &short, None);
    let mut want = host(folder, &short, None);
    let mut exact = host(folder, &wide, None);
    if short.lora.is_none() {
        // From the weights that the others round to.
        let halves = bytes(&*want, Part::Weights);
        let halves = halves.as_chunks::<2>().0.iter();
        let widened = halves.flat_map(|&[low, high]| [0, 0, low, high]);
        fill(&mut *exact, Part::Weights, &widened.collect::<Vec<u8>>());
    }
    let near = |what: &str, got: &[f64], want: &[f64], exact: &[f64]| {
        let (error, least) = (distance(got, exact), distance(want, exact));
        let most = BF16_ERRORS * least;
        assert!(least > 1e-4, "{name}: nothing was rounded");
        assert!(
            error <= most,
            "{name}: {what} are {error:.2e} off, {most:.2e} allowed"
        );
    };
    let starts = [&got, &want, &exact].map(|engine| model(&**engine));
    let scored = [&mut got, &mut want].map(|engine| passes(&mut **engine));
    passes(&mut *exact);
    close(
        &format!("{name}: scores"),
        &scored[0],
        &scored[1],
        BF16_SCORES,
    );
    let [a, b, c] = [&mut got, &mut want, &mut exact].map(|engine| gradients(&mut **engine));
    near("gradients", &a, &b, &c);
    for engine in [&mut got, &mut want, &mut exact] {
        steps(&mut **engine, 1..4);
    }
    let [a, b, c] = [(&got, 0), (&want, 1), (&exact, 2)].map(|(e, i)| moved(&**e, &starts[i]));
    near("moves", &a, &b, &c);
    let own = logps(&mut *got);
    close(
        &format!("{name}: written"),
        &logps(&mut *got.written().unwrap()),
        &own,
        BF16_SCORES,
    );
}

#[test]
fn every_family_trains_as_on_the_host() {
    for name in FAMILIES {
        agree(name, &recipe("precision = 'f32'"));
    }
}

#[test]
fn every_family_trains_in_bf16_as_on_the_host() {
    for name in FAMILIES {
        agree_in_bf16(name, &family(name), "");
    }
}

#[test]
fn adapters_train_as_on_the_host() {
    for name in ["llama-bias", "gemma2"] {
        agree(name, &recipe(&format!("precision = 'f32'\n{LORA}")));
        agree_in_bf16(name, &family(name), LORA);
    }
}

#[test]
fn of_the_weights_under_adapters_only_rounded_ones_are_read_again() {
    for (precision, again) in [("f32", false), ("bf16", true)] {
        let dir = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            crate::base::fs::copy(&family("gemma").join(file), &dir.path().join(file)).unwrap();
        }
        let recipe = recipe(&format!("precision = '{precision}'\n{LORA}"));
        let engine = device(dir.path(), &recipe, None);
        std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        let part = Part::Model(FloatFormat::F32);
        let visited = engine.visit(part, &mut |_: &[u8]| Ok(()));
        assert_eq!(visited.is_err(), again, "{precision}");
    }
}

#[test]
fn rows_of_the_embedding_that_do_not_learn_count_nowhere_and_keep_their_bits() {
    for name in ["llama-gqa", "gemma"] {
        let recipe = recipe("precision = 'f32'\ntrainable-embeddings = { from = 40 }");
        agree(name, &recipe);
        let mut engine = device(&family(name), &recipe, None);
        let rows = 40 * 32 * 4;
        let before = bytes(&*engine, Part::Weights);
        steps(&mut *engine, 1..3);
        let after = bytes(&*engine, Part::Weights);
        let arrays = engine.arrays(Part::Weights);
        let in_front = arrays.shapes.range(..EMBEDDING.to_owned());
        let at: usize = in_front.map(|(_, shape)| arrays.bytes_of(shape)).sum();
        assert_eq!(before[at..at + rows], after[at..at + rows]);
        assert_ne!(
            before[at + rows..at + 2 * rows],
            after[at + rows..at + 2 * rows]
        );
    }
}

/// Everything that a state holds.
pub(super) fn state(engine: &dyn Engine) -> Vec<(Part, Vec<u8>)> {
    let parts = [Part::Weights, Part::Optimizer, Part::Reference];
    let held = parts.into_iter().filter(|part| engine.holds(*part));
    held.map(|part| (part, bytes(engine, part))).collect()
}

#[test]
fn a_training_goes_on_from_its_arrays_with_the_same_bits() {
    let cases = [
        ("qwen3", "precision = 'bf16'", None),
        ("gemma2", "precision = 'f32'", Some(0.6)),
        ("llama-gqa", "precision = 'bf16'", Some(0.6)),
        ("llama-gqa", "precision = 'bf16'", Some(1.0)),
    ];
    let with_adapters = format!("precision = 'bf16'\n{LORA}");
    let cases = cases
        .into_iter()
        .chain([("mistral", with_adapters.as_str(), Some(0.6))]);
    for (name, more, mix) in cases {
        let recipe = recipe(more);
        let open = || device(&family(name), &recipe, mix);
        let advance = |engine: &mut dyn Engine, range: std::ops::Range<u64>| {
            for step in range {
                steps(engine, step..step + 1);
                if mix.is_some() {
                    engine.move_reference().unwrap();
                }
            }
        };
        let mut straight = open();
        advance(&mut *straight, 1..4);
        let mut first = open();
        advance(&mut *first, 1..3);
        let mut second = open();
        for (part, bytes) in state(&*first) {
            fill(&mut *second, part, &bytes);
        }
        advance(&mut *second, 3..4);
        assert!(state(&*second) == state(&*straight), "{name}, {more}");
        let whole = |engine: &dyn Engine| bytes(engine, Part::Model(FloatFormat::Bf16));
        assert!(whole(&*second) == whole(&*straight), "{name}, {more}");
    }
}

#[test]
fn a_state_of_the_host_goes_on_here_and_back() {
    let plain = recipe("precision = 'f32'");
    let folder = family("qwen2");
    let (mut there, mut here) = (
        host(&folder, &plain, Some(0.5)),
        device(&folder, &plain, Some(0.5)),
    );
    steps(&mut *there, 1..3);
    there.move_reference().unwrap();
    for (part, bytes) in state(&*there) {
        assert_eq!(here.arrays(part), there.arrays(part));
        fill(&mut *here, part, &bytes);
    }
    assert!(state(&*here) == state(&*there));
    let mut back = host(&folder, &plain, Some(0.5));
    for (part, bytes) in state(&*here) {
        fill(&mut *back, part, &bytes);
    }
    steps(&mut *there, 3..4);
    steps(&mut *back, 3..4);
    assert!(state(&*back) == state(&*there));
    for precision in ["f32", "bf16"] {
        let recipe = recipe(&format!("precision = '{precision}'\n{LORA}"));
        for recipe in [
            recipe.clone(),
            TrainingRecipe {
                lora: None,
                ..recipe
            },
        ] {
            let (there, here) = (
                host(&folder, &recipe, Some(1.0)),
                device(&folder, &recipe, Some(1.0)),
            );
            let parts = [
                Part::Weights,
                Part::Optimizer,
                Part::Reference,
                Part::Model(FloatFormat::F16),
            ];
            for part in parts {
                assert_eq!(
                    here.arrays(part),
                    there.arrays(part),
                    "{precision}, {part:?}"
                );
                assert_eq!(here.holds(part), there.holds(part), "{precision}, {part:?}");
            }
            assert!(bytes(&*here, Part::Weights) == bytes(&*there, Part::Weights));
            let model = Part::Model(FloatFormat::F16);
            assert!(bytes(&*here, model) == bytes(&*there, model));
        }
    }
}

#[test]
fn a_reference_moves_as_on_the_host() {
    for (mix, more) in [(0.3, ""), (1.0, ""), (0.3, LORA)] {
        let recipe = recipe(&format!("precision = 'f32'\n{more}"));
        let folder = family("gemma");
        let (mut got, mut want) = (
            device(&folder, &recipe, Some(mix)),
            host(&folder, &recipe, Some(mix)),
        );
        assert_eq!(got.holds(Part::Reference), want.holds(Part::Reference));
        let referred = |engine: &mut dyn Engine| logps(&mut *engine.reference().unwrap());
        for step in 1..3 {
            for engine in [&mut got, &mut want] {
                steps(&mut **engine, step..step + 1);
                engine.move_reference().unwrap();
            }
            let error = distance(&referred(&mut *got), &referred(&mut *want));
            assert!(error < F32, "{mix}: {error:e}");
        }
        // One that is replaced whole is the model, others come after it.
        let behind = distance(&referred(&mut *got), &logps(&mut *got));
        assert_eq!(behind > F32, mix < 1.0, "{mix}: {behind:e}");
    }
    let mut none = device(&family("gemma"), &recipe("precision = 'f32'"), None);
    assert!(none.reference().is_err() && none.move_reference().is_err());
}

#[test]
fn a_gradient_that_is_not_finite_is_named_and_changes_nothing() {
    let recipe = recipe("precision = 'f32'");
    let mut engine = device(&family("llama-gqa"), &recipe, None);
    let mut weights = bytes(&*engine, Part::Weights);
    let end = weights.len() - 4;
    weights[end..].copy_from_slice(&f32::INFINITY.to_le_bytes()); // the last norm
    fill(&mut *engine, Part::Weights, &weights);
    engine.nll(&documents(), 1.0).unwrap();
    let update = engine.update(1, 1e-3, 1.0).unwrap();
    assert_eq!(update.not_finite.as_deref(), Some("lm_head.weight"));
    assert!(bytes(&*engine, Part::Weights) == weights);
    // It is forgotten.
    assert!(gradients(&mut *engine).iter().all(|&g| g.abs() < 1e-30));
}

#[test]
fn what_does_not_fit_is_an_error_that_says_so() {
    let recipe = recipe("precision = 'f32'");
    let folder = family("llama-gqa");
    let mut engine = device(&folder, &recipe, None);
    let mut batch = documents();
    batch.tokens[3] = 96;
    let error = engine.nll(&batch, 1.0).unwrap_err().to_string();
    assert_eq!(error, "token 96 of 96");
    let config = DecoderConfig::from_file(&folder).unwrap();
    let small = Box::new(emulated(1000));
    let error = DeviceModel::<f32>::open(small, &folder, &config);
    let error = error.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("out of device memory"), "{error}");
}

#[test]
fn a_scorer_scores_as_the_engine() {
    let folder = family("mistral");
    let config = DecoderConfig::from_file(&folder).unwrap();
    let gpu = || Box::new(emulated(1 << 24));
    let scorers: [(&str, Box<dyn Scorer>); 2] = [
        (
            "f32",
            Box::new(DeviceModel::<f32>::open(gpu(), &folder, &config).unwrap()),
        ),
        (
            "bf16",
            Box::new(DeviceModel::<bf16>::open(gpu(), &folder, &config).unwrap()),
        ),
    ];
    for (text, mut scorer) in scorers {
        let recipe = recipe(&format!("precision = '{text}'"));
        let mut engine = device(&folder, &recipe, None);
        for batch in [documents(), pairs(), TokenBatch::new()] {
            assert_eq!(scorer.score(&batch).unwrap(), engine.score(&batch).unwrap());
        }
    }
}

#[test]
fn gradients_of_a_learner_are_those_of_the_host_and_of_the_engine() {
    let folder = family("gemma2");
    let config = DecoderConfig::from_file(&folder).unwrap();
    let taken = |learner: &mut dyn Learner| {
        learner.nll(&documents(), 0.5).unwrap();
        learner
            .weighted(&pairs(), &mut |scores| Ok(weigh(scores)))
            .unwrap();
        let mut all = Vec::new();
        let mut take = |numbers: &[f32]| all.extend(numbers.iter().copied().map(f64::from));
        learner.take_gradients(&mut take).unwrap();
        all
    };
    for (precision, text) in [(Precision::F32, "f32"), (Precision::Bf16, "bf16")] {
        let gpu = Box::new(emulated(1 << 24));
        let mut learner = open_learner_on_device(gpu, &folder, &config, precision).unwrap();
        let got = taken(&mut *learner);
        assert_eq!(taken(&mut *learner), got, "what was taken is forgotten");
        let recipe = recipe(&format!("precision = '{text}'"));
        assert_eq!(taken(&mut *device(&folder, &recipe, None)), got, "{text}");
        if precision == Precision::F32 {
            let params = Params::load(&folder, &config, &Device::Cpu, DType::F32).unwrap();
            let decoder = Decoder::trainable(&config, &params).unwrap();
            let mut host = HostLearner::new(decoder, params.vars().clone());
            close("gradients", &got, &taken(&mut host), F32);
        }
    }
}

#[test]
fn gradients_of_weights_that_are_filled_are_forgotten() {
    let recipe = recipe("precision = 'f32'");
    let folder = family("llama-gqa");
    for mut engine in [device(&folder, &recipe, None), host(&folder, &recipe, None)] {
        let weights = bytes(&*engine, Part::Weights);
        engine.nll(&documents(), 1.0).unwrap();
        fill(&mut *engine, Part::Weights, &weights);
        assert!(gradients(&mut *engine).iter().all(|&g| g.abs() < 1e-30));
    }
}

/// A random model whose heads are as wide as tensor cores take them.
fn with_wide_heads(dir: &Path) -> PathBuf {
    let text = r#"{"model_type": "gemma2", "vocab_size": 96, "hidden_size": 40, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64,
        "sliding_window": 5, "query_pre_attn_scalar": 64}"#;
    let (from, to) = (dir.join("from"), dir.join("to"));
    std::fs::create_dir(&from).unwrap();
    crate::base::write_atomic(&from.join("config.json"), text.as_bytes()).unwrap();
    let config = DecoderConfig::from_file(&from).unwrap();
    let params = FrozenParams::random(&config, &mut SeedTree::root(1).rng()).unwrap();
    save_checkpoint(&to, &Companions::read(&from).unwrap(), &params).unwrap();
    to
}

#[test]
fn heads_for_tensor_cores_and_layers_computed_again_train_as_on_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let folder = with_wide_heads(dir.path());
    let recipe = recipe("precision = 'bf16'");
    agree_in_bf16("wide heads", &folder, "");
    let run = |recompute| {
        let mut engine = open_device(&folder, &recipe, None, recompute).unwrap();
        steps(&mut *engine, 1..3);
        bytes(&*engine, Part::Model(FloatFormat::F32))
    };
    assert!(run(false) == run(true));
}

#[test]
fn a_training_takes_the_memory_that_was_planned() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
    let config = DecoderConfig::from_file(&folder).unwrap();
    let bf16 = "precision = 'bf16'";
    let cases = [
        (recipe("precision = 'f32'"), None, false),
        (recipe("precision = 'f32'"), None, true),
        (recipe(bf16), None, false),
        (recipe(bf16), Some(0.5), false),
        (recipe(bf16), Some(1.0), true),
        (recipe(&format!("{bf16}\n{LORA}")), Some(1.0), false),
        (recipe(&format!("precision = 'f32'\n{LORA}")), None, false),
    ];
    for (recipe, mix, recompute) in cases {
        let shared = SharedGpu::new(Box::new(emulated(1 << 26)));
        let mut engine = start(&folder, &recipe, mix, |start| {
            let start = EngineStart {
                recompute,
                positions: 300,
                ..*start
            };
            open_on_device(shared.lend(), &start).unwrap()
        });
        engine.nll(&documents(), 1.0).unwrap();
        engine.update(1, 1e-3, 1.0).unwrap();
        if mix.is_some() {
            engine.move_reference().unwrap();
        }
        bytes(&*engine, Part::Model(FloatFormat::F32));
        let learned = recipe
            .lora
            .as_ref()
            .map_or(Learned::All, LoraRecipe::learned);
        let planned = CardFootprint {
            bf16: recipe.precision == Precision::Bf16,
            learned: Some(&learned),
            positions: 300,
            kept_layers: if recompute { 1 } else { config.layers() },
            measured: false,
            reference: mix,
            state_on_host: false,
            ranks: 1,
        };
        let (planned, taken) = (planned.peak(&config), shared.memory().unwrap().most);
        let off = taken as f64 / planned as f64 - 1.0;
        assert!(off.abs() < 0.01, "{taken} and not {planned}: {recipe:?}");
    }
}

/// What a training leaves behind after some steps: state, written model, metrics of the updates; and the memory it took.
fn trained(recipe: &TrainingRecipe, memory: usize, mix: Option<f64>) -> (Vec<Vec<u8>>, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
    let shared = SharedGpu::new(Box::new(emulated(memory)));
    let mut left: Vec<Vec<u8>> = Vec::new();
    // In two lives: the second one reads the state of the first.
    for life in 0..2 {
        let mut engine = start(&folder, recipe, mix, |start| {
            let start = EngineStart {
                positions: 300,
                recompute: true,
                ..*start
            };
            open_on_device(shared.lend(), &start).unwrap()
        });
        for (part, kept) in [Part::Weights, Part::Optimizer].into_iter().zip(&left) {
            let mut rest: &[u8] = kept;
            engine
                .fill(part, &mut |to| {
                    let (now, later) = rest.split_at(to.len());
                    to.copy_from_slice(now);
                    rest = later;
                    Ok(())
                })
                .unwrap();
        }
        for step in 1..3 {
            engine.nll(&documents(), 1.0).unwrap();
            let found = engine.update(2 * life + step, 1e-3, 1.0).unwrap();
            assert!(found.norm > 0.0 && found.not_finite.is_none());
        }
        let parts = [
            Part::Weights,
            Part::Optimizer,
            Part::Model(FloatFormat::F32),
        ];
        left = parts.map(|part| bytes(&*engine, part)).to_vec();
    }
    (left, shared.memory().unwrap().most)
}

#[test]
fn an_optimizer_whose_state_lies_on_the_host_gives_the_same_bytes_in_less_memory() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
    let config = DecoderConfig::from_file(&folder).unwrap();
    for precision in ["precision = 'f32'", "precision = 'bf16'"] {
        let recipe = recipe(precision);
        let footprint = CardFootprint {
            bf16: recipe.precision == Precision::Bf16,
            learned: Some(&Learned::All),
            positions: 300,
            kept_layers: 1,
            measured: false,
            reference: None,
            state_on_host: false,
            ranks: 1,
        };
        let resident = footprint.peak(&config) as usize;
        let (want, most) = trained(&recipe, 1 << 26, None);
        assert!(100 * most >= 99 * resident, "{most} of {resident}");
        // So much that the state does not fit any more.
        let (got, most) = trained(&recipe, resident, None);
        assert!(got == want, "{precision}");
        let streamed = CardFootprint {
            state_on_host: true,
            ..footprint
        };
        let streamed = streamed.peak(&config);
        let off = most as f64 / streamed as f64 - 1.0;
        assert!(off.abs() < 0.01, "{most} and not {streamed}");
    }
}

/// A device of so many bytes that arrays may take, and what else is left to batches.
fn with_room(arrays: u64) -> SharedGpu {
    let memory = (arrays * 32).div_ceil(31) as usize;
    SharedGpu::new(Box::new(emulated(memory)))
}

/// What a training with a reference that moves leaves behind, and the most memory that it took.
fn with_reference(recipe: &TrainingRecipe, shared: &SharedGpu) -> (Vec<Vec<u8>>, u64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
    let mut engine = start(&folder, recipe, Some(0.5), |start| {
        let start = EngineStart {
            positions: 300,
            ..*start
        };
        open_on_device(shared.lend(), &start).unwrap()
    });
    engine.nll(&documents(), 1.0).unwrap();
    engine.update(1, 1e-3, 1.0).unwrap();
    engine.move_reference().unwrap();
    engine
        .reference()
        .unwrap()
        .token_logps(&documents())
        .unwrap();
    let parts = [Part::Reference, Part::Model(FloatFormat::F32)];
    let left = parts.map(|part| bytes(&*engine, part)).to_vec();
    (left, shared.memory().unwrap().most as u64)
}

#[test]
fn a_reference_that_moves_has_its_memory_before_passes_choose_how_many_layers_they_keep() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
    let config = DecoderConfig::from_file(&folder).unwrap();
    for more in ["precision = 'bf16'", "precision = 'f32'"] {
        let recipe = recipe(more);
        let planned = |kept_layers| {
            let footprint = CardFootprint {
                bf16: recipe.precision == Precision::Bf16,
                learned: Some(&Learned::All),
                positions: 300,
                kept_layers,
                measured: false,
                reference: Some(0.5),
                state_on_host: false,
                ranks: 1,
            };
            footprint.peak(&config)
        };
        let (want, most) = with_reference(&recipe, &with_room(planned(config.layers()) * 2));
        assert!(100 * most >= 99 * planned(config.layers()), "{most}");
        // Room for two layers and no third.
        let room = planned(2) + (planned(3) - planned(2)) / 2;
        let (got, most) = with_reference(&recipe, &with_room(room));
        assert!(got == want, "{more}");
        assert!(most < planned(3) && 100 * most >= 99 * planned(2), "{most}");
    }
}

#[test]
fn passes_leave_what_a_model_under_adapters_takes_when_it_is_measured_and_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
    let config = DecoderConfig::from_file(&folder).unwrap();
    let recipe = recipe(&format!("precision = 'bf16'\n{LORA}"));
    let learned = recipe
        .lora
        .as_ref()
        .map_or(Learned::All, LoraRecipe::learned);
    let planned = |kept_layers| {
        let footprint = CardFootprint {
            bf16: true,
            learned: Some(&learned),
            positions: 300,
            kept_layers,
            measured: true,
            reference: None,
            state_on_host: false,
            ranks: 1,
        };
        footprint.peak(&config)
    };
    let run = |shared: &SharedGpu| {
        let mut engine = start(&folder, &recipe, None, |start| {
            let start = EngineStart {
                positions: 300,
                ..*start
            };
            open_on_device(shared.lend(), &start).unwrap()
        });
        engine.nll(&documents(), 1.0).unwrap();
        engine.update(1, 1e-3, 1.0).unwrap();
        let scores = engine.written().unwrap().token_logps(&documents()).unwrap();
        let left = bytes(&*engine, Part::Model(FloatFormat::F32));
        (scores, left, shared.memory().unwrap().most as u64)
    };
    let (scores, left, _) = run(&with_room(planned(config.layers()) * 2));
    // So little that the third layer would take the place of the matrix in which sums are made.
    let room = planned(3) - 4 * (config.vocab_size * config.hidden_size) as u64 + 4096;
    let (again, written, most) = run(&with_room(room));
    assert!(scores == again && left == written);
    assert!(most < planned(3), "{most} of {}", planned(3));
}
