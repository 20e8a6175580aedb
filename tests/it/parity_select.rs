//! Scores of data-selection methods equal those computed with transformers.

use crate::parity_engine::{Model, perturbed};
use crate::parity_support::{PARITY, check, golden, numbers, relative, root};
use candle_core::Device;
use lions::base::SeedTree;
use lions::config::spec::{DataSource, PairLimits, SelectRecipe, Truncation};
use lions::data::{ChatRow, PairRow, TextFormat, load_pairs};
use lions::model::HostOpener;
use lions::select::{RowsRef, SelectContext, SelectModels, Selection, select_rows};
use lions::train::HostLearner;
use serde_json::{Value, json};
use std::path::Path;

/// Standard deviations of a projected cosine that an estimate may be off.
const DEVIATIONS: f64 = 4.0;
const LIMITS: PairLimits = PairLimits {
    max_seq_len: 512,
    max_prompt_len: 256,
    truncation: Truncation::KeepEnd,
};

fn first_pairs(root: &Path, path: &str, count: usize) -> Vec<PairRow> {
    let source = DataSource {
        path: path.into(),
        fraction: None,
        count: None,
        columns: std::collections::BTreeMap::new(),
        fold: None,
    };
    let (mut rows, _) = load_pairs(root, &[source], &SeedTree::root(0)).unwrap();
    rows.truncate(count);
    rows
}

fn context<'a>(root: &'a Path, format: &'a TextFormat) -> SelectContext<'a> {
    SelectContext {
        root,
        format,
        opener: &HostOpener(Device::Cpu),
        max_positions: 1024,
    }
}

fn run_by(
    models: SelectModels<'_>,
    method: &Value,
    keep: usize,
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
) -> Selection {
    let recipe = json!({"keep": keep, "precision": "f32", "method": method});
    let recipe: SelectRecipe = serde_json::from_value(recipe).unwrap();
    let seed = SeedTree::root(1);
    select_rows(&recipe, rows, context, models, &seed, &mut |_, _| Ok(())).unwrap()
}

fn compare(what: &str, got: &Selection, want: &Value) {
    let got = got.scores.iter().map(|score| score.unwrap());
    let errors = got.zip(numbers(want)).enumerate();
    let errors = errors.map(|(row, (got, want))| (format!("row {row}"), relative(got, want)));
    check(what, errors, PARITY);
}

#[test]
fn scores_of_pairs_equal_transformers() {
    let golden = golden("select.json");
    let scores = &golden["scores"];
    let format = TextFormat::open(&root("models/stories260k"), None).unwrap();
    let rows = first_pairs(&root(""), "data/pref/polite_train.jsonl", 8);
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(json!(ids), golden["ids"]);
    let (tokens, _) = format.encode_pairs(&rows, &LIMITS).unwrap();
    let pairs = RowsRef::Pairs {
        rows: &rows,
        tokens: &tokens,
        limits: &LIMITS,
    };
    let (mut shipped, mut embedder) = (Model::shipped().decoder(), Model::shipped().decoder());
    let mut moved = perturbed().decoder();
    let place = root("");
    let here = context(&place, &format);
    let mut run = |method: &Value, keep: usize| {
        let models = SelectModels {
            policy: Some(&mut shipped),
            embedder: Some(&mut embedder),
            ..SelectModels::default()
        };
        run_by(models, method, keep, &pairs, &here)
    };

    let band = json!({"perplexity": {"low": 0.0, "high": 1.0}});
    compare("perplexity", &run(&band, 8), &scores["perplexity"]);
    compare("ifd", &run(&json!("ifd"), 3), &scores["ifd"]);
    let margin = json!({"margin-uncertainty": {"tail": "hard"}});
    compare("margins", &run(&margin, 3), &scores["margin"]);
    let scorer = json!({"model-path": "models/stories260k"});
    for pooling in ["mean", "last"] {
        let want = numbers(&scores[format!("deita_kept_{pooling}")]);
        let method = json!({"deita": {"complexity": scorer, "quality": scorer, "pooling": pooling,
                                      "threshold": golden["thresholds"][pooling]}});
        let got = run(&method, want.len());
        compare(&format!("deita, {pooling}"), &got, &scores["deita"]);
        let kept: Vec<f64> = got.kept.iter().map(|row| *row as f64).collect();
        assert_eq!(kept, want, "{pooling}");
    }
    let models = SelectModels {
        policy: Some(&mut moved),
        base: Some(&mut shipped),
        ..SelectModels::default()
    };
    let gaps = run_by(models, &json!("implicit-reward-gap"), 3, &pairs, &here);
    compare("implicit gaps", &gaps, &scores["implicit_gap"]);
}

/// Compares projected cosines with exact ones; the error of one has standard deviation below
/// `1 / sqrt(dimension)`, the mean over targets no more.
fn compare_cosines(what: &str, got: &Selection, want: &Value, dimension: usize) {
    let allowed = DEVIATIONS / (dimension as f64).sqrt();
    let want = numbers(want);
    assert_eq!(got.scores.len(), want.len());
    for (row, (got, want)) in got.scores.iter().zip(want).enumerate() {
        let error = (got.unwrap() - want).abs();
        assert!(error < allowed, "{what}, row {row}: {got:?} for {want}");
    }
}

#[test]
fn projected_gradients_estimate_the_cosines_of_the_whole_gradients() {
    let golden = golden("select.json");
    let scores = &golden["scores"];
    let format = TextFormat::open(&root("models/stories260k"), None).unwrap();
    let model = Model::shipped();
    let decoder = model.decoder();
    let temp = tempfile::tempdir().unwrap();
    let dimension = 2048;
    let here = context(temp.path(), &format);
    let run = |method: &Value, rows: &RowsRef<'_>| {
        let mut learner = HostLearner::new(decoder.clone(), model.vars.clone());
        let models = SelectModels {
            learner: Some(&mut learner),
            ..SelectModels::default()
        };
        run_by(models, method, 4, rows, &here)
    };
    let target = |rows: &[PairRow], as_chat: bool| {
        let lines = rows.iter().map(|row| {
            let messages = [&row.prompt[..], &row.chosen].concat();
            let line = if as_chat {
                json!({"messages": messages})
            } else {
                json!({"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected})
            };
            line.to_string() + "\n"
        });
        let text: String = lines.collect();
        lions::base::write_atomic(&temp.path().join("target.jsonl"), text.as_bytes()).unwrap();
    };
    let method = json!({"less": {"data": [{"path": "target.jsonl"}], "dimension": dimension}});
    let rows = first_pairs(&root(""), "data/pref/polite_train.jsonl", 8);
    let (tokens, _) = format.encode_pairs(&rows, &LIMITS).unwrap();
    let pairs = RowsRef::Pairs {
        rows: &rows,
        tokens: &tokens,
        limits: &LIMITS,
    };
    target(&rows[..4], false);
    let got = run(&method, &pairs);
    compare_cosines("pairs", &got, &scores["less_pairs"], dimension);
    let mut kept = got.kept.clone();
    kept.sort_unstable();
    assert_eq!(kept, [0, 1, 2, 3], "the targets themselves");

    let chats: Vec<ChatRow> = rows
        .iter()
        .map(|row| ChatRow {
            id: row.id.clone(),
            messages: [&row.prompt[..], &row.chosen].concat(),
            extra: Value::Null,
            origin: row.origin.clone(),
        })
        .collect();
    let tokens = format.encode_chats(&chats).unwrap();
    let chats = RowsRef::Chat {
        rows: &chats,
        tokens: &tokens,
        max_seq_len: 512,
    };
    target(
        &first_pairs(&root(""), "data/pref/polite_test.jsonl", 4),
        true,
    );
    let got = run(&method, &chats);
    compare_cosines("conversations", &got, &scores["less_chat"], dimension);
}
