//! However documents are laid out in rows and rows in micro-batches, the numbers are the same.

use crate::parity_engine::Model;
use crate::parity_support::{LAYOUT, SPLIT, check, distance, flat, golden, ids, mean_nll};
use lions::base::SeedTree;
use lions::config::spec::{BatchSize, Batching, Duration, LayoutRecipe, LossMask};
use lions::data::{SftPlan, SftStep, TokenBatch, TokenizedExample};
use lions::train::Gradients;
use std::collections::BTreeMap;

/// Eight real conversations: the SFT documents and two preferred replies of the golden files.
fn examples() -> Vec<TokenizedExample> {
    let example = |id: &str, tokens: Vec<u32>, prompt: usize| TokenizedExample {
        id: id.to_owned(),
        loss_mask: (0..tokens.len()).map(|i| i >= prompt).collect(),
        tokens,
        source: "golden".to_owned(),
    };
    let mut examples = Vec::new();
    for (id, d) in golden("model.json")["documents"].as_object().unwrap() {
        let prompt = ids(&d["loss_mask"]).iter().filter(|m| **m == 0).count();
        examples.push(example(id, ids(&d["tokens"]), prompt));
    }
    for (id, pair) in golden("dpo.json")["pairs"]
        .as_object()
        .unwrap()
        .iter()
        .take(2)
    {
        let prompt = ids(&pair["prompt"]);
        examples.push(example(
            id,
            [prompt.clone(), ids(&pair["chosen"])].concat(),
            prompt.len(),
        ));
    }
    assert_eq!(examples.len(), 8);
    examples
}

/// One step over all examples.
fn step(batching: Batching, max_seq_len: usize, loss_mask: LossMask) -> SftStep {
    let layout = LayoutRecipe {
        max_seq_len,
        batching,
        loss_mask,
        max_masked_fraction: None,
        batch: BatchSize::Rows(8),
    };
    let (duration, seed) = (Duration::Epochs(1.0), SeedTree::root(1));
    let plan = SftPlan::new(examples(), &layout, duration, &seed, 2).unwrap();
    assert_eq!(plan.steps(), 1);
    plan.step(0).unwrap()
}

/// The layouts to be compared. No window cuts a document: a token behind a cut has less to look at.
fn layouts(loss_mask: LossMask) -> [(&'static str, SftStep); 3] {
    let padded = step(Batching::Padded, 512, loss_mask);
    let concat = step(Batching::Concat, 2048, loss_mask);
    let best_fit = step(Batching::BestFit, 420, loss_mask);
    assert!(
        padded.positions() > padded.real_tokens(),
        "nothing was padded"
    );
    assert_eq!(concat.rows.len(), 1, "one window holds everything");
    assert!(
        (2..8).contains(&best_fit.rows.len()),
        "windows hold several documents"
    );
    [
        ("padded", padded),
        ("concat", concat),
        ("best-fit", best_fit),
    ]
}

/// Log-probability of every target, by document and place among its targets.
fn target_logps(model: &Model, batch: &TokenBatch) -> BTreeMap<String, Vec<f64>> {
    let decoder = model.decoder();
    let hidden = decoder
        .hidden(&batch.tokens, &batch.positions, &batch.cu_seqlens)
        .unwrap();
    let logps = decoder
        .token_logps(&hidden, &batch.target_rows, &batch.targets)
        .unwrap();
    let mut out = BTreeMap::<String, Vec<f64>>::new();
    for (segment, logp) in batch.target_segments.iter().zip(flat(&logps)) {
        out.entry(batch.example_ids[*segment as usize].clone())
            .or_default()
            .push(logp);
    }
    out
}

/// Gradients of the step's mean loss, summed over micro-batches of at most so many positions, and
/// how many of those there were.
fn step_gradients(model: &Model, step: &SftStep, max_positions: usize) -> (Gradients, usize) {
    let batches = step.micro_batches(max_positions);
    let mut gradients = Gradients::default();
    for batch in batches.iter().filter(|b| !b.targets.is_empty()) {
        let decoder = model.decoder();
        let hidden = decoder
            .hidden(&batch.tokens, &batch.positions, &batch.cu_seqlens)
            .unwrap();
        let logps = decoder
            .token_logps(&hidden, &batch.target_rows, &batch.targets)
            .unwrap();
        model.accumulate(&mut gradients, &mean_nll(&logps, step.targets()));
    }
    (gradients, batches.len())
}

fn distances(got: &Gradients, want: &Gradients) -> Vec<(String, f64)> {
    let one = |(name, grad): (&String, &_)| {
        (
            name.clone(),
            distance(&flat(grad), &flat(want.get(name).unwrap())),
        )
    };
    got.iter().map(one).collect()
}

#[test]
fn a_token_has_the_same_log_probability_in_every_layout() {
    let model = Model::shipped();
    let [(_, padded), others @ ..] = layouts(LossMask::AllTokens);
    let whole = |step: &SftStep| target_logps(&model, &step.micro_batches(usize::MAX)[0]);
    let want = whole(&padded);
    for (name, step) in others {
        let got = whole(&step);
        assert_eq!(got.len(), want.len(), "{name}: documents");
        let errors = got
            .iter()
            .map(|(id, logps)| (id.clone(), distance(logps, &want[id])));
        check(
            &format!("{name} against padded: token logps"),
            errors,
            LAYOUT,
        );
    }
}

#[test]
fn every_layout_gives_the_same_gradients_for_both_loss_masks() {
    let model = Model::shipped();
    for mask in [LossMask::AllTokens, LossMask::AssistantOnly] {
        let [(_, padded), others @ ..] = layouts(mask);
        let (want, _) = step_gradients(&model, &padded, usize::MAX);
        for (name, step) in others {
            assert_eq!(step.targets(), padded.targets(), "{name}: targets");
            let (got, _) = step_gradients(&model, &step, usize::MAX);
            let what = format!("{name} against padded, {mask:?}: gradients");
            check(&what, distances(&got, &want), LAYOUT);
        }
    }
}

#[test]
fn a_step_split_in_1_2_or_8_micro_batches_has_the_same_gradients() {
    let model = Model::shipped();
    let step = step(Batching::Padded, 512, LossMask::AssistantOnly);
    let row = step.rows[0].positions();
    let (whole, count) = step_gradients(&model, &step, 8 * row);
    assert_eq!(count, 1);
    for parts in [2, 8] {
        let (got, count) = step_gradients(&model, &step, 8 / parts * row);
        assert_eq!(count, parts);
        check(
            &format!("{parts} micro-batches: gradients"),
            distances(&got, &whole),
            SPLIT,
        );
    }
}

#[test]
fn a_document_does_not_see_its_neighbours() {
    let model = Model::shipped();
    let step = step(Batching::Concat, 2048, LossMask::AllTokens);
    let batch = &step.micro_batches(usize::MAX)[0];
    let before = target_logps(&model, batch);
    let middle = 3;
    let mut changed = batch.clone();
    for at in batch.cu_seqlens[middle]..batch.cu_seqlens[middle + 1] {
        changed.tokens[at as usize] = 5;
    }
    let after = target_logps(&model, &changed);
    let id = &batch.example_ids[middle];
    assert_ne!(before[id], after[id], "the changed document itself");
    for (other, logps) in before.iter().filter(|(other, _)| *other != id) {
        assert_eq!(logps, &after[other], "{other}");
    }
}

#[test]
fn every_parameter_receives_a_gradient() {
    let model = Model::shipped();
    let step = step(Batching::BestFit, 420, LossMask::AssistantOnly);
    let (gradients, _) = step_gradients(&model, &step, usize::MAX);
    let names: Vec<_> = model.vars.keys().collect();
    let with: Vec<_> = gradients.iter().map(|(name, _)| name).collect();
    assert_eq!(with, names);
    for (name, grad) in gradients.iter() {
        let values = flat(grad);
        let dead = values
            .chunks(64)
            .filter(|row| row.iter().all(|x| *x == 0.0))
            .count();
        assert_eq!(dead, 0, "{name}: {dead} rows without a gradient");
    }
}
