//! Rows of the embedding that learn, and references that move.

use super::tests::{
    OPTIMIZER, Script, backward, bits, dpo, engine, newest_state, sft, shipped, training,
    training_of,
};
use super::*;
use crate::arch::{DecoderConfig, EMBEDDING};
use crate::base::chain;
use crate::config::spec::{ReferenceUpdate, TrainableEmbeddings};
use crate::model::{FrozenParams, Params};
use candle_core::{DType, Var};
use std::collections::BTreeMap;
use std::path::Path;

const HEAD: &str = "lm_head.weight";

/// The shipped weights with an output head of its own, a copy of the embedding.
fn untied() -> (DecoderConfig, Params) {
    let (mut config, params) = shipped();
    config.tied = false;
    let copy = |(name, var): (&str, &Var)| (name.to_owned(), var.copy().unwrap());
    let mut tensors: BTreeMap<_, _> = params.iter().map(copy).collect();
    tensors.insert(HEAD.to_owned(), tensors[EMBEDDING].copy().unwrap());
    let frozen = FrozenParams::from_tensors(tensors);
    (config, Params::from_frozen(&frozen, DType::F32).unwrap())
}

fn rows(params: &Params, name: &str) -> Vec<Vec<u32>> {
    let rows = params.get(name).unwrap().to_vec2::<f32>().unwrap();
    let bits = |row: Vec<f32>| row.into_iter().map(f32::to_bits).collect();
    rows.into_iter().map(bits).collect()
}

// The optimiser decays weights, so that every row that may move does move.
#[test]
fn only_the_rows_that_learn_move_whether_the_head_is_tied_or_not() {
    for (tied, which) in [
        (true, TrainableEmbeddings::Below(110.try_into().unwrap())),
        (true, TrainableEmbeddings::From(400.try_into().unwrap())),
        (false, TrainableEmbeddings::Below(110.try_into().unwrap())),
        (false, TrainableEmbeddings::From(400.try_into().unwrap())),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (config, params) = if tied { shipped() } else { untied() };
        assert!(OPTIMIZER.weight_decay > 0.0.try_into().unwrap() && config.tied == tied);
        let before = rows(&params, EMBEDDING);
        let head = (!tied).then(|| rows(&params, HEAD));
        let mut engine = engine(&config, &params);
        engine.limit_embeddings(which).unwrap();
        let mut run = training_of(engine, 3, dir.path());
        run.run(&mut sft(&config, 3, 4096), &mut Script::default())
            .unwrap();
        let learns = which.rows(config.vocab_size);
        for (i, (old, new)) in before.iter().zip(rows(&params, EMBEDDING)).enumerate() {
            assert_eq!(*old != new, learns.contains(&i), "row {i}, {which:?}");
        }
        for (old, new) in head.iter().flatten().zip(rows_if(&params, tied)) {
            assert_ne!(*old, new, "a head of its own learns whole");
        }
    }
}

fn rows_if(params: &Params, tied: bool) -> Vec<Vec<u32>> {
    if tied { Vec::new() } else { rows(params, HEAD) }
}

#[test]
fn gradients_of_rows_that_do_not_learn_are_gone_before_the_norm_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (config, params) = shipped();
    let mut objective = sft(&config, 1, 4096);
    let mut engine = engine(&config, &params);
    let (_, gradients) = backward(&mut objective, &mut engine, 0);
    let norm = |gradients: &[f32]| {
        gradients
            .iter()
            .map(|&g| f64::from(g).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let whole = norm(&gradients);
    let mut at = 0;
    let mut limited = gradients;
    for (name, var) in params.iter() {
        if name == EMBEDDING {
            limited[at + 110 * config.hidden_size..at + var.elem_count()].fill(0.0);
        }
        at += var.elem_count();
    }
    let want = norm(&limited);
    assert!(want < 0.999 * whole, "{want} of {whole}");

    let mut script = Script::default();
    let below = TrainableEmbeddings::Below(110.try_into().unwrap());
    engine.limit_embeddings(below).unwrap();
    let mut run = training_of(engine, 1, dir.path());
    run.run(&mut objective, &mut script).unwrap();
    let got = script.metrics[&1]["grad_norm"];
    assert!((got - want).abs() < 1e-9 * want, "{got} {want}");
}

#[test]
fn a_limit_that_leaves_no_row_is_refused() {
    let (config, params) = shipped();
    let error = engine(&config, &params)
        .limit_embeddings(TrainableEmbeddings::From(512.try_into().unwrap()))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`trainable-embeddings` leaves none of the 512 rows of the embedding"
    );
}

/// A training whose reference moves, on another than the shipped objective.
fn moving(
    (config, params): (&DecoderConfig, &Params),
    (every_steps, mix): (u64, f64),
    work: &Path,
) -> (Training, DpoObjective) {
    let mut objective = dpo(config, params, 512);
    objective.moving = Some(ReferenceUpdate {
        every_steps: every_steps.try_into().unwrap(),
        mix: mix.try_into().unwrap(),
    });
    let mut engine = engine(config, params);
    engine.keep_reference(mix).unwrap();
    (training_of(engine, 8, work), objective)
}

type Course = (Vec<u32>, BTreeMap<u64, BTreeMap<String, f64>>);

/// Eight steps; weights and metrics.
fn course(work: &Path, update: Option<(u64, f64)>) -> Course {
    let (config, params) = shipped();
    let (mut run, mut objective) = match update {
        Some(update) => moving((&config, &params), update, work),
        None => (
            training(&config, &params, 8, work),
            dpo(&config, &params, 512),
        ),
    };
    let mut script = Script::default();
    run.run(&mut objective, &mut script).unwrap();
    (bits(&params), script.metrics)
}

#[test]
fn a_reference_that_never_moves_is_plain_dpo_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let plain = course(dir.path(), None);
    for mix in [1.0, 0.5] {
        assert!(course(dir.path(), Some((9, mix))) == plain, "mix {mix}");
    }
    assert!(course(dir.path(), Some((3, 0.5))).0 != plain.0);
}

#[test]
fn a_reference_that_is_replaced_after_every_step_leaves_no_margin_at_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let (_, metrics) = course(dir.path(), Some((1, 1.0)));
    for step in 1..=8 {
        let at = |key: &str| metrics[&step][key];
        assert!((at("loss") - 2.0f64.ln()).abs() < 1e-4, "step {step}");
        assert!(at("rewards/margins").abs() < 1e-4, "step {step}");
    }
    // Held-out measures stay relative to the stored reference, which the policy has left.
    let margins = |step: u64| metrics[&step]["eval_seen/rewards/margins"];
    assert!(
        margins(0).abs() < 1e-6 && margins(8) > 0.01,
        "{}",
        margins(8)
    );
}

// By hand: after the second step theta_ref = 0.25 theta_2 + 0.75 theta_0.
#[test]
fn a_soft_update_mixes_policy_and_reference() {
    let dir = tempfile::tempdir().unwrap();
    let (config, params) = shipped();
    let flat = |params: &Params, name: &str| {
        let var = params.get(name).unwrap().flatten_all().unwrap();
        var.to_vec1::<f32>().unwrap()
    };
    let start = flat(&params, EMBEDDING);
    let (mut run, mut objective) = moving((&config, &params), (2, 0.25), dir.path());
    let mut stop = Script {
        stop_after: Some(2),
        ..Script::default()
    };
    run.run(&mut objective, &mut stop).unwrap();
    let policy = flat(&params, EMBEDDING);
    let mut kept: Vec<f32> = Vec::new();
    let mut take = |bytes: &[u8]| {
        let values = bytes.as_chunks().0.iter();
        kept.extend(values.map(|&value| f32::from_le_bytes(value)));
        Ok(())
    };
    run.engine.visit(Part::Reference, &mut take).unwrap();
    // Tied to the head, the embedding is the first by name.
    assert_eq!(
        run.engine
            .arrays(Part::Reference)
            .shapes
            .keys()
            .next()
            .unwrap(),
        EMBEDDING
    );
    assert_ne!(policy, start);
    for ((got, new), old) in kept.iter().zip(&policy).zip(&start) {
        assert!((got - (0.25 * new + 0.75 * old)).abs() < 1e-7);
    }
}

#[test]
fn a_resumed_training_with_a_moving_reference_ends_with_the_same_bits() {
    for update in [(2, 0.5), (3, 1.0), (5, 1.0)] {
        let dir = tempfile::tempdir().unwrap();
        let works = [1, 2].map(|n| dir.path().join(n.to_string()));
        let want = course(&dir.path().join("straight"), Some(update));
        let (config, first) = shipped();
        let mut killed = Script {
            checkpoint_at: Some(4),
            die_after: Some(5),
            ..Script::default()
        };
        let (mut run, mut objective) = moving((&config, &first), update, &works[0]);
        assert!(run.run(&mut objective, &mut killed).is_err());

        let (config, second) = shipped();
        let (mut run, mut objective) = moving((&config, &second), update, &works[1]);
        let mut script = Script::default();
        let saved = newest_state(&works).unwrap();
        assert_eq!(saved.step(), 4);
        run.restore(&saved).unwrap();
        run.run(&mut objective, &mut script).unwrap();
        assert!(bits(&second) == want.0, "{update:?}: the weights differ");
        for step in 5..=8 {
            assert_eq!(
                script.metrics[&step], want.1[&step],
                "{update:?}, step {step}"
            );
        }
    }
}

#[test]
fn a_state_without_the_reference_that_is_kept_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (config, params) = shipped();
    let plain = training(&config, &params, 8, dir.path());
    plain.save(&mut Script::default()).unwrap();
    let saved = newest_state(&[dir.path().to_owned()]).unwrap();
    let (mut run, _) = moving((&config, &params), (2, 0.5), dir.path());
    let error = chain(&run.restore(&saved).unwrap_err());
    assert!(
        error.contains("objective.safetensors") && error.contains("No such file"),
        "{error}"
    );
    // One that is replaced whole is not kept before its first move.
    let (mut run, _) = moving((&config, &params), (2, 1.0), dir.path());
    run.restore(&saved).unwrap();
}
