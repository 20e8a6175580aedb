//! Claims about packing, steps and batches, on made-up documents.

use super::*;
use crate::data::inspect::inspect_row;
use crate::data::{TextFormat, load_chat, pair_batches};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const PAD: u32 = 0;

/// How documents become rows, and for how long.
#[derive(Clone)]
struct Recipe {
    layout: LayoutRecipe,
    duration: Duration,
}

fn recipe(batching: Batching, mask: LossMask, batch: BatchSize, duration: Duration) -> Recipe {
    let layout = LayoutRecipe {
        max_seq_len: 8,
        batching,
        loss_mask: mask,
        max_masked_fraction: None,
        batch,
    };
    Recipe { layout, duration }
}

/// Document `d` has the tokens 100 d + 1, 100 d + 2, …, so that a token tells where it comes from;
/// its second half is the reply.
fn documents(lengths: &[usize]) -> Vec<TokenizedExample> {
    let document = |(d, &len): (usize, &usize)| TokenizedExample {
        id: format!("d{d}"),
        tokens: (0..len).map(|i| (100 * d + i + 1) as u32).collect(),
        loss_mask: (0..len).map(|i| i > 0 && 2 * i >= len).collect(),
        source: "made-up".to_owned(),
    };
    lengths.iter().enumerate().map(document).collect()
}

fn plan(lengths: &[usize], recipe: &Recipe, seed: u64) -> SftPlan {
    SftPlan::new(
        documents(lengths),
        &recipe.layout,
        recipe.duration,
        &SeedTree::root(seed),
        PAD,
    )
    .unwrap()
}

fn steps(plan: &SftPlan) -> Vec<SftStep> {
    (0..plan.steps()).filter_map(|k| plan.step(k)).collect()
}

/// How often each token occurs in all steps.
fn census(steps: &[SftStep]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for token in steps.iter().flat_map(|s| &s.rows).flat_map(|r| &r.tokens) {
        *counts.entry(*token).or_insert(0) += 1;
    }
    counts
}

/// Token, its predecessor if it is a target, and its position.
type Seen = (u32, Option<u32>, u32);

/// Every position of some batches in order.
fn seen(batches: &[TokenBatch]) -> Vec<Seen> {
    let mut out = Vec::new();
    for batch in batches {
        let start = out.len();
        let positions = batch.tokens.iter().zip(&batch.positions);
        out.extend(positions.map(|(&token, &position)| (token, None, position)));
        for &row in &batch.target_rows {
            let row = row as usize;
            out[start + row + 1].1 = Some(batch.tokens[row]);
        }
    }
    out
}

fn batching() -> impl Strategy<Value = Batching> {
    prop_oneof![
        Just(Batching::Padded),
        Just(Batching::Concat),
        Just(Batching::BestFit)
    ]
}

fn mask() -> impl Strategy<Value = LossMask> {
    prop_oneof![Just(LossMask::AssistantOnly), Just(LossMask::AllTokens)]
}

fn batch() -> impl Strategy<Value = BatchSize> {
    prop_oneof![
        (1usize..5).prop_map(BatchSize::Rows),
        (8usize..40).prop_map(BatchSize::Tokens)
    ]
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(2usize..30, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn packing_keeps_every_token_once_an_epoch(lengths in lengths(), batch in batch(), best_fit in any::<bool>(), seed in 0u64..9) {
        let kind = if best_fit { Batching::BestFit } else { Batching::Concat };
        let recipe = recipe(kind, LossMask::AllTokens, batch, Duration::Epochs(2.0));
        let counts = census(&steps(&plan(&lengths, &recipe, seed)));
        prop_assert_eq!(counts.len(), lengths.iter().sum::<usize>());
        prop_assert!(counts.values().all(|&n| n == 2));
    }

    #[test]
    fn padded_rows_hold_the_start_of_every_document_once(lengths in lengths(), batch in batch(), seed in 0u64..9) {
        let recipe = recipe(Batching::Padded, LossMask::AllTokens, batch, Duration::Epochs(1.0));
        let counts = census(&steps(&plan(&lengths, &recipe, seed)));
        prop_assert_eq!(counts.len(), lengths.iter().map(|&n| n.min(8)).sum::<usize>());
        prop_assert!(counts.values().all(|&n| n == 1));
    }

    #[test]
    fn segments_hold_one_document_and_no_target_crosses_a_boundary(lengths in lengths(), kind in batching(), mask in mask(), batch in batch(), seed in 0u64..9) {
        let plan = plan(&lengths, &recipe(kind, mask, batch, Duration::Epochs(1.5)), seed);
        for step in steps(&plan) {
            for row in &step.rows {
                prop_assert!(row.tokens.len() <= 8);
                let mut end = 0;
                for segment in &row.segments {
                    prop_assert_eq!(segment.start, end);
                    end = segment.end;
                    let document = &plan.examples()[segment.document];
                    prop_assert_eq!(
                        &row.tokens[segment.start..segment.end],
                        &document.tokens[segment.offset..segment.offset + segment.len()]
                    );
                    prop_assert!(!row.loss_mask[segment.start]);
                }
                prop_assert_eq!(end, row.tokens.len());
            }
            for batch in step.micro_batches(16) {
                for ((&row, &target), &segment) in batch.target_rows.iter().zip(&batch.targets).zip(&batch.target_segments) {
                    let (row, segment) = (row as usize, segment as usize);
                    prop_assert_eq!(batch.tokens[row + 1], target);
                    prop_assert_eq!(batch.tokens[row] + 1, target);
                    prop_assert!(batch.cu_seqlens[segment] as usize <= row);
                    prop_assert!(row + 1 < batch.cu_seqlens[segment + 1] as usize);
                }
            }
        }
    }

    #[test]
    fn a_cut_costs_only_the_target_at_the_cut(lengths in lengths(), kind in batching(), mask in mask(), seed in 0u64..9) {
        let plan = plan(&lengths, &recipe(kind, mask, BatchSize::Rows(3), Duration::Epochs(1.0)), seed);
        let report = plan.report();
        let counted: usize = steps(&plan).iter().map(SftStep::targets).sum();
        let asked: usize = plan.examples().iter().map(|e| match mask {
            LossMask::AssistantOnly => e.targets(),
            LossMask::AllTokens => e.tokens.len() - 1,
        }).sum();
        prop_assert_eq!(report.targets, counted);
        prop_assert_eq!(asked, counted + report.targets_lost_at_cuts + report.targets_dropped);
        prop_assert!(report.targets_lost_at_cuts <= report.rows + lengths.iter().sum::<usize>() / 8);
        prop_assert_eq!(report.tokens, report.positions - report.padding + report.tokens_dropped);
        let positions: usize = steps(&plan).iter().map(SftStep::positions).sum();
        prop_assert_eq!(report.positions, positions);
    }

    #[test]
    fn resuming_at_a_step_equals_dropping_the_steps_before(lengths in lengths(), kind in batching(), batch in batch(), seed in 0u64..9, at in 0u64..20) {
        let recipe = recipe(kind, LossMask::AllTokens, batch, Duration::Epochs(3.0));
        let all = steps(&plan(&lengths, &recipe, seed));
        let resumed = plan(&lengths, &recipe, seed);
        let rest: Vec<SftStep> = (at..resumed.steps()).filter_map(|k| resumed.step(k)).collect();
        prop_assert_eq!(&rest[..], &all[(at as usize).min(all.len())..]);
    }

    #[test]
    fn a_split_keeps_tokens_positions_and_targets(lengths in lengths(), kind in batching(), batch in batch(), limit in 1usize..40, seed in 0u64..9) {
        let plan = plan(&lengths, &recipe(kind, LossMask::AssistantOnly, batch, Duration::Steps(3)), seed);
        for step in steps(&plan) {
            let parts = step.micro_batches(limit);
            let whole = step.micro_batches(usize::MAX);
            prop_assert_eq!(whole.len(), 1);
            let longest = step.rows.iter().map(PackedRow::positions).max().unwrap_or(0);
            prop_assert!(parts.iter().all(|b| b.len() <= limit.max(longest)));
            prop_assert_eq!(seen(&parts), seen(&whole));
            let real: usize = parts.iter().map(|b| b.real_tokens).sum();
            prop_assert_eq!(real, whole[0].real_tokens);
            prop_assert_eq!(whole[0].targets.len(), step.targets());
            prop_assert_eq!(whole[0].len(), step.positions());
        }
    }

    #[test]
    fn padded_steps_stay_within_their_positions(lengths in lengths(), limit in 8usize..60, seed in 0u64..9) {
        let recipe = recipe(Batching::Padded, LossMask::AllTokens, BatchSize::Tokens(limit), Duration::Steps(7));
        let plan = plan(&lengths, &recipe, seed);
        prop_assert_eq!(plan.steps(), 7);
        for step in steps(&plan) {
            prop_assert!(step.positions() <= limit);
            let longest = step.rows.iter().map(|r| r.tokens.len()).max().unwrap_or(0);
            prop_assert!(step.rows.iter().all(|r| r.positions() == longest));
        }
    }

    #[test]
    fn windows_of_best_fit_are_few(lengths in lengths(), seed in 0u64..9) {
        let recipe = recipe(Batching::BestFit, LossMask::AllTokens, BatchSize::Rows(1), Duration::Epochs(1.0));
        let plan = plan(&lengths, &recipe, seed);
        // Two windows at most half full would have been one; so all but one are over half full.
        let total: usize = lengths.iter().sum();
        prop_assert!(plan.rows_per_epoch() <= (2 * total).div_ceil(8) + 1);
        for row in steps(&plan).iter().flat_map(|s| &s.rows) {
            for segment in &row.segments {
                // Only documents above the limit are cut, and only at multiples of it.
                prop_assert!(segment.offset % 8 == 0);
                prop_assert!(lengths[segment.document] > 8 || segment.len() == lengths[segment.document]);
            }
        }
    }

    #[test]
    fn pairs_of_whole_epochs_come_equally_often(pairs in 1usize..40, batch in 1usize..9, epochs in 1u64..4, seed in 0u64..9) {
        let plan = PairPlan::new(pairs, batch, Duration::Epochs(epochs as f64), &SeedTree::root(seed)).unwrap();
        let mut counts = vec![0; pairs];
        for k in 0..plan.steps() {
            let step = plan.step(k).unwrap();
            prop_assert!(step.len() == batch || k + 1 == plan.steps());
            for pair in step {
                counts[pair] += 1;
            }
        }
        prop_assert!(counts.iter().all(|&n| n == epochs));
        prop_assert!(plan.step(plan.steps()).is_none());
    }
}

// Three documents of 5 in windows of 8: 5 + 3 | 2 + 5. The cut document goes on as a new segment.
#[test]
fn a_cut_document_goes_on_in_the_next_window() {
    let recipe = recipe(
        Batching::Concat,
        LossMask::AllTokens,
        BatchSize::Rows(1),
        Duration::Epochs(1.0),
    );
    let plan = plan(&[5, 5, 5], &recipe, 1);
    let rows: Vec<PackedRow> = steps(&plan).into_iter().flat_map(|s| s.rows).collect();
    let shape = |r: &PackedRow| {
        r.segments
            .iter()
            .map(|s| (s.offset, s.len()))
            .collect::<Vec<_>>()
    };
    assert_eq!(rows.len(), 2);
    assert_eq!(shape(&rows[0]), [(0, 5), (0, 3)]);
    assert_eq!(shape(&rows[1]), [(3, 2), (0, 5)]);
    let batch = &plan.step(1).unwrap().micro_batches(99)[0];
    assert_eq!(batch.positions, [0, 1, 0, 1, 2, 3, 4]);
    assert_eq!(batch.cu_seqlens, [0, 2, 7]);
    assert_eq!(batch.target_rows, [0, 2, 3, 4, 5]);
    let report = plan.report();
    assert_eq!(
        (
            report.documents_cut,
            report.targets_lost_at_cuts,
            report.targets
        ),
        (1, 1, 11)
    );
}

#[test]
fn padding_is_computed_but_never_a_target() {
    let recipe = recipe(
        Batching::Padded,
        LossMask::AllTokens,
        BatchSize::Rows(2),
        Duration::Epochs(1.0),
    );
    let plan = plan(&[2, 5], &recipe, 0);
    let batch = &plan.step(0).unwrap().micro_batches(99)[0];
    assert_eq!(
        (batch.len(), batch.real_tokens, batch.targets.len()),
        (10, 7, 5)
    );
    assert_eq!(batch.tokens.iter().filter(|&&t| t == PAD).count(), 3);
    assert!(!batch.targets.contains(&PAD));
    assert!((plan.report().padding_share() - 0.3).abs() < 1e-12);
}

#[test]
fn steps_run_on_into_the_next_epoch_and_only_the_last_is_smaller() {
    let recipe = recipe(
        Batching::Padded,
        LossMask::AllTokens,
        BatchSize::Rows(4),
        Duration::Epochs(2.5),
    );
    let plan = plan(&[3; 6], &recipe, 0);
    // 15 rows in steps of 4: 4, 4, 4, 3.
    let sizes: Vec<usize> = steps(&plan).iter().map(|s| s.rows.len()).collect();
    assert_eq!(sizes, [4, 4, 4, 3]);
    assert!((plan.epochs_after(2) - 8.0 / 6.0).abs() < 1e-12);
    let ids: BTreeSet<String> = plan.step(1).unwrap().example_ids().into_iter().collect();
    assert!(ids.len() >= 2);
}

#[test]
fn epochs_and_seeds_differ_in_order() {
    let recipe = recipe(
        Batching::Padded,
        LossMask::AllTokens,
        BatchSize::Rows(20),
        Duration::Epochs(2.0),
    );
    let order = |seed, k| plan(&[3; 20], &recipe, seed).step(k).unwrap().example_ids();
    assert_ne!(order(0, 0), order(0, 1));
    assert_ne!(order(0, 0), order(1, 0));
}

#[test]
fn impossible_batches_and_durations_are_refused() {
    let refused = |batch, duration| {
        let recipe = recipe(Batching::Concat, LossMask::AllTokens, batch, duration);
        SftPlan::new(
            documents(&[3]),
            &recipe.layout,
            recipe.duration,
            &SeedTree::root(0),
            PAD,
        )
        .unwrap_err()
        .to_string()
    };
    assert_eq!(
        refused(BatchSize::Tokens(7), Duration::Steps(1)),
        "`batch.tokens` is 7, less than `max-seq-len` 8"
    );
    assert_eq!(
        refused(BatchSize::Rows(0), Duration::Steps(1)),
        "`batch.rows` is 0"
    );
    assert_eq!(
        refused(BatchSize::Rows(1), Duration::Steps(0)),
        "`duration.steps` is 0"
    );
    assert_eq!(
        refused(BatchSize::Rows(1), Duration::Epochs(f64::NAN)),
        "`duration.epochs` is NaN, expected above 0"
    );
}

#[test]
fn pair_batches_predict_the_completions_only() {
    let pair =
        |id: &str, prompt: &[u32], chosen: &[u32], rejected: &[u32]| crate::data::TokenizedPair {
            id: id.to_owned(),
            key: String::new(),
            prompt: prompt.to_vec(),
            chosen: chosen.to_vec(),
            rejected: rejected.to_vec(),
            cut: crate::data::PairCut::default(),
        };
    let (a, b) = (
        pair("a", &[1, 5], &[6, 2], &[7, 8, 2]),
        pair("b", &[1], &[9], &[3]),
    );
    let batches = pair_batches(&[&a, &b], 10);
    assert_eq!(batches.len(), 1);
    let batch = &batches[0].batch;
    assert_eq!(batch.tokens, [1, 5, 6, 2, 7, 8, 2, 1, 9, 3]);
    assert_eq!(batch.positions, [0, 1, 2, 3, 2, 3, 4, 0, 1, 1]);
    assert_eq!(batch.cu_seqlens, [0, 2, 4, 7, 8, 9, 10]);
    assert_eq!(batch.prefixes, [0, 0, 0, 3, 3, 3]);
    // Position 1 predicts the first token of both replies of `a`, position 7 of both of `b`.
    assert_eq!(batch.target_rows, [1, 2, 1, 4, 5, 7, 7]);
    assert_eq!(batch.targets, [6, 2, 7, 8, 2, 9, 3]);
    assert_eq!(batch.target_segments, [1, 1, 2, 2, 2, 4, 5]);
    assert_eq!(batch.example_ids, ["a", "a", "a", "b", "b", "b"]);
    // 1 + 2, then 3 + 4 and 3 + 4 + 5 behind the prompt; 1, 2 and 2.
    assert!((batch.pass().seen(None) - 27.0).abs() < 1e-12);
    let split = pair_batches(&[&a, &b], 9);
    assert_eq!(
        split.iter().map(|p| p.pairs.clone()).collect::<Vec<_>>(),
        [0..1, 1..2]
    );
}

#[test]
fn without_a_prompt_the_first_token_of_a_reply_has_no_predecessor() {
    let pair = crate::data::TokenizedPair {
        id: "a".to_owned(),
        key: String::new(),
        prompt: Vec::new(),
        chosen: vec![6, 2],
        rejected: vec![7],
        cut: crate::data::PairCut::default(),
    };
    let batch = &pair_batches(&[&pair], 10)[0].batch;
    assert_eq!(batch.target_rows, [0]);
    assert_eq!(batch.targets, [2]);
    assert_eq!(batch.positions, [0, 1, 0]);
}

#[test]
fn an_inspected_row_shows_text_mask_position_segment_and_document() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let format = TextFormat::open(&root.join("models/stories260k"), None).unwrap();
    let source = crate::config::spec::DataSource {
        path: "data/sft/instruct_train.jsonl".into(),
        fraction: None,
        count: Some(3.try_into().unwrap()),
        columns: std::collections::BTreeMap::new(),
        fold: None,
    };
    let (rows, _) = load_chat(root, &[source], &SeedTree::root(0)).unwrap();
    let examples = format.encode_chats(&rows).unwrap();
    let mut recipe = recipe(
        Batching::Padded,
        LossMask::AssistantOnly,
        BatchSize::Rows(3),
        Duration::Steps(1),
    );
    recipe.layout.max_seq_len = 512;
    let plan = SftPlan::new(
        examples,
        &recipe.layout,
        recipe.duration,
        &SeedTree::root(0),
        format.pad_token(),
    )
    .unwrap();
    for row in plan.step(0).unwrap().rows {
        let tokens = inspect_row(&row, &format);
        assert_eq!(tokens.len(), row.positions());
        let text: String = tokens
            .iter()
            .filter(|t| !t.padding)
            .map(|t| t.text.as_str())
            .collect();
        assert!(
            text.starts_with("<s> User: ") && text.ends_with("</s>"),
            "{text}"
        );
        let targets: String = tokens
            .iter()
            .filter(|t| t.target)
            .map(|t| t.text.as_str())
            .collect();
        assert!(text.ends_with(&format!("Assistant:{targets}")), "{targets}");
        assert_eq!(tokens.iter().filter(|t| t.padding).count(), row.padding);
        assert!(
            tokens
                .iter()
                .enumerate()
                .all(|(i, t)| t.position == i && t.document == row.segments[0].id)
        );
    }
}

// Numbers of the shipped training file; a change here changes the study that is reported.
#[test]
fn the_shipped_instruction_data_packs_as_reported() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let format = TextFormat::open(&root.join("models/stories260k"), None).unwrap();
    let source = crate::config::spec::DataSource {
        path: "data/sft/instruct_train.jsonl".into(),
        fraction: None,
        count: None,
        columns: std::collections::BTreeMap::new(),
        fold: None,
    };
    let (rows, report) = load_chat(root, &[source], &SeedTree::root(0)).unwrap();
    assert_eq!(report.rows(), 1294);
    let examples = format.encode_chats(&rows).unwrap();
    // Kind, steps of 2048 positions, rows, positions, documents cut, targets.
    let want = [
        (Batching::Padded, 202, 1294, 352_826, 63, 76_575),
        (Batching::Concat, 93, 371, 189_733, 330, 91_262),
        (Batching::BestFit, 94, 375, 189_733, 63, 91_378),
    ];
    for (kind, steps, rows, positions, cut, targets) in want {
        let batch = BatchSize::Tokens(2048);
        let mut recipe = recipe(kind, LossMask::AssistantOnly, batch, Duration::Epochs(1.0));
        recipe.layout.max_seq_len = 512;
        let seed = SeedTree::root(0);
        let plan = SftPlan::new(
            examples.clone(),
            &recipe.layout,
            recipe.duration,
            &seed,
            format.pad_token(),
        )
        .unwrap();
        let report = plan.report();
        assert_eq!(
            (report.documents, report.tokens, plan.steps()),
            (1294, 189_733, steps)
        );
        assert_eq!((report.rows, report.positions), (rows, positions));
        assert_eq!((report.documents_cut, report.targets), (cut, targets));
        let all = report.targets + report.targets_lost_at_cuts + report.targets_dropped;
        assert_eq!(all, 91_444);
    }
}

/// Documents of 8 tokens of which every second has one target, the others four.
fn scant_and_rich(n: usize) -> Vec<TokenizedExample> {
    let document = |d: usize| {
        let first = if d.is_multiple_of(2) { 7 } else { 4 };
        TokenizedExample {
            id: format!("d{d}"),
            tokens: (0..8).map(|i| (100 * d + i + 1) as u32).collect(),
            loss_mask: (0..8).map(|i| i >= first).collect(),
            source: "made-up".to_owned(),
        }
    };
    (0..n).map(document).collect()
}

fn masked(batching: Batching, most: Option<f64>, duration: Duration) -> Recipe {
    let batch = BatchSize::Rows(3);
    let mut recipe = recipe(batching, LossMask::AssistantOnly, batch, duration);
    recipe.layout.max_masked_fraction = most.map(|most| BelowOne::try_from(most).unwrap());
    recipe
}

// By hand: a scant document has 7 of 8 tokens masked (0.875), a rich one 4 of 8 (0.5).
#[test]
fn rows_that_are_masked_too_much_are_left_out_and_counted() {
    for batching in [Batching::Padded, Batching::Concat, Batching::BestFit] {
        let whole = masked(batching, Some(0.875), Duration::Epochs(1.0));
        let plan = SftPlan::new(
            scant_and_rich(10),
            &whole.layout,
            whole.duration,
            &SeedTree::root(1),
            PAD,
        )
        .unwrap();
        assert_eq!(
            plan.report().rows_masked,
            0,
            "no more than the share is let pass"
        );
        let some = masked(batching, Some(0.8), Duration::Epochs(1.0));
        let plan = SftPlan::new(
            scant_and_rich(10),
            &some.layout,
            some.duration,
            &SeedTree::root(1),
            PAD,
        )
        .unwrap();
        let report = plan.report();
        assert_eq!((report.rows, report.rows_masked), (5, 5), "{batching:?}");
        assert_eq!((report.tokens_masked, report.targets_masked), (40, 5));
        assert_eq!(
            (report.targets, report.tokens, report.positions),
            (20, 80, 40)
        );
        assert_eq!(
            report.tokens_dropped + report.targets_dropped + report.padding,
            0
        );
        assert_eq!(
            (report.documents_without_targets, report.documents_cut),
            (5, 0)
        );
        let ids: BTreeSet<String> = steps(&plan).iter().flat_map(SftStep::example_ids).collect();
        assert_eq!(ids.len(), 5);
        assert!(
            ids.iter()
                .all(|id| ["d1", "d3", "d5", "d7", "d9"].contains(&id.as_str()))
        );
    }
}

#[test]
fn without_the_option_a_plan_is_as_before_and_with_a_loose_one_it_is_the_same() {
    for batching in [Batching::Padded, Batching::Concat, Batching::BestFit] {
        for duration in [Duration::Epochs(2.5), Duration::Steps(7)] {
            let plan = |most| {
                let recipe = masked(batching, most, duration);
                let lengths = [5, 9, 3, 8, 2, 7, 4];
                SftPlan::new(
                    documents(&lengths),
                    &recipe.layout,
                    recipe.duration,
                    &SeedTree::root(4),
                    PAD,
                )
                .unwrap()
            };
            let (plain, loose) = (plan(None), plan(Some(0.999)));
            assert_eq!(steps(&plain), steps(&loose), "{batching:?} {duration:?}");
            for k in 0..=plain.steps() {
                let (a, b) = (plain.epochs_after(k), loose.epochs_after(k));
                assert!(
                    (a - b).abs() < 1e-9,
                    "{batching:?} {duration:?} {k}: {a} {b}"
                );
            }
        }
    }
}

// Windows of a stream depend on the order, so that the number left differs by epoch.
#[test]
fn epochs_of_different_size_follow_each_other_without_a_gap() {
    let lengths: Vec<usize> = (0..40).map(|i| 2 + i % 7).collect();
    let mut examples = documents(&lengths);
    for (d, example) in examples.iter_mut().enumerate() {
        if d % 3 > 0 {
            example.loss_mask.fill(false);
        }
    }
    let plan = |duration| {
        let recipe = masked(Batching::Concat, Some(0.8), duration);
        SftPlan::new(
            examples.clone(),
            &recipe.layout,
            recipe.duration,
            &SeedTree::root(2),
            PAD,
        )
        .unwrap()
    };
    let whole = plan(Duration::Epochs(6.0));
    let sizes: BTreeSet<usize> = (0..6).map(|e| whole.layouts(e).len()).collect();
    assert!(sizes.len() > 1, "every epoch has {sizes:?} rows");
    let want: Vec<PackedRow> = (0..6)
        .flat_map(|e| whole.layouts(e).to_vec())
        .map(|layout| fill_row(&examples, LossMask::AssistantOnly, &layout))
        .collect();
    let got: Vec<PackedRow> = steps(&whole)
        .into_iter()
        .flat_map(|step| step.rows)
        .collect();
    assert_eq!(got, want);
    assert!((whole.epochs_after(whole.steps()) - 6.0).abs() < 1e-9);
    for row in &got {
        assert!((row.tokens.len() - row.targets()) as f64 <= 0.8 * row.tokens.len() as f64);
    }
    let steps_alone = plan(Duration::Steps(whole.steps() - 1));
    for k in 0..steps_alone.steps() {
        assert_eq!(steps_alone.step(k), whole.step(k));
    }
}

#[test]
fn a_plan_of_which_no_row_is_left_is_refused() {
    let recipe = masked(Batching::Concat, Some(0.1), Duration::Epochs(1.0));
    let error = SftPlan::new(
        scant_and_rich(4),
        &recipe.layout,
        recipe.duration,
        &SeedTree::root(1),
        PAD,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no row is left in epoch 0: of each more than `max-masked-fraction` 0.1 is masked"
    );
}
