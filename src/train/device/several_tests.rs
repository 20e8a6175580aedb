//! Several emulated devices at one training: the same bits on however many, and the host's numbers.

use crate::arch::{CardFootprint, DecoderConfig, FloatFormat, Learned};
use crate::config::spec::{Precision, TrainingRecipe};
use crate::data::TokenBatch;
use crate::gpu::SharedGpu;
use crate::gpu::testing::{emulated, family, ids};
use crate::train::device::several::{Ranks, open_on_devices};
use crate::train::device::tests::{
    F32, F32_MOVES, LORA, bytes, close, device, documents, fill, gradients, host, logps, model,
    moved, pairs, recipe, start, state, weigh,
};
use crate::train::{Engine, EngineStart, Nll, Part, ReplyScore, TrainError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So many devices, of these bytes each.
fn ranks(memory: &[usize]) -> Ranks {
    let memory = memory.to_vec();
    Ranks {
        count: memory.len(),
        open: Arc::new(move |rank| Ok(SharedGpu::new(Box::new(emulated(memory[rank]))))),
        most: Arc::default(),
    }
}

fn open(folder: &Path, recipe: &TrainingRecipe, mix: Option<f64>, count: usize) -> Box<dyn Engine> {
    let ranks = ranks(&vec![1 << 24; count]);
    start(folder, recipe, mix, |start| open_on_devices(&ranks, start)).unwrap()
}

/// Five batches of a step, of which four devices have one left over.
fn texts() -> Vec<TokenBatch> {
    let text = |seed: u32| {
        let mut batch = TokenBatch::new();
        batch.push_segment("x", &ids(seed, 7 + seed), |i| i > 1, 0, 0);
        batch
    };
    std::iter::once(documents())
        .chain((1..5).map(text))
        .collect()
}

/// What the passes of a step found, in the order of the batches.
type Found = (Vec<Nll>, Vec<(usize, Vec<ReplyScore>)>);

fn passes(engine: &mut dyn Engine) -> Found {
    let found = engine.nll_of(&texts(), 1.0 / 40.0).unwrap();
    let (batch, mut seen) = (pairs(), Vec::new());
    let mut weigh_each = |at: usize, scores: &[ReplyScore]| {
        seen.push((at, scores.to_vec()));
        Ok(weigh(scores))
    };
    engine
        .weighted_of(&[&batch, &batch, &batch], &mut weigh_each)
        .unwrap();
    (found, seen)
}

/// Takes steps; what their passes found, and the norms of the gradients, bit by bit.
fn advance(engine: &mut dyn Engine, steps: std::ops::Range<u64>, moves: bool) -> Vec<(Found, u64)> {
    let step = |step| {
        let found = passes(engine);
        let update = engine.update(step, 2e-3, 1.0).unwrap();
        assert_eq!(update.not_finite, None);
        if moves {
            engine.move_reference().unwrap();
        }
        (found, update.norm.to_bits())
    };
    steps.map(step).collect()
}

/// Recipes, and shares of the policy in a reference that moves.
fn cases() -> Vec<(&'static str, TrainingRecipe, Option<f64>)> {
    let with_adapters = format!("precision = 'bf16'\n{LORA}");
    let some = "precision = 'f32'\ntrainable-embeddings = { from = 40 }";
    vec![
        ("qwen3", recipe("precision = 'bf16'"), None),
        ("gemma2", recipe("precision = 'f32'"), Some(0.6)),
        ("llama-bias", recipe(&with_adapters), Some(1.0)),
        ("gemma", recipe(some), None),
    ]
}

#[test]
fn a_training_is_the_same_bits_on_one_two_and_four_devices() {
    for (name, recipe, mix) in cases() {
        let run = |count| {
            let mut engine = open(&family(name), &recipe, mix, count);
            passes(&mut *engine);
            let gradients = gradients(&mut *engine);
            let found = advance(&mut *engine, 1..3, mix.is_some());
            let whole = bytes(&*engine, Part::Model(FloatFormat::F32));
            let scored = logps(&mut *engine.written().unwrap());
            let referred = mix.map(|_| logps(&mut *engine.reference().unwrap()));
            (gradients, found, state(&*engine), whole, scored, referred)
        };
        let one = run(1);
        for count in [2, 4] {
            let several = run(count);
            assert!(several.0 == one.0, "{name}: gradients on {count}");
            assert!(several.1 == one.1, "{name}: scores on {count}");
            assert!(several.2 == one.2, "{name}: state on {count}");
            assert!(several.3 == one.3, "{name}: model on {count}");
            assert!(
                several.4 == one.4 && several.5 == one.5,
                "{name} on {count}"
            );
        }
    }
}

#[test]
fn several_devices_train_as_the_host_does() {
    for (name, recipe, mix) in cases() {
        let folder = family(name);
        let mut got = open(&folder, &recipe, mix, 2);
        // In bf16 the numbers are those of one device up to the order of sums in f32.
        let alike = recipe.precision == Precision::F32;
        let mut want = if alike {
            host(&folder, &recipe, mix)
        } else {
            device(&folder, &recipe, mix)
        };
        let start = model(&*want);
        assert_eq!(model(&*got), start, "{name}");
        let (found, expected) = (passes(&mut *got), passes(&mut *want));
        let sums = |found: &[Nll]| found.iter().map(|nll| nll.logp).collect::<Vec<_>>();
        close(name, &sums(&found.0), &sums(&expected.0), F32);
        let both = (gradients(&mut *got), gradients(&mut *want));
        close(&format!("{name}: gradients"), &both.0, &both.1, F32);
        let steps = if alike { 1..4 } else { 1..2 };
        advance(&mut *got, steps.clone(), false);
        advance(&mut *want, steps, false);
        let both = (moved(&*got, &start), moved(&*want, &start));
        close(&format!("{name}: moves"), &both.0, &both.1, F32_MOVES);
    }
}

#[test]
fn a_training_goes_on_with_the_same_bits_on_another_number_of_devices() {
    for (name, recipe, mix) in cases() {
        let folder = family(name);
        let mut straight = open(&folder, &recipe, mix, 1);
        advance(&mut *straight, 1..4, mix.is_some());
        let mut first = open(&folder, &recipe, mix, 2);
        advance(&mut *first, 1..3, mix.is_some());
        let mut second = open(&folder, &recipe, mix, 4);
        for (part, bytes) in state(&*first) {
            assert_eq!(second.arrays(part), first.arrays(part));
            fill(&mut *second, part, &bytes);
        }
        advance(&mut *second, 3..4, mix.is_some());
        assert!(state(&*second) == state(&*straight), "{name}");
        // And on one alone, whose own steps differ by rounding.
        let mut alone = device(&folder, &recipe, mix);
        for (part, bytes) in state(&*first) {
            fill(&mut *alone, part, &bytes);
        }
        assert!(state(&*alone) == state(&*first), "{name}");
    }
}

/// What two steps on so many devices of so many bytes leave, and the most that one of them held.
fn left_by(recipe: &TrainingRecipe, count: usize, memory: usize) -> (Vec<Vec<u8>>, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
    let ranks = ranks(&vec![memory; count]);
    let mut engine = start(&folder, recipe, None, |start| {
        let start = EngineStart {
            positions: 300,
            recompute: true,
            ..*start
        };
        open_on_devices(&ranks, &start).unwrap()
    });
    advance(&mut *engine, 1..3, false);
    let parts = [
        Part::Weights,
        Part::Optimizer,
        Part::Model(FloatFormat::F32),
    ];
    let left = parts.map(|part| bytes(&*engine, part)).to_vec();
    (left, ranks.most.load(Ordering::Relaxed) as usize)
}

#[test]
fn each_of_several_devices_takes_what_was_planned_and_less_where_the_host_holds_its_share() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
    let config = DecoderConfig::from_file(&folder).unwrap();
    for precision in ["precision = 'f32'", "precision = 'bf16'"] {
        let recipe = recipe(precision);
        let planned = |ranks, state_on_host| {
            let footprint = CardFootprint {
                bf16: recipe.precision == Precision::Bf16,
                learned: Some(&Learned::All),
                positions: 300,
                kept_layers: 1,
                measured: false,
                reference: None,
                state_on_host,
                ranks,
            };
            footprint.peak(&config) as usize
        };
        let near = |most: usize, planned: usize| {
            let off = most as f64 / planned as f64 - 1.0;
            assert!(off.abs() < 0.01, "{precision}: {most} and not {planned}");
        };
        let (want, most) = left_by(&recipe, 4, 1 << 26);
        near(most, planned(4, false));
        let (two, most) = left_by(&recipe, 2, 1 << 26);
        near(most, planned(2, false));
        // So much that no state fits.
        let (streamed, most) = left_by(&recipe, 2, planned(2, false));
        near(most, planned(2, true));
        assert!(two == want && streamed == want, "{precision}");
    }
}

#[test]
fn a_device_that_fails_ends_the_training_with_its_own_error() {
    let recipe = recipe("precision = 'f32'");
    let folder = family("llama-gqa");
    let opened = |memory: &[usize]| {
        let ranks = ranks(memory);
        start(&folder, &recipe, None, |start| {
            open_on_devices(&ranks, start)
        })
    };
    for memory in [[1000, 1 << 24, 1 << 24], [1 << 24, 1 << 24, 200_000]] {
        let error = opened(&memory).err().map(|e| e.to_string());
        let error = error.unwrap_or_default();
        assert!(error.contains("out of device memory"), "{error}");
    }
    // The second of two has a batch that cannot be; the first waits for its gradients.
    let mut engine = opened(&[1 << 24; 2]).unwrap();
    let mut batches = texts();
    batches[1].tokens[3] = 96;
    let error = engine.nll_of(&batches, 1.0).unwrap_err().to_string();
    assert_eq!(error, "token 96 of 96");
    assert!(engine.update(1, 1e-3, 1.0).is_err());
    // Who weighs fails.
    let mut engine = opened(&[1 << 24; 2]).unwrap();
    let batch = pairs();
    let refuse = |_: usize, _: &[ReplyScore]| Err(TrainError::Stopped);
    let refused = engine.weighted_of(&[&batch, &batch], &mut { refuse });
    assert!(matches!(refused, Err(TrainError::Stopped)));
    // A refusal changes nothing.
    let mut engine = opened(&[1 << 24; 2]).unwrap();
    assert!(engine.reference().is_err());
    advance(&mut *engine, 1..2, false);
}

#[test]
fn a_gradient_that_is_not_finite_is_named_by_whichever_device_has_it() {
    let recipe = recipe("precision = 'f32'");
    for count in [1, 2, 4] {
        let mut engine = open(&family("llama-gqa"), &recipe, None, count);
        let mut weights = bytes(&*engine, Part::Weights);
        let end = weights.len() - 4;
        weights[end..].copy_from_slice(&f32::INFINITY.to_le_bytes()); // the last norm
        fill(&mut *engine, Part::Weights, &weights);
        engine.nll_of(&texts(), 1.0).unwrap();
        let update = engine.update(1, 1e-3, 1.0).unwrap();
        assert_eq!(update.not_finite.as_deref(), Some("lm_head.weight"));
        assert!(bytes(&*engine, Part::Weights) == weights, "{count}");
    }
}
