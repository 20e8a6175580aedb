//! Plans ahead of weights and data: sizes from `[inputs]`, names as if nothing were said.

use super::tests::{sweep_of, tiny_project, tiny_trial};
use super::*;
use crate::config::{ExpectedInput, ExpectedInputs, ModelSizes};
use std::num::NonZeroU64;
use std::path::Path;

fn size(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).unwrap()
}

fn expected() -> ExpectedInputs {
    let rows = |rows, tokens| ExpectedInput {
        rows: Some(size(rows)),
        tokens_per_row: Some(size(tokens)),
        ..ExpectedInput::default()
    };
    let model = ExpectedInput {
        shape: Some(ModelSizes {
            vocab_size: size(100),
            hidden_size: size(8),
            layers: size(2),
            heads: size(2),
            kv_heads: size(1),
            head_size: size(4),
            intermediate_size: size(16),
            tied: true,
        }),
        ..ExpectedInput::default()
    };
    ExpectedInputs::from([
        ("data/chat.jsonl".to_owned(), rows(1_000, 50)),
        ("data/pairs.jsonl".to_owned(), rows(400, 60)),
        ("models/tiny".to_owned(), model),
    ])
}

fn plan_at(root: &Path, inputs: ExpectedInputs) -> Plan {
    let mut sweep = sweep_of(vec![tiny_trial(&["sft", "dpo"])]);
    sweep.inputs = inputs;
    plan_sweep(
        &sweep,
        root,
        &mut DigestCache::default(),
        &KnownLengths::default(),
    )
    .unwrap()
}

fn ids(plan: &Plan) -> Vec<&RunId> {
    plan.runs.iter().map(|run| &run.id).collect()
}

#[test]
fn what_is_expected_of_inputs_never_names_a_run() {
    let (full, empty) = (tiny_project(), tempfile::tempdir().unwrap());
    for root in [full.path(), empty.path()] {
        let (plain, told) = (
            plan_at(root, ExpectedInputs::new()),
            plan_at(root, expected()),
        );
        assert_eq!(ids(&plain), ids(&told));
    }
    let mut data_alone = expected();
    data_alone.remove("models/tiny"); // its vocabulary would count
    let tokens = |plan: &Plan| plan.runs[0].estimate.tokens;
    assert_eq!(
        tokens(&plan_at(full.path(), data_alone)),
        tokens(&plan_at(full.path(), ExpectedInputs::new())),
        "a file that is there speaks for itself"
    );
}

// By hand. Of 1,000 rows 7 are trained on, but the recipe says 10 steps of 128 tokens: 1,280. The edges
// of windows of 64 cut 50 in 64 rows of 50: all but 1 + 50/64 tokens of a row have a predecessor, and on
// average a position sees half of 50 − 50²/(3·64) and itself. The monitor measures 3 rows of 50 tokens 4
// times, whole: 600, half of them replies. A position costs 2·2·(8·(2·8 + 2·4) + 3·8·16) = 2,304
// operations in products and 4·2·8 for each position that it sees; a scored one 2·8·100 more for the
// head.
#[test]
fn a_plan_without_files_counts_what_the_base_file_says() {
    let empty = tempfile::tempdir().unwrap();
    let plan = plan_at(empty.path(), expected());
    let sft = plan.runs[0].estimate;
    assert_eq!(sft.tokens, 1_880);
    let position = |seen: f64| 2_304.0 + 64.0 * seen;
    let scored = 1.0 - (1.0 / 50.0 + 1.0 / 64.0);
    let cut = position(f64::midpoint(50.0 - 2_500.0 / 192.0, 1.0));
    let trained = 1_280.0 * (cut + scored * 1_600.0);
    let want = 3.0 * trained + 600.0 * (position(25.5) + 0.5 * 1_600.0);
    assert!(
        (sft.flops - want).abs() < 1e-6 * want,
        "{} {want}",
        sft.flops
    );
    // 48 MiB and 12 bytes for each of 1,952 + 5·8 weights; in 2 layers 128 positions of 74 numbers,
    // 4 times 8 more of each, the logits of those scored, and the gradient of the head.
    let forward = 4.0 * (128.0 * (2.0 * 74.0 + 4.0 * 8.0 + scored * 100.0) + 800.0);
    let want = f64::from(48 << 20) + 12.0 * 1_992.0 + forward;
    assert!((sft.peak_memory_bytes as f64 - want).abs() < 2.0, "{want}");

    let without = plan_at(empty.path(), ExpectedInputs::new());
    assert_eq!(without.runs[0].estimate.peak_memory_bytes, 0);
    assert_eq!(without.missing, plan.missing);
}

// By hand: 400 pairs of 60 tokens, half of them sampled and 4 used, are 240 tokens an epoch. Of each
// two thirds are replies, both behind the prompt of 20: 210 + 2·(400 + 210) positions are seen.
#[test]
fn the_rows_of_missing_pairs_share_their_prompts() {
    let empty = tempfile::tempdir().unwrap();
    let plan = plan_at(empty.path(), expected());
    let dpo = plan.runs.iter().find(|run| run.kind == StageKind::Dpo);
    let dpo = dpo.unwrap().estimate;
    assert_eq!(dpo.tokens, 240, "the held-out pairs are not known");
    let pair = 60.0 * 2_304.0 + 64.0 * 1_430.0 + 40.0 * 1_600.0;
    let want = 3.0 * 4.0 * pair;
    assert!(
        (dpo.flops - want).abs() < 1e-6 * want,
        "{} {want}",
        dpo.flops
    );
}
