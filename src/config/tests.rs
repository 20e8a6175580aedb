//! Sweep files as a user writes them, right and wrong.

use super::spec::{BatchSize, Batching, Duration, JudgeRuntime, Positive};
use super::sweep::Sweep;
use super::*;
use crate::base::write_atomic;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

pub(super) const BASE: &str = r#"[base]
pipeline = ["sft"]
model.path = "models/tiny"

[base.sft.recipe]
data = [{ path = "data/chat.jsonl" }]
max-seq-len = 64
batching = "padded"
loss-mask = "assistant-only"
batch = { tokens = 256 }
duration = { steps = 10 }
precision = "f32"
optimizer = { learning-rate = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight-decay = 0.1, max-grad-norm = 1.0 }
schedule = { decay = "cosine", warmup-ratio = 0.1, min-ratio = 0.1 }

[base.dpo.recipe]
data = [{ path = "data/pairs.jsonl" }]
limits = { max-seq-len = 64, max-prompt-len = 32, truncation = "keep-end" }
loss = "sigmoid"
beta = 0.1
reference = "init"
global-batch-size = 8
duration = { epochs = 1 }
precision = "f32"
optimizer = { learning-rate = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight-decay = 0, max-grad-norm = 1.0 }
schedule = { decay = "linear", warmup-ratio = 0.1, min-ratio = 0.1 }

[base.eval.recipe]
precision = "f32"
likelihood.chat = { data = [{ path = "data/chat.jsonl" }], max-seq-len = 64 }

[base.eval.recipe.preference.pairs]
data = [{ path = "data/pairs.jsonl" }]
limits = { max-seq-len = 64, max-prompt-len = 32, truncation = "keep-end" }
"#;

pub(super) const STUDY: &str = r#"extends = ["base.toml"]

[sweep]
name = "study"
question = "What does β do?"
seeds = [1, 2]

[base.eval.recipe.stories.tales]
data = [{ path = "data/chat.jsonl" }]
samples = 2
sampling = { temperature = 0.7, top-p = 0.9, max-new-tokens = 8 }
seed = 1

[[axis]]
name = "stage"
points = [
  { label = "sft", set = { pipeline = ["sft"] } },
  { label = "dpo", set = { pipeline = ["sft", "dpo"], "sft.recipe.seed" = 1 } },
]

[[axis]]
path = "dpo.recipe.beta"
values = [0.01, 0.1]
when = { stage = "dpo" }

[[axis]]
name = "rate"
paths = ["dpo.recipe.optimizer.learning-rate", "dpo.recipe.schedule.warmup-ratio"]
values = [[1e-3, 0.1], [2e-3, 0.2]]
when = { stage = "dpo" }

[[exclude]]
beta = 0.01
rate = 0.002

[[report.table]]
name = "main"
title = "DPO"
where = { stage = "dpo" }
metrics = ["pairs/rewards/accuracies", "tales/rule_score"]
baseline = { beta = 0.1, rate = 0.001 }

[[report.figure]]
name = "beta"
title = "Accuracy"
kind = "lines"
where = { stage = "dpo" }
metric = "pairs/rewards/accuracies"
x = "beta"
series = "rate"
log-x = true
"#;

/// A project with data, a model folder and these sweep files.
pub(super) fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write =
        |name: &str, text: &str| write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
    write("data/chat.jsonl", "");
    write("data/pairs.jsonl", "");
    write(
        "models/tiny/config.json",
        r#"{"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 40, "max_position_embeddings": 128}"#,
    );
    for (name, text) in files {
        write(name, text);
    }
    dir
}

fn load(files: &[(&str, &str)]) -> Result<Sweep, ConfigError> {
    let dir = project(files);
    load_sweep(&dir.path().join("study.toml"), dir.path())
}

fn study(text: &str) -> Sweep {
    let loaded = load(&[("base.toml", BASE), ("study.toml", text)]);
    loaded.unwrap_or_else(|error| panic!("{}", error.render(false)))
}

#[test]
fn the_quickstart_expands_to_its_grid() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let sweep = load_sweep(Path::new("sweeps/quickstart.toml"), &root);
    let sweep = sweep.unwrap_or_else(|error| panic!("{}", error.render(false)));
    assert_eq!(sweep.trials.len(), (3 * 2 + 3 * 3) * 3);
    assert_eq!(
        sweep.trials[0].label(),
        "batching=padded loss-mask=assistant-only stage=sft"
    );
    assert_eq!(sweep.trials[44].label(), "beta=0.5 pairs=933 stage=dpo");
    let dpo = &sweep.trials[44].config;
    let sft = &dpo.sft.as_ref().unwrap().recipe;
    assert_eq!(
        (sft.layout.batching, sft.training.duration),
        (Batching::BestFit, Duration::Steps(200))
    );
    assert_eq!((sft.training.seed, sft.rows.data.len()), (Some(1), 2));
    assert_eq!(
        dpo.dpo.as_ref().unwrap().recipe.rows.max_examples,
        NonZeroUsize::new(933)
    );
}

// By hand: sft stands alone; dpo has 2 β times 2 rates less the one excluded; two seeds each.
#[test]
fn a_grid_has_joint_axes_conditions_exclusions_and_seeds() {
    let sweep = study(STUDY);
    let labels: Vec<(String, u64)> = sweep.trials.iter().map(|t| (t.label(), t.seed)).collect();
    let points = [
        "stage=sft",
        "beta=0.01 rate=0.001 stage=dpo",
        "beta=0.1 rate=0.001 stage=dpo",
        "beta=0.1 rate=0.002 stage=dpo",
    ];
    let want: Vec<_> = points
        .iter()
        .flat_map(|p| [((*p).to_owned(), 1), ((*p).to_owned(), 2)])
        .collect();
    assert_eq!(labels, want);
    let last = &sweep.trials[7].config.dpo.as_ref().unwrap().recipe;
    assert!((last.objective.beta.get() - 0.1).abs() < 1e-12);
    assert!((last.training.optimizer.learning_rate.get() - 2e-3).abs() < 1e-12);
    assert!((last.training.schedule.warmup_ratio.get() - 0.2).abs() < 1e-12);
    assert!(
        sweep
            .trials
            .iter()
            .enumerate()
            .all(|(at, trial)| trial.index == at)
    );
}

#[test]
fn extra_trials_follow_the_grid_and_name_themselves() {
    let text = format!(
        "{STUDY}\n[[trial]]\nname = \"strong\"\nseeds = [9]\nset = {{ pipeline = [\"dpo\"], \"dpo.recipe.beta\" = 5 }}\n"
    );
    let sweep = study(&text);
    let last = sweep.trials.last().unwrap();
    assert_eq!((last.label().as_str(), last.seed), ("trial=strong", 9));
    assert!(
        (last
            .config
            .dpo
            .as_ref()
            .unwrap()
            .recipe
            .objective
            .beta
            .get()
            - 5.0)
            .abs()
            < 1e-12
    );
    assert_eq!(sweep.axes.last().unwrap().name, "trial");
}

#[test]
fn of_several_files_the_later_wins_and_a_choice_is_replaced_whole() {
    let rows = "[base.sft.recipe]\nbatch = { rows = 3 }\n";
    let text = STUDY.replace("[\"base.toml\"]", "[\"base.toml\", \"rows.toml\"]");
    let files = [
        ("base.toml", BASE),
        ("rows.toml", rows),
        ("study.toml", text.as_str()),
    ];
    let sweep = load(&files).unwrap();
    assert_eq!(
        sweep.trials[0]
            .config
            .sft
            .as_ref()
            .unwrap()
            .recipe
            .layout
            .batch,
        BatchSize::Rows(3)
    );

    let axis = "[[axis]]\nname = \"duration\"\npath = \"sft.recipe.duration.epochs\"\nvalues = [2]\n[[exclude]]";
    let sweep = study(&STUDY.replacen("[[exclude]]", axis, 1));
    assert_eq!(
        sweep.trials[0]
            .config
            .sft
            .as_ref()
            .unwrap()
            .recipe
            .training
            .duration,
        Duration::Epochs(2.0)
    );
}

#[test]
fn a_file_that_two_others_extend_is_laid_on_once() {
    let half = "extends = [\"base.toml\"]\n[base.sft.recipe]\nmax-seq-len = 32\n";
    let other = "extends = [\"base.toml\"]\n[base.dpo.recipe]\nbeta = 0.3\n";
    let text = STUDY.replace("[\"base.toml\"]", "[\"half.toml\", \"other.toml\"]");
    let files = [
        ("base.toml", BASE),
        ("half.toml", half),
        ("other.toml", other),
        ("study.toml", text.as_str()),
    ];
    let config = &load(&files).unwrap().trials[0].config;
    assert_eq!(config.sft.as_ref().unwrap().recipe.layout.max_seq_len, 32);
    assert!((config.dpo.as_ref().unwrap().recipe.objective.beta.get() - 0.3).abs() < 1e-12);
}

#[test]
fn whole_mixtures_are_values_if_they_have_labels() {
    let axis = "[[axis]]\nname = \"mix\"\npath = \"sft.recipe.data\"\nlabels = [\"half\", \"all\"]\n\
        values = [[{ path = \"data/chat.jsonl\", fraction = 0.5 }], [{ path = \"data/chat.jsonl\" }]]\n[[exclude]]";
    let text = STUDY.replacen("[[exclude]]", axis, 1);
    let text = text.replace("rate = 0.001 }", "rate = 0.001, mix = \"all\" }");
    let sweep = study(&text);
    assert_eq!(sweep.trials[0].label(), "mix=half stage=sft");
    let fraction = |trial: usize| {
        let sft = sweep.trials[trial].config.sft.as_ref().unwrap();
        sft.recipe.rows.data[0].fraction
    };
    assert_eq!(fraction(0), Some(Positive::try_from(0.5).unwrap()));
    assert_eq!(fraction(2), None);
}

#[test]
fn missing_inputs_are_no_mistake_when_planning_ahead() {
    let text = BASE
        .replace("models/tiny", "models/big")
        .replace("data/pairs", "data/ultra");
    let dir = project(&[("base.toml", &text), ("study.toml", STUDY)]);
    let path = dir.path().join("study.toml");
    assert!(load_sweep(&path, dir.path()).is_err());
    let loaded = load_placed_sweep(&Overrides::default(), &path, dir.path(), Inputs::Optional);
    assert_eq!(loaded.unwrap().0.trials.len(), 8);
}

#[test]
fn a_mistake_in_an_extended_file_is_drawn_with_both_places_where_they_help() {
    let text = BASE.replace("beta = 0.1\n", "betta = 0.1\n");
    let error = load(&[("base.toml", &text), ("study.toml", STUDY)]).unwrap_err();
    let want = "\
error: unknown key `betta` in `dpo.recipe`
  --> base.toml:20:1
   |
20 | betta = 0.1
   | ^^^^^
   |
   = help: did you mean `beta`?";
    assert_eq!(error.render(false), want);
    assert!(error.render(true).contains("\u{1b}["));
    let line = "base.toml:20:1: unknown key `betta` in `dpo.recipe` (did you mean `beta`?)";
    assert_eq!(error.to_string(), line);

    let text = STUDY.replace("name = \"rate\"", "name = \"beta\"");
    let error = load(&[("base.toml", BASE), ("study.toml", &text)]).unwrap_err();
    assert!(
        error.render(false).contains("the other one"),
        "{}",
        error.render(false)
    );
}

#[test]
fn figures_and_tables_of_every_kind_are_accepted() {
    let more = r#"
[[report.table]]
name = "like"
title = "Like with like"
where = { stage = "dpo" }
metrics = ["tales/rule_score", "training/flops"]
baseline = { beta = 0.1 }
within = ["rate"]
published = "final-gemma"

[[report.figure]]
name = "compute"
title = "Figure 1"
kind = "scaling"
where = { stage = "dpo" }
metric = "pairs/rewards/accuracies"
x-metric = "training/flops"
series = "beta"
log-x = true
paper = "Figure 1"
published = "figure-1"

[[report.figure]]
name = "filters"
title = "Figure 3"
kind = "bars"
where = { stage = "dpo", rate = 1e-3 }
metric = "chat/loss"
x = "beta"
order = "value"
reference = { beta = 0.1, rate = 2e-3 }

[[report.figure]]
name = "margins"
title = "Figure 4"
kind = "training"
where = { stage = "dpo", rate = 1e-3 }
metric = "prob_margin"
panels = "beta"
under = ["tales/rule_score"]

[[report.figure]]
name = "layout"
title = "Figure A1"
kind = "layout"
where = { stage = "dpo" }
paper = "Figure A1"
"#;
    let report = study(&format!("{STUDY}{more}")).report;
    assert_eq!((report.tables.len(), report.figures.len()), (2, 5));
    let json = serde_json::to_value(&report).unwrap();
    let back: super::sweep::ReportSpec = serde_json::from_value(json).unwrap();
    assert_eq!(back, report);
    // A layout needs pairs.
    let text = format!("{STUDY}{more}").replace(
        "layout\"\nwhere = { stage = \"dpo\" }",
        "layout\"\nwhere = { stage = \"sft\" }",
    );
    let error = load(&[("base.toml", BASE), ("study.toml", &text)]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no trial here has a `dpo` stage"),
        "{error}"
    );
}

/// The text of a sweep without axes and report.
fn bare_study() -> &'static str {
    STUDY.split_once("[[axis]]").unwrap().0
}

/// Everything that is found wrong.
fn findings(base: &str, study: &str) -> Vec<String> {
    let error = load(&[("base.toml", base), ("study.toml", study)]).unwrap_err();
    error.findings().iter().map(ToString::to_string).collect()
}

#[test]
fn what_only_an_unused_stage_reads_need_not_be_there() {
    let base = BASE.replace("data/pairs.jsonl", "data/later.jsonl");
    let unused = load(&[("base.toml", &base), ("study.toml", bare_study())]);
    assert_eq!(unused.unwrap().trials.len(), 2);
    let base = base.replace("[\"sft\"]", "[\"sft\", \"dpo\"]");
    let missing = findings(&base, bare_study());
    assert_eq!(missing.len(), 2, "{missing:?}");
    for (found, place) in missing.iter().zip(["base.toml:17:18", "base.toml:33:18"]) {
        let want = format!("{place}: there is no data file `data/later.jsonl`");
        assert!(found.starts_with(&want), "{found}");
    }
}

#[test]
fn reading_goes_on_behind_a_value_or_a_list_where_a_table_belongs() {
    let base = BASE
        .replace("\"sigmoid\"", "{ simpo = 0.5 }")
        .replace("global-batch-size = 8", "global-batch-size = 0");
    assert_eq!(
        findings(&base, bare_study()),
        [
            "base.toml:19:18: expected a table, found `0.5` in `dpo.recipe.loss.simpo` (it is a table of `gamma`)",
            "base.toml:22:21: `global-batch-size` must be 1 or more, not 0 (it is the size of a whole step; usual are 16 to 128 conversations or pairs)",
        ]
    );
    let base = BASE.replace("[base.dpo.recipe]", "[[base.dpo.recipe]]");
    assert_eq!(
        findings(&base, bare_study()),
        [
            "base.toml:16:1: expected a table, found a list in `dpo.recipe` (it is a table of `data`, `limits`, `global-batch-size`, `loss`, `beta`, `reference`, `duration`, `optimizer`, `schedule`, `precision`)"
        ]
    );
}

#[test]
fn an_exclusion_in_a_file_without_axes_is_told_so() {
    let study = format!("{}[[exclude]]\nbeta = 0.1\n", bare_study());
    assert_eq!(
        findings(BASE, &study),
        ["study.toml:15:1: there is no axis `beta` (this file has no axis; remove the condition)"]
    );
}

#[test]
fn a_list_longer_than_any_study_has_is_refused_at_once() {
    let seeds: Vec<String> = (0..20_000).map(|seed| seed.to_string()).collect();
    let study = bare_study().replace("[1, 2]", &format!("[{}]", seeds.join(", ")));
    assert_eq!(
        findings(BASE, &study),
        [
            "study.toml:6:9: `seeds` has 20000 elements, and 10000 are the most (leave some of them out)"
        ]
    );
}

#[test]
fn endless_words_are_compared_with_nothing() {
    use super::diagnose::nearest;
    let (wrong, name) = ("a".repeat(2_000), "a".repeat(1_999));
    assert_eq!(nearest(&wrong, [name.as_str()]), None);
    assert_eq!(nearest("betta", [name.as_str(), "beta"]), Some("beta"));
}

#[test]
fn a_number_beyond_its_type_is_told_both_ends() {
    for (text, want) in [
        (
            "retries = 5_000_000_000",
            "recipe:1:11: `retries` must be 0 to 4294967295, not 5000000000 (leave it out for what is usual)",
        ),
        (
            "asks = 5_000_000_000",
            "recipe:1:8: `asks` must be 1 to 4294967295, not 5000000000 (leave it out for what is usual)",
        ),
    ] {
        let error = parse_toml::<JudgeRuntime>(text).unwrap_err();
        assert_eq!(error.to_string(), want);
    }
}

/// What is replaced by what in a file, and the first finding then.
pub(super) type Mistake = (&'static str, &'static str, &'static str, &'static str);

/// Makes each mistake alone in `files`; `first` says what is found first in such files.
pub(super) fn assert_caught(
    mistakes: &[Mistake],
    files: &[(&str, &str)],
    first: impl Fn(&[(&str, &str)]) -> String,
) {
    let mut wrong = Vec::new();
    for (file, from, to, want) in mistakes {
        let change = |name: &str, text: &str| {
            if name != *file {
                return text.to_owned();
            }
            assert!(text.contains(from), "`{from}` is not in {name}");
            text.replacen(from, to, 1)
        };
        let texts: Vec<String> = files
            .iter()
            .map(|(name, text)| change(name, text))
            .collect();
        let names = files.iter().map(|(name, _)| *name);
        let changed: Vec<(&str, &str)> = names.zip(texts.iter().map(String::as_str)).collect();
        let got = first(&changed);
        if got != *want {
            wrong.push(format!("{from} -> {to}\n  got  {got}\n  want {want}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn first_finding(files: &[(&str, &str)]) -> String {
    match load(files) {
        Ok(_) => "nothing".to_owned(),
        Err(error) => error.findings()[0].to_string(),
    }
}

const MISTAKES: &[Mistake] = &include!("mistakes.in");

#[test]
fn every_seeded_mistake_is_caught_at_its_place() {
    assert!(MISTAKES.len() >= 40);
    let without_hint = MISTAKES.iter().find(|(.., want)| !want.ends_with(')'));
    assert_eq!(without_hint, None);
    let files = [("base.toml", BASE), ("study.toml", STUDY)];
    assert_caught(MISTAKES, &files, first_finding);
}

const ONLINE: &str = r#"[base.online-dpo.judge-runtime]
concurrency = 8
timeout-secs = 60

[base.online-dpo.recipe]
rounds = 2
samples = 4
sampling = { temperature = 1, top-p = 1, max-new-tokens = 8 }
precision = "f32"
judge = "rules"
prompts = { data = [{ path = "data/chat.jsonl" }], per-round = 4, max-prompt-len = 32 }

[base.online-dpo.recipe.dpo]
data = []
limits = { max-seq-len = 64, max-prompt-len = 32, truncation = "keep-end" }
loss = "sigmoid"
beta = 0.1
reference = "init"
global-batch-size = 8
duration = { epochs = 1 }
precision = "f32"
optimizer = { learning-rate = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight-decay = 0, max-grad-norm = 1 }
schedule = { decay = "linear", warmup-ratio = 0.1, min-ratio = 0.1 }

[base.select]
of = "sft"

[base.select.recipe]
keep = 1
precision = "f32"
method = { less = { data = [{ path = "data/chat.jsonl" }], dimension = 64 } }
"#;

#[test]
fn no_count_of_online_dpo_or_a_filter_is_without_bound() {
    let mistakes: &[Mistake] = &[
        (
            "online.toml",
            "rounds = 2",
            "rounds = 20_000",
            "online.toml:7:10: `rounds` must be at most 10000, not 20000 (usual are 1 to 4)",
        ),
        (
            "online.toml",
            "samples = 4",
            "samples = 20_000",
            "online.toml:8:11: `samples` must be at most 10000, not 20000 (usual are 1 to 8)",
        ),
        (
            "online.toml",
            "max-new-tokens = 8",
            "max-new-tokens = 2_000_000_000",
            "online.toml:9:59: `max-new-tokens` must be at most 1000000000, not 2000000000 (usual are 64 to 1024)",
        ),
        (
            "online.toml",
            "per-round = 4",
            "per-round = 2_000_000_000",
            "online.toml:12:64: `per-round` must be at most 1000000000, not 2000000000 (leave it out to use all prompts)",
        ),
        (
            "online.toml",
            "global-batch-size = 8",
            "global-batch-size = 2_000_000_000",
            "online.toml:20:21: `global-batch-size` must be at most 1000000000, not 2000000000 (it is the size of a whole step; usual are 16 to 128 conversations or pairs)",
        ),
        (
            "online.toml",
            "concurrency = 8",
            "concurrency = 20_000",
            "online.toml:3:15: `concurrency` must be at most 10000, not 20000 (leave it out for what is usual)",
        ),
        (
            "online.toml",
            "timeout-secs = 60",
            "timeout-secs = 40_000_000",
            "online.toml:4:16: `timeout-secs` must be at most 31536000, a year, not 40000000 (leave it out for what is usual)",
        ),
        (
            "online.toml",
            "dimension = 64",
            "dimension = 2_000_000_000",
            "online.toml:32:72: `dimension` must be at most 1000000000, not 2000000000 (the paper's value is 8192)",
        ),
    ];
    let online = format!("extends = [\"base.toml\"]\n{ONLINE}");
    let study = bare_study().replace("base.toml", "online.toml");
    let files = [
        ("base.toml", BASE),
        ("online.toml", online.as_str()),
        ("study.toml", study.as_str()),
    ];
    assert_eq!(first_finding(&files), "nothing");
    assert_caught(mistakes, &files, first_finding);
}
