//! Every method on small cases by hand, and on real rows with the shipped model.

use super::{
    RowsRef, SelectContext, SelectError, SelectModels, Selection, align_pairs, select_rows,
};
use crate::arch::DecoderConfig;
use crate::base::SeedTree;
use crate::config::select::{SelectMethod, SelectRecipe};
use crate::config::spec::{DataSource, PairLimits, Truncation};
use crate::data::{
    ChatRow, PairRow, TextFormat, TokenizedExample, TokenizedPair, load_chat, load_pairs,
    permutation,
};
use crate::model::{Companions, Decoder, FrozenParams, HostOpener, Params, save_checkpoint};
use crate::train::{HostLearner, TrainError};
use candle_core::{DType, Device, Tensor};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

const MODEL: &str = "models/stories260k";
const LIMITS: PairLimits = PairLimits {
    max_seq_len: 256,
    max_prompt_len: 128,
    truncation: Truncation::KeepEnd,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shipped model, opened for gradients, and rows of a data file.
struct Bench {
    format: TextFormat,
    params: Params,
    policy: Decoder,
    pairs: (Vec<PairRow>, Vec<TokenizedPair>),
    chat: (Vec<ChatRow>, Vec<TokenizedExample>),
}

impl Bench {
    /// The first `count` rows of a preference file and of the instructions.
    fn new(pairs: &str, count: usize) -> Self {
        let dir = root().join(MODEL);
        let format = TextFormat::open(&dir, None).unwrap();
        let config = DecoderConfig::from_file(&dir).unwrap();
        let params = Params::load(&dir, &config, &Device::Cpu, DType::F32).unwrap();
        let source = |path: &str| {
            vec![DataSource {
                path: path.into(),
                fraction: None,
                count: None,
                columns: std::collections::BTreeMap::new(),
                fold: None,
            }]
        };
        let seed = SeedTree::root(0);
        let path = format!("data/pref/{pairs}.jsonl");
        let (mut rows, _) = load_pairs(root(), &source(&path), &seed).unwrap();
        rows.truncate(count);
        let (tokens, _) = format.encode_pairs(&rows, &LIMITS).unwrap();
        let chats = source("data/sft/instruct_train.jsonl");
        let (mut chat, _) = load_chat(root(), &chats, &seed).unwrap();
        chat.truncate(count);
        Self {
            policy: Decoder::trainable(&config, &params).unwrap(),
            params,
            pairs: (align_pairs(rows, &tokens).0, tokens),
            chat: (chat.clone(), format.encode_chats(&chat).unwrap()),
            format,
        }
    }

    fn pairs(&self) -> RowsRef<'_> {
        RowsRef::Pairs {
            rows: &self.pairs.0,
            tokens: &self.pairs.1,
            limits: &LIMITS,
        }
    }

    fn chat(&self) -> RowsRef<'_> {
        RowsRef::Chat {
            rows: &self.chat.0,
            tokens: &self.chat.1,
            max_seq_len: 256,
        }
    }

    fn context(&self) -> SelectContext<'_> {
        SelectContext {
            root: root(),
            format: &self.format,
            opener: &HostOpener(Device::Cpu),
            max_positions: 1024,
        }
    }

    fn run(&self, rows: &RowsRef<'_>, method: serde_json::Value) -> Result<Selection, SelectError> {
        self.run_in(&self.context(), rows, 5, method)
    }

    fn run_in(
        &self,
        context: &SelectContext<'_>,
        rows: &RowsRef<'_>,
        keep: usize,
        method: serde_json::Value,
    ) -> Result<Selection, SelectError> {
        let mut recipe: SelectRecipe =
            serde_json::from_value(json!({"keep": keep, "method": method})).unwrap();
        if recipe.method.needs_model() {
            recipe.precision = Some(crate::config::spec::Precision::F32);
        }
        let (mut policy, mut base) = (self.policy.clone(), self.policy.clone());
        let mut embedder = self.policy.clone();
        let mut learner = HostLearner::new(policy.clone(), self.params.vars().clone());
        let models = SelectModels {
            policy: Some(&mut policy),
            learner: Some(&mut learner),
            embedder: Some(&mut embedder),
            base: Some(&mut base),
        };
        let mut last = (0, 0);
        let selection = select_rows(
            &recipe,
            rows,
            context,
            models,
            &SeedTree::root(3),
            &mut |done, all| {
                assert!(
                    done > last.0 && done <= all,
                    "{done} of {all} after {last:?}"
                );
                last = (done, all);
                Ok(())
            },
        )?;
        assert_eq!(last.0, last.1, "progress ends at the end");
        assert_eq!(selection.scores.len(), rows.len());
        assert_eq!(selection.kept.len(), keep);
        let unique: std::collections::BTreeSet<_> = selection.kept.iter().collect();
        assert_eq!(unique.len(), keep);
        Ok(selection)
    }
}

/// Scores of the kept rows, in order.
fn kept_scores(selection: &Selection) -> Vec<f64> {
    let kept = selection.kept.iter();
    kept.map(|&row| selection.scores[row].unwrap()).collect()
}

fn descends(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] >= pair[1])
}

#[test]
fn random_is_the_prefix_of_the_seeded_order() {
    let bench = Bench::new("polite_train", 40);
    let got = bench.run(&bench.pairs(), json!("random")).unwrap();
    let order = permutation(40, &SeedTree::root(3).child("data/select"));
    assert_eq!(got.kept, order[..5]);
    assert_eq!(got.scores, vec![None; 40]);
    assert_eq!(bench.run(&bench.chat(), json!("random")).unwrap(), got);
}

#[test]
fn longest_and_shortest_are_the_ends_of_the_lengths_before_any_cut() {
    let bench = Bench::new("oasst_human_train", 60);
    let longest = bench.run(&bench.pairs(), json!("longest")).unwrap();
    let lengths: Vec<f64> = longest.scores.iter().map(|s| s.unwrap()).collect();
    let mut sorted = lengths.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(kept_scores(&longest), sorted[..5]);
    assert!(sorted[0] > 256.0, "longer than the limit: {}", sorted[0]);
    let shortest = bench.run(&bench.pairs(), json!("shortest")).unwrap();
    sorted.reverse();
    assert_eq!(kept_scores(&shortest), sorted[..5]);
    let chat = bench.run(&bench.chat(), json!("longest")).unwrap();
    assert!(descends(&kept_scores(&chat)));
}

#[test]
fn preference_strength_takes_equally_from_every_gap_of_real_ranks() {
    let bench = Bench::new("oasst_human_train", 521);
    let method =
        json!({"preference-strength": {"gap": {"column": "meta.rank_gap"}, "edges": [1, 2, 3, 9]}});
    let rows = bench.pairs();
    let got = bench.run_in(&bench.context(), &rows, 30, method).unwrap();
    let bins: Vec<u32> = kept_scores(&got)
        .iter()
        .map(|g| g.min(3.0) as u32)
        .collect();
    let count = |bin| bins.iter().filter(|b| **b == bin).count();
    assert_eq!([count(1), count(2), count(3)], [10, 10, 10]);
    let chat = bench.run(
        &bench.chat(),
        json!({"preference-strength": {"gap": {"column": "a"}, "edges": [0, 1]}}),
    );
    let error = chat.unwrap_err().to_string();
    assert!(
        error.ends_with("chooses among preference pairs, not conversations"),
        "{error}"
    );
}

#[test]
fn quality_rules_keep_one_side_of_real_votes() {
    let bench = Bench::new("pandalm_human_train", 722);
    let rows = bench.pairs();
    let quality =
        |method: &str, rule: &str, at: f64| json!({method: {"column": "meta.agree", rule: at}});
    let divided = quality("rejected-quality", "at-most", 2.0);
    let got = bench.run_in(&bench.context(), &rows, 20, divided).unwrap();
    assert!(kept_scores(&got).iter().all(|agree| *agree <= 2.0));
    let agreed = quality("chosen-quality", "at-least", 3.0);
    let got = bench.run_in(&bench.context(), &rows, 20, agreed).unwrap();
    assert!(kept_scores(&got).iter().all(|agree| *agree >= 3.0));
    let error = bench
        .run(&rows, quality("chosen-quality", "at-least", 4.0))
        .unwrap_err();
    let n = rows.len();
    let want = format!("`keep` is 5, but only 0 of {n} rows can be chosen: {n} outside-threshold");
    assert_eq!(error.to_string(), want);
}

#[test]
fn a_column_that_rows_lack_is_named_with_the_first_row() {
    let bench = Bench::new("pandalm_human_train", 10);
    let method = json!({"chosen-quality": {"column": "meta.votes", "at-least": 1}});
    let error = bench.run(&bench.pairs(), method).unwrap_err().to_string();
    let want = "10 of 10 rows have no number at `meta.votes`, the first is \
                `pandalm-0-bloom-7b_llama-7b` (there stands [";
    assert!(error.starts_with(want), "{error}");
    let method = json!({"preference-strength": {
        "gap": {"difference": {"chosen": "meta.agree", "rejected": "meta.none"}}, "edges": [0, 1]}});
    let error = bench.run(&bench.pairs(), method).unwrap_err().to_string();
    assert!(error.ends_with("(nothing stands there)"), "{error}");
}

#[test]
fn ifd_keeps_the_highest_below_one_of_both_kinds_of_rows() {
    let bench = Bench::new("polite_train", 40);
    for rows in [bench.pairs(), bench.chat()] {
        let got = bench.run(&rows, json!("ifd")).unwrap();
        let kept = kept_scores(&got);
        assert!(descends(&kept) && kept[0] < 1.0, "{kept:?}");
        let dropped = got.scores.iter().flatten().filter(|ifd| **ifd >= 1.0);
        assert_eq!(
            got.notes.get("at-or-above-1").copied().unwrap_or(0),
            dropped.count()
        );
        let below = got.scores.iter().flatten().filter(|ifd| **ifd < 1.0);
        assert_eq!(below.filter(|ifd| **ifd > kept[4]).count(), 4);
    }
}

#[test]
fn a_band_of_perplexity_holds_only_its_middle() {
    let bench = Bench::new("polite_train", 40);
    let method = json!({"perplexity": {"low": 0.25, "high": 0.75}});
    let got = bench
        .run_in(&bench.context(), &bench.pairs(), 20, method)
        .unwrap();
    let mut all: Vec<f64> = got.scores.iter().map(|s| s.unwrap()).collect();
    all.sort_by(f64::total_cmp);
    let mut kept = kept_scores(&got);
    kept.sort_by(f64::total_cmp);
    assert_eq!(kept, all[10..30]);
}

#[test]
fn the_implicit_gap_of_a_model_to_itself_is_nothing() {
    let bench = Bench::new("polite_train", 10);
    let got = bench
        .run(&bench.pairs(), json!("implicit-reward-gap"))
        .unwrap();
    assert_eq!(got.scores, vec![Some(0.0); 10]);
    assert_eq!(got.kept, [0, 1, 2, 3, 4], "ties by place");
}

#[test]
fn margins_are_kept_from_the_end_that_is_asked_for() {
    let bench = Bench::new("polite_train", 30);
    let run = |tail: &str, absolute: bool| {
        let method = json!({"margin-uncertainty": {"tail": tail, "absolute": absolute}});
        bench.run(&bench.pairs(), method).unwrap()
    };
    let ends = |selection: &Selection| {
        let mut all: Vec<f64> = selection.scores.iter().map(|s| s.unwrap()).collect();
        all.sort_by(f64::total_cmp);
        (
            all[..5].to_vec(),
            all.iter().rev().take(5).copied().collect::<Vec<_>>(),
        )
    };
    let hard = run("hard", false);
    assert_eq!(kept_scores(&hard), ends(&hard).0);
    assert!(
        kept_scores(&hard)[0] < 0.0,
        "a pair that the model gets wrong"
    );
    let easy = run("easy", false);
    assert_eq!(kept_scores(&easy), ends(&easy).1);
    let unsure = run("hard", true);
    assert_eq!(kept_scores(&unsure), ends(&unsure).0);
    assert!(kept_scores(&unsure)[0] >= 0.0);
}

/// The shipped decoder as a reward model in `dir`, its head the signs of the width.
fn reward_model(dir: &Path) -> Tensor {
    let source = root().join(MODEL);
    let config = DecoderConfig::from_file(&source).unwrap();
    let params = FrozenParams::load(&source, &config, &Device::Cpu, DType::F32).unwrap();
    let tensors = params.iter().map(|(n, t)| (n.to_owned(), t.clone()));
    let mut tensors: BTreeMap<String, Tensor> = tensors.collect();
    let head: Vec<f32> = (0..64)
        .map(|i| if i % 3 == 0 { 1.0 } else { -1.0 })
        .collect();
    let head = Tensor::from_vec(head, (1, 64), &Device::Cpu).unwrap();
    tensors.insert("score.weight".to_owned(), head.clone());
    let companions = Companions::read(&source).unwrap();
    save_checkpoint(dir, &companions, &FrozenParams::from_tensors(tensors)).unwrap();
    head
}

#[test]
fn the_reward_gap_is_read_from_the_last_hidden_states() {
    let bench = Bench::new("polite_train", 12);
    let temp = tempfile::tempdir().unwrap();
    let head = reward_model(&temp.path().join("reward"));
    let context = SelectContext {
        root: temp.path(),
        ..bench.context()
    };
    let method = json!({"reward-gap": {"model-path": "reward"}});
    let got = bench.run_in(&context, &bench.pairs(), 5, method).unwrap();
    assert!(descends(&kept_scores(&got)));
    // The shipped template writes nothing behind the end token, so the sequences are the pair's own.
    let reward = |prompt: &[u32], reply: &[u32]| {
        let tokens = [prompt, reply].concat();
        let n = tokens.len() as u32;
        let positions: Vec<u32> = (0..n).collect();
        let hidden = bench.policy.hidden(&tokens, &positions, &[0, n]).unwrap();
        let last = hidden.get(n as usize - 1).unwrap().unsqueeze(0).unwrap();
        let score = last.matmul(&head.t().unwrap()).unwrap();
        f64::from(score.to_vec2::<f32>().unwrap()[0][0])
    };
    for (pair, score) in bench.pairs.1.iter().zip(&got.scores) {
        let want = reward(&pair.prompt, &pair.chosen) - reward(&pair.prompt, &pair.rejected);
        assert!((score.unwrap() - want).abs() < 1e-3, "{score:?} {want}");
    }
}

#[test]
fn deita_takes_a_model_of_its_own_for_embeddings() {
    let bench = Bench::new("polite_train", 12);
    let own = json!({"model-path": MODEL});
    let method = |embedding: serde_json::Value| {
        json!({"deita": {"complexity": own, "quality": own, "embedding": embedding,
                         "pooling": "mean", "threshold": 0.98}})
    };
    let policy = bench.run(&bench.pairs(), method(json!(null))).unwrap();
    let other = bench.run(&bench.pairs(), method(own.clone())).unwrap();
    assert_eq!(policy, other, "the same model under another name");
    assert!(descends(&kept_scores(&policy)));
    assert!(
        policy
            .scores
            .iter()
            .all(|s| (1.0..=36.0).contains(&s.unwrap()))
    );
    let chat = bench.run(&bench.chat(), method(json!(null))).unwrap();
    assert!(descends(&kept_scores(&chat)));
}

#[test]
fn less_puts_a_row_first_that_is_itself_the_target() {
    let bench = Bench::new("polite_train", 8);
    let temp = tempfile::tempdir().unwrap();
    let text =
        crate::base::fs::read_to_string(&root().join("data/pref/polite_train.jsonl")).unwrap();
    let line = text.lines().nth(6).unwrap();
    crate::base::write_atomic(&temp.path().join("target.jsonl"), line.as_bytes()).unwrap();
    let context = SelectContext {
        root: temp.path(),
        ..bench.context()
    };
    let method = json!({"less": {"data": [{"path": "target.jsonl"}], "dimension": 256}});
    let got = bench.run_in(&context, &bench.pairs(), 5, method).unwrap();
    assert_eq!(got.kept[0], 6);
    let scores = kept_scores(&got);
    assert!(
        (scores[0] - 1.0).abs() < 1e-9 && scores[1] < 0.5,
        "{scores:?}"
    );
}

#[test]
fn ids_are_kept_in_the_order_of_their_file() {
    let bench = Bench::new("polite_train", 12);
    let temp = tempfile::tempdir().unwrap();
    let context = SelectContext {
        root: temp.path(),
        ..bench.context()
    };
    let run = |text: &str, keep: usize| {
        crate::base::write_atomic(&temp.path().join("ids.csv"), text.as_bytes()).unwrap();
        let method = json!({"ids": {"ids-path": "ids.csv"}});
        bench.run_in(&context, &bench.pairs(), keep, method)
    };
    let listed = "full_id,score\npolite-0005,1\npolite-0001,2\npolite-0003,3\n";
    let got = run(listed, 2).unwrap();
    assert_eq!(got.kept, [4, 0]);
    assert_eq!(got.notes["listed-behind-keep"], 1);
    let refused = |text: &str, keep| run(text, keep).unwrap_err().to_string();
    assert_eq!(
        refused(listed, 4),
        "`ids.csv`: `keep` is 4, but it has 3 ids"
    );
    assert_eq!(
        refused("polite-0001\npolite-00O2\n", 1),
        "`ids.csv`: no row has the id `polite-00O2` (1 of its 2 ids are unknown); the nearest is \
         `polite-0002`"
    );
    assert_eq!(
        refused("polite-0001\npolite-0001\n", 1),
        "`ids.csv`: the id `polite-0001` stands in it twice"
    );
}

#[test]
fn a_choice_is_the_same_twice_whatever_the_passes() {
    let bench = Bench::new("polite_train", 20);
    let few = SelectContext {
        max_positions: 64,
        ..bench.context()
    };
    for method in [
        json!("ifd"),
        json!({"margin-uncertainty": {"tail": "easy"}}),
    ] {
        let rows = bench.pairs();
        let one = bench.run(&rows, method.clone()).unwrap();
        assert_eq!(one, bench.run(&rows, method.clone()).unwrap());
        let split = bench.run_in(&few, &rows, 5, method).unwrap();
        assert_eq!(one.kept, split.kept);
    }
}

#[test]
fn what_is_missing_or_does_not_fit_is_said() {
    let bench = Bench::new("polite_train", 8);
    let refused = |rows: &RowsRef<'_>, models: SelectModels<'_>, method: &str| {
        let recipe = json!({"keep": 5, "method": method, "precision": "f32"});
        let mut recipe: SelectRecipe = serde_json::from_value(recipe).unwrap();
        recipe.precision = recipe.precision.filter(|_| recipe.method.needs_model());
        let (context, seed) = (bench.context(), SeedTree::root(3));
        let got = select_rows(&recipe, rows, &context, models, &seed, &mut |_, _| Ok(()));
        got.unwrap_err().to_string()
    };
    assert_eq!(
        refused(&bench.pairs(), SelectModels::default(), "ifd"),
        "`ifd` needs the policy, which was not given"
    );
    let mut policy = bench.policy.clone();
    let with_policy = SelectModels {
        policy: Some(&mut policy),
        ..SelectModels::default()
    };
    assert_eq!(
        refused(&bench.pairs(), with_policy, "implicit-reward-gap"),
        "`implicit-reward-gap` needs the base model, which was not given"
    );
    let short = RowsRef::Pairs {
        rows: &bench.pairs.0,
        tokens: &bench.pairs.1[1..],
        limits: &LIMITS,
    };
    assert_eq!(
        refused(&short, SelectModels::default(), "random"),
        "row 1 is `polite-0001`, but its tokens are those of `polite-0002`"
    );
    let mut recipe: SelectRecipe =
        serde_json::from_value(json!({"keep": 5, "method": "ifd", "precision": "f32"})).unwrap();
    let stopped = select_rows(
        &recipe,
        &bench.pairs(),
        &bench.context(),
        SelectModels {
            policy: Some(&mut bench.policy.clone()),
            ..SelectModels::default()
        },
        &SeedTree::root(0),
        &mut |_, _| Err(TrainError::Stopped),
    );
    assert_eq!(stopped.unwrap_err().to_string(), "stopped on request");
    recipe.keep = 9.try_into().unwrap();
    recipe.method = SelectMethod::Random;
    recipe.precision = None;
    let got = select_rows(
        &recipe,
        &bench.pairs(),
        &bench.context(),
        SelectModels::default(),
        &SeedTree::root(0),
        &mut |_, _| Ok(()),
    );
    let want = "`keep` is 9, but only 8 of 8 rows can be chosen";
    assert_eq!(got.unwrap_err().to_string(), want);
}

#[test]
fn rows_that_the_limits_drop_are_left_out_in_step_with_their_tokens() {
    let format = TextFormat::open(&root().join(MODEL), None).unwrap();
    let source = DataSource {
        path: "data/pref/oasst_human_train.jsonl".into(),
        fraction: Some(2.0.try_into().unwrap()),
        count: None,
        columns: std::collections::BTreeMap::new(),
        fold: None,
    };
    let (rows, _) = load_pairs(root(), &[source], &SeedTree::root(0)).unwrap();
    let limits = PairLimits {
        truncation: Truncation::Drop,
        ..LIMITS
    };
    let (tokens, report) = format.encode_pairs(&rows, &limits).unwrap();
    assert!(report.dropped_too_long > 100);
    let all = rows.clone();
    let (aligned, places) = align_pairs(rows, &tokens);
    assert!(
        aligned
            .iter()
            .zip(places)
            .all(|(row, place)| row.id == all[place].id)
    );
    assert_eq!(aligned.len(), tokens.len());
    assert!(
        aligned
            .iter()
            .zip(&tokens)
            .all(|(row, pair)| row.id == pair.id)
    );
}
